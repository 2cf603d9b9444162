"""Asking PostgreSQL itself which rows a plan's ranges have."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from burla_provider.ranges import RangePlan
from burla_provider.worker.source import Source

_RANGES_A_QUERY = 500


def rows_in(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """The ``row_id`` of every row of every range, as often as ranges have it, sorted.

    Selected from the table by ``where`` alone; workers, which may read partitions by their own names, get the same.
    """
    table = sql.Identifier(plan.schema, plan.table)
    named = [sql.SQL("SELECT row_id FROM {} WHERE {}").format(table, one.where) for one in plan.ranges]
    found = _all(connection, named)
    assert found == _all(connection, [_source(plan).select(sql.SQL("row_id"), one) for one in plan.ranges])
    return found


def rows_of(connection: psycopg.Connection, table: str, condition: str = "TRUE") -> list[int]:
    """The ``row_id`` of the table's rows that meet the condition, sorted."""
    query = sql.SQL("SELECT row_id FROM {} WHERE {} ORDER BY row_id")
    return [row[0] for row in connection.execute(query.format(sql.SQL(table), sql.SQL(condition)))]


def sizes_of(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """How many rows each range really has."""
    counts = [sql.SQL("({})").format(_source(plan).select(sql.SQL("count(*)"), one)) for one in plan.ranges]
    sizes: list[int] = []
    for start in range(0, len(counts), _RANGES_A_QUERY):
        some = sql.SQL(", ").join(counts[start : start + _RANGES_A_QUERY])
        sizes += connection.execute(sql.SQL("SELECT {}").format(some)).fetchone() or ()
    return sizes


def balance(sizes: Sequence[int]) -> float:
    """The largest size by the average one."""
    return max(sizes) / (sum(sizes) / len(sizes))


def _all(connection: psycopg.Connection, selects: Sequence[sql.Composed]) -> list[int]:
    found: list[int] = []
    for start in range(0, len(selects), _RANGES_A_QUERY):
        union = sql.SQL(" UNION ALL ").join(selects[start : start + _RANGES_A_QUERY])
        found += [row[0] for row in connection.execute(union)]
    return sorted(found)


def _source(plan: RangePlan) -> Source:
    return Source(plan.schema, plan.table)
