"""The results table: one row per range, with its result or its error."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.connect import codec_of, no_user_timeout
from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import check_writable, lock_table_creation, table_exists, trial_write
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.table_version import upgrade_table
from burla_provider.worker.json_values import storable_text, to_json
from burla_provider.worker.outcome import Failure, Outcome

COLUMNS = {
    "run": "text",
    "range_id": "integer",
    "lower": "text",
    "upper": "text",
    "row_count": "bigint",
    "result": "jsonb",
    "error": "text",
    "attempts": "integer",
    "worker": "text",
    "started": "timestamp with time zone",
    "seconds": "double precision",
}
"""Name -> type. The range is lower <= key < upper; NULL is open. Bounds of several columns are joined by commas."""

ADDED_COLUMNS: Sequence[Mapping[str, str]] = ()
"""Columns of versions 2, 3, ..., see ``table_version.py``."""

_COLUMN_NAMES = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


def prepare_results_table(connection: psycopg.Connection[Any], schema: str, table: str) -> None:
    """Create the results table if it does not exist, and check that results can be written to it.

    :param connection: an autocommit connection.
    :raises InvalidParameterError: if the table cannot be created or written, or has other columns.
    """
    relation = Identifier(schema, table)
    definitions = [sql.SQL(f"{{}} {type_}").format(sql.Identifier(name)) for name, type_ in COLUMNS.items()]
    create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (run, range_id))")
    try:
        with connection.transaction():
            check_writable(connection, "results_table", schema)
            # "IF NOT EXISTS" alone needs the right to create a table even if the table exists.
            if not table_exists(connection, relation):
                lock_table_creation(connection)
                connection.execute(create.format(relation, sql.SQL(", ").join(definitions)))
            connection.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(_COLUMN_NAMES, relation))
            # It deletes nothing, but the server checks the permission.
            connection.execute(sql.SQL("DELETE FROM {} WHERE FALSE").format(relation))
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        raise InvalidParameterError(
            "results_table",
            f"{relation.as_string(connection)} cannot be used: {error.diag.message_primary or error}.",
            "Name a table that this role can create and write, or one that this provider created.",
        ) from None
    upgrade_table(connection, relation, ADDED_COLUMNS)
    with trial_write(connection, "results_table", relation):
        values = ["1", "1", 0, "{}", "", 1, "host:1", datetime.datetime.now(datetime.UTC), 0.0]
        _copy(connection, relation, [[f"trial {secrets.token_hex(8)}", 0, *values]])


class ResultsTable:
    """Collects the outcomes of one run, and writes them at its end. An outcome listener.

    :param connect: returns a new autocommit connection.
    :param schema: the table's schema.
    :param table: the table's name.
    :param run: identifies this run's rows. They replace those of an earlier try; the rows of other runs stay.
    :param has_parts: whether the values are those of ``SqlTotals``: lists of the parts that are combined.
    """

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection[Any]],
        schema: str,
        table: str,
        run: str,
        *,
        has_parts: bool = False,
    ) -> None:
        self.schema = schema
        self.table = table
        self._connect = connect
        self._relation = Identifier(schema, table)
        self._run = run
        self._has_parts = has_parts
        self._outcomes: dict[int, Outcome] = {}

    def add(self, outcome: Outcome) -> None:
        """Collect an outcome for ``write``."""
        self._outcomes[outcome.index] = outcome

    def write(self, ranges: Iterable[KeyRange]) -> None:
        """Replace this run's rows in one transaction."""
        with self._connect() as connection, connection.transaction():
            codec = codec_of(connection)
            rows = [self._row(key_range, codec) for key_range in ranges]
            # Another Airflow may write a run with the same name at the same time.
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"burla results {self._run}"])
            connection.execute(sql.SQL("DELETE FROM {} WHERE run = %s").format(self._relation), [self._run])
            _copy(connection, self._relation, rows)

    def _row(self, key_range: KeyRange, codec: str) -> list[Any]:
        lower, upper = (None if bound is None else ", ".join(bound) for bound in (key_range.lower, key_range.upper))
        place = [self._run, key_range.index, lower, upper]
        outcome = self._outcomes.get(key_range.index)
        if outcome is None:
            return place + [None] * (len(COLUMNS) - len(place))
        failure = outcome.failure
        return [
            *place,
            outcome.row_count,
            None if outcome.value is None else json.dumps(self._readable(outcome.value, codec), ensure_ascii=False),
            None if failure is None else storable_text(_error(failure), codec),
            outcome.attempts,
            outcome.worker,
            _timestamp(outcome.started),
            outcome.seconds,
        ]

    def _readable(self, value: Any, codec: str) -> Any:
        plain = to_json(value, codec)
        if not self._has_parts:
            return plain
        # In most cases a total has one part.
        return {name: parts[0] if len(parts) == 1 else parts for name, parts in plain.items()}


def _copy(connection: psycopg.Connection[Any], relation: Identifier, rows: Iterable[Sequence[Any]]) -> None:
    copy_rows = sql.SQL("COPY {} ({}) FROM STDIN").format(relation, _COLUMN_NAMES)
    with no_user_timeout(connection), connection.cursor() as cursor, cursor.copy(copy_rows) as copy:
        for row in rows:
            copy.write_row(row)


def _error(failure: Failure) -> str:
    return f"Rows with {failure.keys}: {failure.text}" if failure.keys else failure.text


def _timestamp(seconds: float) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if seconds else None
