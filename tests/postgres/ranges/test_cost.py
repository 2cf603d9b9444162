"""What a range and its planning cost the server: index pages that are read."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import sql

from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import sizes_of

ONE_TENANT = """
    CREATE TABLE tenants AS SELECT 1 AS tenant, 7::smallint AS year, n FROM generate_series(1, 30000) AS n;
    ALTER TABLE tenants ALTER tenant SET NOT NULL, ALTER year SET NOT NULL, ALTER n SET NOT NULL;
"""


def index_pages_read(connection: psycopg.Connection, table: str) -> int:
    flush_counters(connection)
    connection.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT sum(idx_blks_hit + idx_blks_read)::int FROM pg_statio_user_indexes WHERE relname = %s"
    return connection.execute(query, [table]).fetchone()[0]


@pytest.mark.parametrize("key", [["tenant", "n"], ["tenant", "year", "n"]])
def test_a_range_of_a_frequent_value_does_not_read_the_rest_of_it(connection, plan: Planner, key: list[str]) -> None:
    connection.execute(ONE_TENANT)
    connection.execute(f"CREATE INDEX ON tenants ({', '.join(key)}); ANALYZE tenants")
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    made = plan("tenants", key=key, ranges=100)
    second = made.ranges[1]
    query = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {} FROM tenants WHERE {}").format(
        sql.SQL(", ").join(map(sql.Identifier, key)), second.where
    )
    [(answer,)] = connection.execute(query).fetchall()
    root = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    assert root["Node Type"] == "Index Only Scan"
    assert root["Actual Rows"] == second.expected_rows == pytest.approx(300, rel=0.05)
    assert root["Shared Hit Blocks"] + root["Shared Read Blocks"] < 15


@pytest.mark.parametrize("rows", [3, 40])
def test_a_walk_over_a_frequent_value_reads_it_once(connection, plan: Planner, rows: int) -> None:
    connection.execute(ONE_TENANT)
    connection.execute("INSERT INTO tenants SELECT 1, 7, 500 + n % 3 FROM generate_series(1, 300) AS n")
    connection.execute("CREATE INDEX ON tenants (tenant, n); ANALYZE tenants")
    before = index_pages_read(connection, "tenants")
    made = plan("tenants", key=["tenant", "n"], split="keyset", rows_per_range=rows)
    pages = index_pages_read(connection, "tenants") - before
    assert [one.expected_rows for one in made.ranges] == sizes_of(connection, made)
    # Each step comes to its place in the index a few times, and each time that takes three pages or so.
    assert pages < 20 * len(made.ranges)
