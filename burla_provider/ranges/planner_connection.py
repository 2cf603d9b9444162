"""The planner's only way to the server: one statement at a time, counted, and without a trace in the session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.exceptions import InvalidParameterError

_OF_THE_USERS_MAKING = ("0A", "22", "3F", "42")
"""SQLSTATE classes: not supported, bad data, bad schema name, syntax error or access rule violation."""


class PlannerConnection:
    """Runs statements on a connection that belongs to somebody else, who may be in the middle of a transaction.

    :param connection: in any state but a failed transaction.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.statement_count = 0

    def fetch_all(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """All rows of the answer, as tuples, whatever row factory the connection has."""
        self.statement_count += 1
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            # Binary, because that way the server takes exactly one statement: no condition can bring along a second.
            # Not prepared, because a pooler may give the next statement to another session.
            return cursor.execute(sql.Composed([statement]), binary=True, prepare=False).fetchall()

    def fetch_one(self, statement: sql.Composable) -> tuple[Any, ...] | None:
        """The first row of the answer, if there is one."""
        return next(iter(self.fetch_all(statement)), None)

    def fetch_value(self, statement: sql.Composable) -> Any:
        """The first column of the answer's only row."""
        [(value,)] = self.fetch_all(statement)
        return value

    @contextmanager
    def local_settings(self, **settings: str) -> Iterator[None]:
        """Inside, the session has these settings; afterwards it is as it was, and so is its transaction."""
        changes = [
            sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
            for name, value in settings.items()
        ]
        # The planner writes nothing, so all that there is to roll back is the settings.
        with self._connection.transaction(force_rollback=True):
            self.fetch_all(sql.SQL("SELECT {}").format(sql.SQL(", ").join(changes)))
            yield

    @contextmanager
    def errors_blame(self, parameter: str, advice: str) -> Iterator[None]:
        """Inside, an error of the server's is the fault of ``parameter``. The transaction survives it.

        :raises InvalidParameterError: with the server's own message.
        """
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in _OF_THE_USERS_MAKING:
                raise
            raise InvalidParameterError(parameter, f"{error.diag.message_primary}.", advice) from None
