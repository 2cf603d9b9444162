"""A temporary table for the rows of one chunk, from which one sorted statement writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.quoting import Identifier
from burla_provider.worker.sinks.copy_rows import copy_rows
from burla_provider.worker.sinks.sink import Sink
from burla_provider.worker.sinks.target import Target, names

STAGE = Identifier("pg_temp", "burla_rows")

NUMBER = "burla number"
"""Column of the temporary table for the number of a row in its chunk.

The physical order of the rows can be another one: COPY puts a row into an earlier page that has enough space for it.
"""

_HAS_OTHER_TYPES = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_attribute AS b USING (attname)
        WHERE a.attrelid = {}::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND b.attrelid = {}::pg_catalog.regclass AND b.attnum > 0 AND NOT b.attisdropped
            AND (a.atttypid <> b.atttypid OR a.atttypmod <> b.atttypmod OR a.attcollation <> b.attcollation)
    )
"""


def create_stage(target: Target, *, pooled: bool, columns: sql.Composable | None = None) -> sql.Composed:
    """Return the statement that creates the temporary table, unless the session has it.

    It is created once per session, because dead rows in the catalog make each creation slower while a snapshot is held.
    In any case the statement locks the target, so that its types do not change until the transaction ends.

    :param columns: select list of its columns; None: those of the target, and ``NUMBER``.
    :param pooled: drop it when the transaction ends, because the session may serve another client next.
    """
    query = "CREATE TEMPORARY TABLE IF NOT EXISTS burla_rows ON COMMIT {} AS SELECT {} FROM {} WITH NO DATA"
    at_end = sql.SQL("DROP" if pooled else "DELETE ROWS")
    columns = columns or sql.SQL("{}, 0 AS {}").format(target.column_list, Identifier(NUMBER))
    statement = sql.SQL(query).format(at_end, columns, target.relation)
    return sql.SQL("SET LOCAL client_min_messages = warning; {}").format(statement)


def stage_rows(connection: psycopg.Connection[Any], sink: Sink, rows: Iterable[tuple[Any, ...]]) -> None:
    """Copy rows with the columns of the sink's target into the temporary table, and number them."""
    numbered = replace(sink.target, columns=(*sink.target.columns, NUMBER))
    stage_as_given(connection, sink, numbered, ((*row, number) for number, row in enumerate(rows)))


def stage_as_given(
    connection: psycopg.Connection[Any], sink: Sink, given: Target, rows: Iterable[tuple[Any, ...]]
) -> None:
    """Copy rows into the temporary table, which is created again if a type of the target has changed.

    Otherwise a value for numeric(12,4) would be rounded as for numeric(10,2), which the column was before.

    :param given: the target with the columns of the rows.
    """
    if has_other_types(connection, STAGE, sink.target.relation):
        connection.execute(sql.SQL("DROP TABLE {}; {}").format(STAGE, sink.setup(pooled=False)))
    copy_rows(connection, STAGE, given, rows)


def has_other_types(connection: psycopg.Connection[Any], copy: Identifier, table: Identifier) -> bool:
    """Return whether columns with the same name have another type in a copy of the table."""
    relations = [sql.Literal(relation.as_regclass(connection)) for relation in (copy, table)]
    [(has_others,)] = connection.execute(sql.SQL(_HAS_OTHER_TYPES).format(*relations)).fetchall()
    return bool(has_others)


def sorted_rows(target: Target, key: Sequence[str], version: str | None) -> sql.Composed:
    """Return a query of the rows by key, so that sessions lock rows of the target in the same order.

    Of several rows with a key it returns the one with the maximum version, or the last one.
    """
    by_version = sql.SQL("{} DESC NULLS LAST, ").format(sql.Identifier(version)) if version else sql.SQL("")
    return sql.SQL("SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}, {}{} DESC").format(
        names(key), target.column_list, STAGE, names(key), by_version, Identifier(NUMBER)
    )


def same_key(target: Target, key: Sequence[str], left: str, right: str) -> sql.Composed:
    """Return the condition that two relations have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} {} {}").format(Identifier(left, name), target.operator(name, "="), Identifier(right, name))
        for name in key
    )


BY_INDEX = sql.SQL("; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
"""The temporary table has no statistics, and the server might read the whole target to join it."""


def row_of(columns: Sequence[str], *qualifier: str) -> sql.Composed:
    """Return the columns as a record, to compare records with ``*<>``.

    This operator compares the stored bytes, like the server when it refreshes a materialized view concurrently: json
    and point have no equality, and citext, numeric and float have different values that are equal.
    """
    return sql.SQL("ROW({})::record").format(names(columns, *qualifier))


def assignments(columns: Sequence[str], qualifier: str) -> sql.Composed:
    """Return ``column = qualifier.column`` for each column."""
    return sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier(qualifier, name)) for name in columns
    )
