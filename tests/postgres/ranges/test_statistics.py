"""The distribution that the planner reads from the statistics of ANALYZE."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.key_choice import choose_key
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sort_key import SortKey
from burla_provider.ranges.statistics import Statistics, read_statistics
from burla_provider.ranges.window import Window

# Every fifth row has the common value. The other values are distinct, in a hundred buckets.
VALUES = "CASE WHEN n % 5 = 0 THEN {common} ELSE {other} END"
KINDS = {
    "bigint": VALUES.format(common="4000::bigint", other="n"),
    "text": VALUES.format(common="'k-004000'", other="'k-' || lpad(n::text, 6, '0')"),
}


@pytest.fixture(params=KINDS)
def statistics(request: pytest.FixtureRequest, connection: psycopg.Connection[Any]) -> Statistics:
    connection.execute(
        f"CREATE TABLE t AS SELECT {KINDS[request.param]} AS k, n FROM generate_series(1, 10000) AS n"  # type: ignore[arg-type]
    )
    connection.execute("CREATE INDEX ON t (k)")
    connection.execute("ANALYZE t")
    planner_connection = PlannerConnection(connection)
    facts = read_facts(planner_connection, "t")
    key = choose_key(facts, "k")
    sort_key = SortKey(facts.columns_of(key))
    [statistics] = read_statistics(
        planner_connection, sort_key, Window(), [[("public", "t", 1.0)]], (0.0, 0.0), inherited=False
    )
    assert statistics is not None
    return statistics


def test_the_distribution_includes_every_row(statistics: Statistics) -> None:
    assert statistics.distribution is not None
    assert statistics.distribution.rows == pytest.approx(1.0)
    assert statistics.null_fraction == 0


def test_each_known_value_is_one_bound(statistics: Statistics) -> None:
    assert statistics.distribution is not None
    bounds = [bound.bound for bound in statistics.distribution.bounds]
    assert len(bounds) == len(set(bounds)) == statistics.bound_count == 102


def test_a_common_value_divides_the_rows_of_its_bucket(
    statistics: Statistics,
) -> None:
    assert statistics.distribution is not None
    bounds = statistics.distribution.bounds
    most_common = statistics.distribution.most_common
    assert most_common.frequency == pytest.approx(0.2)
    at = bounds.index(most_common)
    assert bounds[at - 1].bucket_rows + most_common.bucket_rows == pytest.approx(0.8 / 100)
    assert all(bound.bucket_rows == pytest.approx(0.8 / 100) for bound in (*bounds[: at - 1], *bounds[at + 1 : -1]))
