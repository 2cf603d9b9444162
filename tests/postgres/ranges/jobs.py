"""Plans of jobs that read one snapshot and need no key, as a task requests them."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from burla_provider.ranges import RangePlan
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.plan_request import AUTO, PlanRequest
from burla_provider.ranges.planner import plan_table
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.window import WindowLimits
from burla_provider.worker.source import Source


def plan_job(
    connection: psycopg.Connection[Any],
    table: str,
    *,
    columns: tuple[str, ...] = ("row_id",),
    key: Any = None,
    where: str | None = None,
    split: str = AUTO,
    refine: bool = False,
    limits: WindowLimits | None = None,
    **sizing: int,
) -> RangePlan:
    """Return the plan of a job that reads these columns of a table."""
    facts = read_facts(PlannerConnection(connection), table)
    source = Source(facts.schema, facts.table, columns, where, facts.kind == "p")

    def whole_query(key: Key) -> sql.Composable:
        names = [sql.Identifier(name) for name in (*columns, *key.names)]
        return source.select(sql.SQL(", ").join(names), KeyRange(Key(), 0))

    request = PlanRequest(
        key,
        limits or WindowLimits(),
        where,
        split,
        RangeSizing(**sizing),
        refine=refine,
        freeze_upper=False,
        whole_query=whole_query,
    )
    return plan_table(connection, facts, request)
