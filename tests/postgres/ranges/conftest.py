"""Tables to plan for."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from burla_provider.ranges import RangePlan, plan_ranges
from tests.support.postgres import report_writes

Planner = Callable[..., RangePlan]

SKEWED = """
    CREATE TABLE skewed AS
    SELECT n AS row_id, CASE WHEN n % 5 = 0 THEN n * 1000 ELSE 25000000 + n END::bigint AS id
    FROM generate_series(1, 50000) AS n;
    ALTER TABLE skewed ADD PRIMARY KEY (id);
"""
"""50,000 rows. 80 % of them are in 0.1 % of the ids' interval."""


def flush_counters(connection: psycopg.Connection) -> None:
    """Make the session report its changes now. By default it does so at most once a second."""
    report_writes(connection)
    if connection.info.server_version < 150000:
        # A session reports when a transaction ends, every 0.5 s, to a process whose figures may be 0.5 s old.
        time.sleep(0.6)
        connection.execute("SELECT 1")
        time.sleep(0.6)


@pytest.fixture
def plan(connection: psycopg.Connection) -> Planner:
    """``plan_ranges`` on the test's connection."""

    def plan(table: str, **request: object) -> RangePlan:
        return plan_ranges(connection, table=table, **request)

    return plan


@pytest.fixture
def skewed(connection: psycopg.Connection) -> str:
    """The name of a skewed table that was never analyzed."""
    connection.execute(SKEWED)
    flush_counters(connection)
    return "skewed"
