"""Ask PostgreSQL which rows the ranges of a plan have."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from burla_provider.ranges import RangePlan
from burla_provider.worker.source import Source

_RANGES_PER_QUERY = 500


def rows_in(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """Return the ``row_id`` of every row of every range, sorted. A row in two ranges appears twice.

    The rows are selected from the table by ``where``. The query of the workers, which may read partitions by their own
    names, must return the same rows.
    """
    table = sql.Identifier(plan.schema, plan.table)
    named = [sql.SQL("SELECT row_id FROM {} WHERE {}").format(table, key_range.where) for key_range in plan.ranges]
    found = _select_all(connection, named)
    assert found == _select_all(
        connection, [_source(plan).select(sql.SQL("row_id"), key_range) for key_range in plan.ranges]
    )
    return found


def rows_of(connection: psycopg.Connection, table: str, condition: str = "TRUE") -> list[int]:
    """Return the ``row_id`` of the table's rows that meet the condition, sorted."""
    query = sql.SQL("SELECT row_id FROM {} WHERE {} ORDER BY row_id")
    return [row[0] for row in connection.execute(query.format(sql.SQL(table), sql.SQL(condition)))]


def sizes_of(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """Return the actual number of rows of each range."""
    counts = [sql.SQL("({})").format(_source(plan).select(sql.SQL("count(*)"), key_range)) for key_range in plan.ranges]
    sizes: list[int] = []
    for start in range(0, len(counts), _RANGES_PER_QUERY):
        batch = sql.SQL(", ").join(counts[start : start + _RANGES_PER_QUERY])
        sizes += connection.execute(sql.SQL("SELECT {}").format(batch)).fetchone() or ()
    return sizes


def balance(sizes: Sequence[int]) -> float:
    """Return the largest size divided by the average size."""
    return max(sizes) / (sum(sizes) / len(sizes))


def _select_all(connection: psycopg.Connection, selects: Sequence[sql.Composed]) -> list[int]:
    found: list[int] = []
    for start in range(0, len(selects), _RANGES_PER_QUERY):
        union = sql.SQL(" UNION ALL ").join(selects[start : start + _RANGES_PER_QUERY])
        found += [row[0] for row in connection.execute(union)]
    return sorted(found)


def _source(plan: RangePlan) -> Source:
    return Source(plan.schema, plan.table)
