"""A table of what each range answered, for people and for SQL that comes after."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.connect import codec_of, open_connection
from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import check_writable, wait_for_makers
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.json_values import storable_text, to_json
from burla_provider.worker.outcome import Outcome

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
"""Name -> type. Bounds are lower <= key < upper, null where open; of a key of several columns, joined with commas."""


class Results:
    """The outcomes of one run, kept for the table. A collector.

    :param parameters: how to connect; secrets among them.
    :param schema: of the table.
    :param table: its name.
    :param run: whose results these are: another run's stay, its own of an earlier time are replaced.
    """

    def __init__(self, parameters: Mapping[str, str], schema: str, table: str, run: str) -> None:
        self._parameters = parameters
        self._schema = schema
        self._table = Identifier(schema, table)
        self._run = run
        self._outcomes: dict[int, Outcome] = {}

    def check(self) -> None:
        """Create the table where it is not there yet.

        :raises InvalidParameterError: it cannot be created or written, or it is another table.
        """
        definitions = [sql.SQL(f"{{}} {kind}").format(sql.Identifier(name)) for name, kind in COLUMNS.items()]
        create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY (run, range_id))")
        names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        try:
            with self._connect() as connection:
                check_writable(connection, "results_table", self._schema)
                # Not "IF NOT EXISTS" alone: even where there is one, that needs the right to create another.
                name = self._table.as_regclass(connection)
                [(exists,)] = connection.execute("SELECT to_regclass(%s)", [name]).fetchall()
                if exists is None:
                    wait_for_makers(connection)
                    connection.execute(create.format(self._table, sql.SQL(", ").join(definitions)))
                connection.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, self._table))
                # Without a row it writes nothing, but the server checks the permission.
                connection.execute(sql.SQL("DELETE FROM {} WHERE FALSE").format(self._table))
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            raise InvalidParameterError(
                "results_table",
                f"{error.diag.message_primary or error}.",
                "Name a table that this role may create and write, or one that this provider made.",
            ) from None

    def add(self, outcome: Outcome) -> None:
        self._outcomes[outcome.index] = outcome

    def write(self, ranges: Iterable[KeyRange]) -> int:
        """Replace this run's rows in one transaction; answers how many there are."""
        with self._connect() as connection, connection.cursor() as cursor:
            codec = codec_of(connection)
            rows = [_row(self._run, key_range, self._outcomes.get(key_range.index), codec) for key_range in ranges]
            cursor.execute(sql.SQL("DELETE FROM {} WHERE run = %s").format(self._table), [self._run])
            names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
            with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(self._table, names)) as copy:
                for row in rows:
                    copy.write_row(row)
        return len(rows)

    def _connect(self) -> psycopg.Connection[Any]:
        return open_connection(self._parameters, application_name="burla results")


def _row(run: str, key_range: KeyRange, outcome: Outcome | None, codec: str) -> list[Any]:
    lower, upper = (None if bound is None else ", ".join(bound) for bound in (key_range.lower, key_range.upper))
    if outcome is None:
        return [run, key_range.index, lower, upper, *[None] * (len(COLUMNS) - 4)]
    failure = outcome.failure
    return [
        run,
        key_range.index,
        lower,
        upper,
        outcome.row_count,
        None if outcome.value is None else json.dumps(_readable(outcome.value, codec), ensure_ascii=False),
        storable_text(f"{failure.type}: {failure.message}", codec) if failure else None,
        outcome.attempts,
        outcome.worker,
        _moment(outcome.started),
        outcome.seconds,
    ]


def _readable(value: Any, codec: str) -> Any:
    # A total that SQL computed is a list of what it takes to combine it: mostly one number.
    plain = to_json(value, codec)
    if not isinstance(plain, dict):
        return plain
    return {name: part[0] if isinstance(part, list) and len(part) == 1 else part for name, part in plain.items()}


def _moment(seconds: float) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC) if seconds else None
