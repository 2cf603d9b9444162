"""Keep a user's function from ending the range's transaction."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from burla_provider.exceptions import UserFunctionError

_UNFINISHED = "burla_range_is_not_finished"
_REFUSE_COMMIT = f"""
    DECLARE {_UNFINISHED} NO SCROLL CURSOR WITH HOLD FOR
    SELECT CAST('{_UNFINISHED}' || left(clock_timestamp()::text, 0) AS integer)
"""

_BLANKS = re.compile(r"(?:\s|--[^\n]*)*+")
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ENDING = re.compile(
    r"(?:commit|end|abort|begin|start\s+transaction|prepare\s+transaction|rollback(?!\s+(?:work\s+|transaction\s+)?to))\b",
    re.IGNORECASE,
)
_ADVICE = "The provider ends the range's transaction: return from the function to commit, raise to roll back."


class GuardedCursor(psycopg.Cursor[Any]):
    """Refuses statements that begin or end a transaction. Savepoints are allowed."""

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        """Execute the statement.

        :raises UserFunctionError: if it would begin or end a transaction.
        """
        text = _text(query, self)
        if _ENDING.match(text, _skip_comments(text)):
            raise UserFunctionError(f"The function executed {text.strip()!r}. {_ADVICE}")
        return super().execute(query, *args, **options)


@contextmanager
def refuse_commit(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Make the server refuse a COMMIT inside the block, whoever sends it.

    At COMMIT the server runs the query of a cursor WITH HOLD, and the query of this cursor fails. A deferred constraint
    would have the same effect, but would fail on SET CONSTRAINTS ALL IMMEDIATE.

    :raises UserFunctionError: if the cursor was closed inside the block.
    """
    connection.execute(_REFUSE_COMMIT, prepare=False)
    yield
    try:
        connection.execute(f"CLOSE {_UNFINISHED}", prepare=False)
    except psycopg.errors.InvalidCursorName as error:
        raise UserFunctionError("The function executed CLOSE ALL: close your own cursors by their names.") from error


@contextmanager
def guard_transaction(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Check, after a user's function, that connection and transaction are still open.

    :raises UserFunctionError: if the function ended the transaction, broke it, or closed the connection.
    """
    connection.cursor_factory = GuardedCursor
    # The server reports changes of this setting without a query, and the setting ends with the transaction.
    name = connection.info.parameter_status("application_name")
    try:
        yield
    except psycopg.ProgrammingError as error:
        if error.sqlstate is None and str(error).startswith("Explicit "):  # raised by psycopg
            raise UserFunctionError(f"The function called commit() or rollback(). {_ADVICE}") from error
        raise
    except psycopg.errors.InvalidTextRepresentation as error:
        if _UNFINISHED in (error.diag.message_primary or ""):
            raise UserFunctionError(f"The function tried to COMMIT. {_ADVICE}") from error
        raise
    finally:
        connection.cursor_factory = psycopg.Cursor
    _check(connection, name)


def _check(connection: psycopg.Connection[Any], name: str | None) -> None:
    if connection.broken:
        raise psycopg.OperationalError("The connection was lost while the function ran.")
    if connection.closed:
        raise UserFunctionError("The function closed the connection. Leave it open: it is used for the next range.")
    status = connection.info.transaction_status
    if status == TransactionStatus.INERROR:
        raise UserFunctionError(
            "The function caught a database error and continued, but after an error PostgreSQL rolls back the whole"
            " transaction. Do not catch the error, or put the statements that may fail into"
            " `with connection.transaction():`."
        )
    if status != TransactionStatus.INTRANS or connection.info.parameter_status("application_name") != name:
        raise UserFunctionError(f"The function ended the transaction, or changed application_name. {_ADVICE}")


def _text(query: Any, cursor: psycopg.Cursor[Any]) -> str:
    if isinstance(query, sql.Composable):
        return query.as_string(cursor)
    return query.decode(errors="replace") if isinstance(query, bytes) else str(query)


def _skip_comments(text: str) -> int:
    """Return the position of the first statement, after spaces and comments. Comments nest."""
    start = _skip_blanks(text, 0)
    while text.startswith("/*", start):
        depth = 0
        for edge in _COMMENT_EDGE.finditer(text, start):
            depth += 1 if edge[0] == "/*" else -1
            if depth == 0:
                break
        if depth:
            return len(text)
        start = _skip_blanks(text, edge.end())
    return start


def _skip_blanks(text: str, start: int) -> int:
    blanks = _BLANKS.match(text, start)
    return blanks.end() if blanks else start
