"""What the planner makes of ANALYZE's statistics, without a look at a row."""

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

# Each fifth row has the one common value; the others are a hundred buckets full of different ones.
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
    queries = PlannerConnection(connection)
    facts = read_facts(queries, "t")
    key = choose_key(facts, "k")
    order = SortKey(facts.columns_of(key))
    [found] = read_statistics(queries, order, Window(), [[("public", "t", 1.0)]], (0.0, 0.0), inherited=False)
    assert found is not None
    return found


def test_every_row_is_somewhere(statistics: Statistics) -> None:
    assert statistics.distribution is not None
    assert statistics.distribution.rows == pytest.approx(1.0)
    assert statistics.null_fraction == 0


def test_each_known_value_is_one_place(statistics: Statistics) -> None:
    assert statistics.distribution is not None
    bounds = [knot.bound for knot in statistics.distribution.bounds]
    assert len(bounds) == len(set(bounds)) == statistics.bound_count == 102


def test_the_common_value_has_its_rows_and_the_gaps_about_it_share_those_of_their_bucket(
    statistics: Statistics,
) -> None:
    assert statistics.distribution is not None
    knots = statistics.distribution.bounds
    heaviest = statistics.distribution.most_common
    assert heaviest.frequency == pytest.approx(0.2)
    at = knots.index(heaviest)
    assert knots[at - 1].bucket_rows + heaviest.bucket_rows == pytest.approx(0.8 / 100)
    assert all(knot.bucket_rows == pytest.approx(0.8 / 100) for knot in (*knots[: at - 1], *knots[at + 1 : -1]))
