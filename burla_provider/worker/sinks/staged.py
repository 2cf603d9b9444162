"""A temporary table for the rows of one chunk, from which one sorted statement writes them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from burla_provider.worker.sinks.target import Target, names

STAGE = sql.Identifier("pg_temp", "burla_rows")


def create_stage(target: Target, *, pooled: bool, columns: sql.Composable | None = None) -> sql.Composed:
    """Return the statement that creates the temporary table, unless the session has it.

    It is created once per session, because dead rows in the catalog make each creation slower while a snapshot is held.

    :param columns: select list of its columns; None: those of the target.
    :param pooled: drop it when the transaction ends, because the session may serve another client next.
    """
    query = "CREATE TEMPORARY TABLE IF NOT EXISTS burla_rows ON COMMIT {} AS SELECT {} FROM {} WITH NO DATA"
    at_end = sql.SQL("DROP" if pooled else "DELETE ROWS")
    statement = sql.SQL(query).format(at_end, columns or target.column_list, target.relation)
    return sql.SQL("SET LOCAL client_min_messages = warning; {}").format(statement)


def sorted_rows(target: Target, key: Sequence[str], version: str | None) -> sql.Composed:
    """Return a query of the rows by key, so that sessions lock rows of the target in the same order.

    Of several rows with a key it returns the one with the maximum version, or the last one.
    """
    by_version = sql.SQL("{} DESC NULLS LAST, ").format(sql.Identifier(version)) if version else sql.SQL("")
    # The physical order of the rows is the order in which they were copied.
    return sql.SQL("SELECT DISTINCT ON ({}) {} FROM {} ORDER BY {}, {}ctid DESC").format(
        names(key), target.column_list, STAGE, names(key), by_version
    )


def same_key(key: Sequence[str], *qualifiers: str) -> sql.Composed:
    """Return the condition that two relations have the same key."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(*(sql.Identifier(qualifier, name) for qualifier in qualifiers)) for name in key
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
