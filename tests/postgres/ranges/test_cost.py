"""The cost of ranges and of planning for the server: index pages that are read."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from burla_provider.ranges import KeyRange
from burla_provider.ranges.planner_connection import PlannerConnection
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


def pages_of(connection: psycopg.Connection, table: str, one: KeyRange) -> tuple[int, int]:
    """The rows of a range, and how many pages the server reads for them, when it takes the key's index."""
    connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    query = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT {} FROM {} WHERE {}").format(
        sql.SQL(", ").join(map(sql.Identifier, one.key.names)), sql.Identifier(table), one.where
    )
    [([answer],)] = connection.execute(query).fetchall()
    scan = answer["Plan"]
    assert scan["Node Type"] == "Index Only Scan"
    return scan["Actual Rows"], scan["Shared Hit Blocks"] + scan["Shared Read Blocks"]


@pytest.mark.parametrize("key", [["tenant", "n"], ["tenant", "year", "n"]])
def test_a_range_of_a_frequent_value_does_not_read_the_rest_of_it(connection, plan: Planner, key: list[str]) -> None:
    connection.execute(ONE_TENANT)
    connection.execute(f"CREATE INDEX ON tenants ({', '.join(key)}); ANALYZE tenants")
    second = plan("tenants", key=key, ranges=100).ranges[1]
    rows, pages = pages_of(connection, "tenants", second)
    assert rows == second.expected_rows == pytest.approx(300, rel=0.05)
    assert pages < 15


def test_the_range_before_a_frequent_value_does_not_read_it(connection, plan: Planner) -> None:
    connection.execute(ONE_TENANT)
    connection.execute("INSERT INTO tenants SELECT -n, 7, n FROM generate_series(0, 999) AS n")
    connection.execute("CREATE INDEX ON tenants (tenant, n); ANALYZE tenants")
    made = plan("tenants", key=["tenant", "n"], rows_per_range=1000)
    assert made.strategy == "histogram"
    before = next(one for one in made.ranges if one.upper is not None and one.upper[0] == "1")
    rows, pages = pages_of(connection, "tenants", before)
    assert 0 < rows <= 1000
    assert pages < 30


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


@pytest.mark.parametrize("split", ["histogram", "keyset"])
def test_the_server_does_not_estimate_a_range_of_several_columns_as_a_quarter_of_the_table(
    connection, plan: Planner, split: str
) -> None:
    connection.execute("CREATE TABLE many AS SELECT n * 7919 % 500 AS tenant, n AS id FROM generate_series(1, 30000) n")
    connection.execute("ALTER TABLE many ADD PRIMARY KEY (tenant, id); ANALYZE many")
    made = plan("many", split=split, ranges=300)
    assert made.key.names == ("tenant", "id")
    explain = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM many WHERE {}")
    answers = [connection.execute(explain.format(one.where)).fetchone() for one in made.ranges]
    assert max(answer["Plan"]["Plan Rows"] for ([answer],) in answers) < 1000


def test_a_walk_stops_at_the_end_of_a_window_inside_of_a_frequent_value(connection, plan: Planner) -> None:
    connection.execute(ONE_TENANT)
    connection.execute("CREATE INDEX ON tenants (tenant, n); ANALYZE tenants")
    before = index_pages_read(connection, "tenants")
    window = {"lower": [1, 101], "upper": [1, 601]}
    made = plan("tenants", key=["tenant", "n"], split="keyset", rows_per_range=100, **window)
    assert [one.lower for one in made.ranges] == [("1", str(n)) for n in range(101, 601, 100)]
    assert [one.expected_rows for one in made.ranges] == sizes_of(connection, made) == [100] * 5
    assert index_pages_read(connection, "tenants") - before < 150


def test_an_empty_window_is_found_without_reading_a_frequent_value(connection, plan: Planner) -> None:
    connection.execute(ONE_TENANT)
    connection.execute("CREATE INDEX ON tenants (tenant, n); ANALYZE tenants")
    before = index_pages_read(connection, "tenants")
    made = plan("tenants", key=["tenant", "n"], lower=[1, 30001], freeze_upper=True)
    assert made.ranges == ()
    assert index_pages_read(connection, "tenants") - before < 30


SECRET = """
    CREATE TABLE allowed AS SELECT 1 AS tenant;
    ALTER TABLE allowed ADD PRIMARY KEY (tenant);
    CREATE TABLE secret AS SELECT n::{kind} AS id, 1 AS tenant FROM generate_series(1, 20000) AS n;
    ALTER TABLE secret ADD PRIMARY KEY (id), ENABLE ROW LEVEL SECURITY;
    CREATE INDEX ON secret (tenant, id);
    CREATE POLICY own ON secret USING ({policy});
    ANALYZE secret;
    DROP ROLE IF EXISTS secret_reader;
    CREATE ROLE secret_reader;
    GRANT SELECT ON secret, allowed TO secret_reader;
    SET ROLE secret_reader
"""


@pytest.mark.parametrize(
    ("kind", "policy", "seeks"),
    [
        ("bigint", "tenant = 1", True),
        ("bigint", "tenant IN (SELECT tenant FROM allowed)", True),
        ("numeric", "tenant > 0", False),
        ("numeric", "tenant = 1", False),
    ],
)
def test_an_index_is_walked_where_row_security_lets_the_server_seek_in_it(
    connection, plan, kind, policy, seeks
) -> None:
    connection.execute(SECRET.format(kind=kind, policy=policy))
    made = plan("secret", ranges=20)
    how = "scanned the index" if seeks else "sorted the table once, because no index has the order of the key"
    assert made.reason == f"There are no statistics of the key, so the planner {how}."
    hint = "or row security prevents the server from seeking in it. Every range reads"
    assert [hint in one for one in made.hints] == [True] * (not seeks)
    assert sizes_of(connection, made) == pytest.approx([1000] * 20, abs=70)
    connection.execute("RESET ROLE; DROP OWNED BY secret_reader; DROP ROLE secret_reader")


def test_a_partial_index_is_used_for_each_step_that_can_use_it(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE partly AS SELECT n AS id FROM generate_series(1, 20000) AS n")
    connection.execute("CREATE INDEX ON partly (id) WHERE id > 1000; ANALYZE partly")
    made = plan("partly", key="id", ranges=20, lower=1001, split="keyset")
    assert "No index has the order of id" in made.hints[0]
    assert sizes_of(connection, made) == pytest.approx([950] * 20, abs=70)


def test_no_statement_checks_too_many_partitions(connection, plan: Planner, monkeypatch) -> None:
    connection.execute("CREATE TABLE days (day int NOT NULL, id int NOT NULL) PARTITION BY LIST (day)")
    for day in range(30):
        connection.execute(f"CREATE TABLE days_{day} PARTITION OF days FOR VALUES IN ({day})")
    connection.execute("INSERT INTO days SELECT n % 30, n FROM generate_series(1, 3000) AS n")
    connection.execute("CREATE INDEX ON days (id); ANALYZE days")
    statements = []
    rows = PlannerConnection.fetch_all
    monkeypatch.setattr(
        PlannerConnection, "fetch_all", lambda self, text: statements.append(text.as_string(None)) or rows(self, text)
    )
    made = plan("days", key="id", ranges=20, refine=True, split="width")
    assert sum(sizes_of(connection, made)) == 3000
    assert max(statement.count("SELECT EXISTS (") + statement.count(", EXISTS (") for statement in statements) == 3
