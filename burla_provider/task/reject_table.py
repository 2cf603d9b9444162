"""The table of rejected rows: create and check it, watch the number of rows, and say what was rejected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import (
    check_writable,
    lock_table_creation,
    quoted_role,
    table_exists,
    trial_write,
)
from burla_provider.exceptions import InvalidParameterError, TooManyRejectsError
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.failure_policy import allowance
from burla_provider.task.ledger_table import of_all_tries
from burla_provider.task.logs import without_markers
from burla_provider.task.session import resolve
from burla_provider.task.table_version import upgrade_table
from burla_provider.worker.outcome import Outcome
from burla_provider.worker.rejects import COUNT, Rejected, RejectLimit, RejectTable

COLUMNS = {
    "run_key": 'text COLLATE "C" NOT NULL',
    "range_index": "integer NOT NULL",
    "range": "text NOT NULL",
    "source_key": "jsonb",
    "source_row": "jsonb NOT NULL",
    "error_class": "text NOT NULL",
    "message": "text NOT NULL",
    "sqlstate": "text",
    "try_number": "integer NOT NULL",
    "rejected_at": "timestamptz NOT NULL DEFAULT clock_timestamp()",
}
"""Name -> type. ``run_key``, ``range_index`` and ``range`` are those of the ledger."""

ADDED_COLUMNS: Sequence[Mapping[str, str]] = ()
"""Columns of versions 2, 3, ..., see ``table_version.py``."""

_MAX_KINDS = 5
_MAX_CHARS = 200
_TOO_MANY = f"{TooManyRejectsError.__module__}.{TooManyRejectsError.__qualname__}"


def open_reject_table(
    connection: psycopg.Connection[Any],
    name: str,
    run_key: str,
    try_number: int,
    columns: tuple[str, ...],
    secrets: Mapping[str, str],
    *,
    may_restart: bool = False,
) -> RejectTable:
    """Create the table if it does not exist, and return it.

    :param connection: an autocommit connection to the target's database.
    :param name: name of the table in SQL.
    :param run_key: key of the run in the ledger.
    :param columns: names of the columns of a row of the source.
    :param secrets: connection parameters whose secrets no message may show.
    :param may_restart: the run may start from the beginning, which removes its rows.
    :raises InvalidParameterError: if the table cannot be created or written, or has other columns.
    """
    schema, table = resolve(connection, "reject_table", name)
    rejects = RejectTable(schema, table, run_key, try_number, columns, secrets)
    check_writable(connection, "reject_table", schema)
    relation = rejects.relation.as_regclass(connection)
    _create(connection, rejects)
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    known = {name for (name,) in connection.execute(query, [relation]).fetchall()}
    if missing := [name for name in COLUMNS if name not in known]:
        raise InvalidParameterError(
            "reject_table",
            f"{rejects} is not a table of rejected rows: it does not have {', '.join(missing)}.",
            "Name a table that does not exist: it will be created.",
        )
    needed = ["SELECT", "INSERT", *(["DELETE"] if may_restart else [])]
    query = "SELECT bool_and(has_table_privilege(%s, p)) FROM unnest(%s::text[]) AS p"
    [(allowed,)] = connection.execute(query, [relation, needed]).fetchall()
    if not allowed:
        role, quoted = quoted_role(connection), rejects.relation.as_string(connection)
        raise InvalidParameterError(
            "reject_table",
            f"the role {role} cannot {' and '.join(needed)} in {rejects}.",
            f"Run: GRANT {', '.join(needed)} ON {quoted} TO {role};",
        )
    upgrade_table(connection, rejects.relation, ADDED_COLUMNS)
    with trial_write(connection, "reject_table", rejects.relation):
        row = Rejected((None,) * len(columns), (), "trial", "")
        rejects.write(connection, KeyRange(Key(()), 0, None, None), [row], ())
    return rejects


def remove_rejects(connection: psycopg.Connection[Any], rejects: RejectTable, run: str) -> None:
    """Remove the rows of a run, which starts from the beginning.

    :param run: the key of the run. Its tries may have keys of their own.
    """
    connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(rejects.relation, of_all_tries(run)))


def read_limit(tolerated: int | str, expected_rows: int | None) -> RejectLimit:
    """Return the limit that a value of ``tolerated_rejects`` means.

    :param expected_rows: estimated rows of the table; None: unknown.
    :raises InvalidParameterError: if the value is neither a number nor a percentage.
    """
    allowance(tolerated, 1, "tolerated_rejects")
    text = str(tolerated).strip()
    if text.endswith("%"):
        return RejectLimit(Decimal(text[:-1].strip()), is_percentage=True, expected_rows=expected_rows)
    return RejectLimit(int(text))


class RejectReport:
    """Counts rejected rows, and ends the job if there are too many. An outcome listener.

    :param limit: rows that may be rejected; None: no limit.
    :param connect: returns a connection to the table's database.
    """

    def __init__(
        self,
        table: RejectTable,
        limit: RejectLimit | None,
        connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
        log: Any,
    ) -> None:
        self._table = table
        self._limit = limit
        self._connect = connect
        self._log = log
        self._seen: set[int] = set()
        self._rejected = 0
        self._rows = 0

    def add(self, outcome: Outcome) -> None:
        """Count the rows of a range.

        :raises TooManyRejectsError: if more rows are rejected than are tolerated, whatever the other ranges do.
        """
        if outcome.failure is not None:
            if outcome.failure.type == _TOO_MANY:
                raise self._error(outcome.failure.message)
            return
        if outcome.index in self._seen:
            return
        self._seen.add(outcome.index)
        self.count(outcome.value, outcome.row_count or 0)
        if self._limit and self._limit.is_certain(self._rejected, self._rows):
            raise self._error(self._too_many)

    def count(self, counts: Mapping[str, int], row_count: int) -> None:
        """Add the counts of a range.

        :param row_count: rows that were read.
        """
        self._rejected += counts.get(COUNT, 0)
        self._rows += row_count

    def check(self) -> None:
        """Log what was rejected, and check that it is tolerated. Call it when all ranges are counted.

        :raises TooManyRejectsError: if it is not.
        """
        if self._limit and self._limit.is_exceeded(self._rejected, self._rows):
            raise self._error(self._too_many)
        if self._rejected:
            self._log.warning("%s of %s rows were rejected.%s", *map(_text, (self._rejected, self._rows)), self._kinds)

    @property
    def _too_many(self) -> str:
        return f"{self._rejected:,} of {self._rows:,} rows were rejected (tolerated: {self._limit})."

    def _error(self, problem: str) -> TooManyRejectsError:
        advice = (
            "A retry continues where this try has ended, with the rows that are rejected already: raise"
            " tolerated_rejects before. Clearing the task starts a new run, which processes all rows again."
        )
        return TooManyRejectsError(f"{problem} {advice}{self._kinds}")

    @property
    def _kinds(self) -> str:
        """The most frequent errors, and a query of the rows."""
        query = sql.SQL(
            "SELECT count(*), error_class, sqlstate, min(message) FROM {} WHERE run_key = %s"
            " GROUP BY error_class, sqlstate ORDER BY 1 DESC, 2, 3 LIMIT %s"
        ).format(self._table.relation)
        try:
            with self._connect() as connection:
                found = connection.execute(query, [self._table.run_key, _MAX_KINDS + 1]).fetchall()
                select = sql.SQL("SELECT source_key, source_row, message FROM {} WHERE run_key = {};").format(
                    self._table.relation, sql.Literal(self._table.run_key)
                )
                text = select.as_string(connection)
        except psycopg.Error as error:
            return f" They are in {self._table} ({type(error).__name__} when it was read)."
        lines = [_kind(*row) for row in found[:_MAX_KINDS]]
        if len(found) > _MAX_KINDS:
            lines.append("... and other errors")
        return "\n  ".join(["", *lines, text])


def _create(connection: psycopg.Connection[Any], rejects: RejectTable) -> None:
    definitions = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    relation = rejects.relation.as_string(connection)
    # It has no key, and a publication of all tables would refuse to delete its rows.
    replica_identity = f"ALTER TABLE {relation} REPLICA IDENTITY FULL"
    create = f"CREATE TABLE {relation} ({definitions}); CREATE INDEX ON {relation} (run_key); {replica_identity}"
    try:
        if table_exists(connection, rejects.relation):
            return
        with connection.transaction():
            lock_table_creation(connection)
            connection.execute(sql.SQL(create))
    except psycopg.errors.DuplicateTable:
        return  # another job has created it in the meantime
    except psycopg.errors.InvalidSchemaName:
        problem = f"the table {rejects} does not exist, and there is no schema {rejects.schema}."
        advice = "Name a table in another schema, or create this one."
        raise InvalidParameterError("reject_table", problem, advice) from None
    except psycopg.errors.InsufficientPrivilege as error:
        schema, role = Identifier(rejects.schema).as_string(connection), quoted_role(connection)
        raise InvalidParameterError(
            "reject_table",
            f"the table {rejects} cannot be created ({error.diag.message_primary}).",
            f"Run as another role: {create}; GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT, INSERT, DELETE ON"
            f" {relation} TO {role};",
        ) from None


def _kind(count: int, error_class: str, sqlstate: str | None, message: str) -> str:
    state = f" [{sqlstate}]" if sqlstate else ""
    first, *_ = message.splitlines() or [""]
    return without_markers(f"{count:,} {error_class}{state}, such as: {first[:_MAX_CHARS]}")


def _text(number: int) -> str:
    return f"{number:,}"
