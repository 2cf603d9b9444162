"""Let the server check what the workers will write, before any function runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.worker.sinks import Sink

if TYPE_CHECKING:
    import psycopg

_REFUSALS = ("0A", "42")
"""Classes of SQLSTATE of a statement that cannot succeed: not supported, or wrong names, types or privileges."""


def check_write(connection: psycopg.Connection[Any], sink: Sink, version: str | None) -> None:
    """Write no rows, and roll back.

    :param version: the version column.
    :raises InvalidParameterError: if the server refuses the statements.
    """
    import psycopg
    from psycopg import sql

    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("{}").format(sink.setup(pooled=True)))
            sink.write(connection, [])
    except psycopg.errors.UndefinedFunction as error:
        if version is None:
            raise _refused(sink, error) from None
        problem = f"{version} of {sink.target} has no greater value: {error.diag.message_primary}."
        raise InvalidParameterError("version_column", problem, "Name a number or a time.") from None
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _REFUSALS:
            raise
        raise _refused(sink, error) from None


def _refused(sink: Sink, error: psycopg.Error) -> InvalidParameterError:
    problem = f"{sink.target} cannot be written: {error.diag.message_primary}."
    hint = error.diag.message_hint
    return InvalidParameterError("target_table", problem, hint or "Correct this, or name another table.")
