"""Asking PostgreSQL itself which rows a plan's ranges have."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from burla_provider.ranges import KeyRange, RangePlan

_RANGES_A_QUERY = 500


def rows_in(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """The ``row_id`` of every row of every range, as often as ranges have it, sorted."""
    found: list[int] = []
    for start in range(0, len(plan.ranges), _RANGES_A_QUERY):
        selects = [_select(plan, one) for one in plan.ranges[start : start + _RANGES_A_QUERY]]
        found += [row[0] for row in connection.execute(sql.SQL(" UNION ALL ").join(selects))]
    return sorted(found)


def rows_of(connection: psycopg.Connection, table: str, condition: str = "TRUE") -> list[int]:
    """The ``row_id`` of the table's rows that meet the condition, sorted."""
    query = sql.SQL("SELECT row_id FROM {} WHERE {} ORDER BY row_id")
    return [row[0] for row in connection.execute(query.format(sql.SQL(table), sql.SQL(condition)))]


def sizes_of(connection: psycopg.Connection, plan: RangePlan) -> list[int]:
    """How many rows each range really has."""
    counts = [sql.SQL("(SELECT count(*) FROM {})").format(_rows(plan, one)) for one in plan.ranges]
    sizes: list[int] = []
    for start in range(0, len(counts), _RANGES_A_QUERY):
        some = sql.SQL(", ").join(counts[start : start + _RANGES_A_QUERY])
        sizes += connection.execute(sql.SQL("SELECT {}").format(some)).fetchone() or ()
    return sizes


def balance(sizes: Sequence[int]) -> float:
    """The largest size by the average one."""
    return max(sizes) / (sum(sizes) / len(sizes))


def _select(plan: RangePlan, one: KeyRange) -> sql.Composed:
    return sql.SQL("SELECT row_id FROM {}").format(_rows(plan, one))


def _rows(plan: RangePlan, one: KeyRange) -> sql.Composed:
    relation = sql.Identifier(plan.schema, plan.table)
    if one.relation is not None:
        relation = sql.SQL("ONLY {}").format(sql.Identifier(*one.relation))
    return sql.SQL("{} WHERE {}").format(relation, one.where)
