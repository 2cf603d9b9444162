"""The ranges that each strategy makes."""

from __future__ import annotations

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import build_id_ranges
from burla_provider.ranges.distribution import Distribution
from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import balance, rows_in, rows_of, sizes_of

RANGES = 32


def test_histogram_balances_a_skewed_key_without_reading_rows(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, split="histogram", ranges=RANGES)
    assert balance(sizes_of(connection, made)) < 1.6
    assert abs(len(made.ranges) - RANGES) <= 2


def test_histogram_puts_a_frequent_value_into_a_range_of_its_own(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE heavy AS SELECT CASE WHEN n % 2 = 0 THEN 7 ELSE n END AS k FROM generate_series(1, 20000) AS n"
    )
    connection.execute("CREATE INDEX ON heavy (k); ANALYZE heavy")
    made = plan("heavy", key="k", split="histogram", ranges=10)
    [seven] = [one for one in made.ranges if one.lower == ("7",)]
    assert seven.upper == ("8",)
    assert seven.expected_rows == pytest.approx(10_000, rel=0.05)
    assert any("have the same key (7)" in hint for hint in made.hints)


def test_keyset_ranges_have_exactly_the_requested_rows(connection, plan: Planner, skewed: str) -> None:
    made = plan(skewed, split="keyset", rows_per_range=3000)
    assert sizes_of(connection, made) == [3000] * 16 + [2000]
    assert [one.expected_rows for one in made.ranges] == [3000] * 16 + [2000]


def test_keyset_makes_the_requested_number_of_ranges(connection, plan: Planner, skewed: str) -> None:
    made = plan(skewed, split="keyset", ranges=RANGES)
    assert len(made.ranges) == RANGES
    assert balance(sizes_of(connection, made)) < 1.1


def test_keyset_makes_the_requested_number_of_ranges_of_a_table_larger_than_estimated(
    connection, plan: Planner
) -> None:
    connection.execute("CREATE TABLE grown (id bigint PRIMARY KEY); INSERT INTO grown VALUES (1); ANALYZE grown")
    connection.execute("INSERT INTO grown SELECT generate_series(2, 60000)")
    # The window hides the growth from the server's estimate.
    made = plan("grown", split="keyset", ranges=RANGES, start_id=2)
    assert len(made.ranges) == RANGES
    assert balance(sizes_of(connection, made)) < 1.1


def test_keyset_makes_no_more_than_max_ranges(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE words AS SELECT md5(n::text) AS word FROM generate_series(1, 50000) AS n")
    connection.execute("ALTER TABLE words ADD PRIMARY KEY (word); ANALYZE words")
    # A range has a whole number of rows: with 3 of them there would be more ranges than there may be.
    made = plan("words", split="keyset", ranges=15_000, max_ranges=15_000)
    assert max(sizes_of(connection, made)) == 4


def test_keyset_balances_frequent_keys_at_max_ranges(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE words AS SELECT md5((n / 3)::text) AS word FROM generate_series(1, 500000) AS n")
    connection.execute("CREATE INDEX ON words (word); ANALYZE words")
    made = plan("words", key="word", split="keyset", ranges=5_000, max_ranges=5_000)
    assert balance(sizes_of(connection, made)) < 1.1
    assert 4_500 < len(made.ranges) <= 5_000


@pytest.mark.parametrize("index", [True, False])
def test_keyset_stops_early_if_there_would_be_too_many_ranges(connection, plan: Planner, index: bool) -> None:
    connection.execute("CREATE TABLE many AS SELECT n AS id FROM generate_series(1, 300000) AS n")
    connection.execute("CREATE INDEX ON many (id)" if index else "ANALYZE many")
    with pytest.raises(InvalidParameterError, match="rows_per_range: the plan would have at least 1,001 ranges"):
        plan("many", key="id", split="keyset", rows_per_range=1, max_ranges=1000)


@pytest.mark.parametrize("split", ["auto", "histogram", "probed", "pages"])
def test_too_many_ranges_are_refused_before_they_are_made(connection, plan: Planner, split: str, monkeypatch) -> None:
    connection.execute("CREATE TABLE many AS SELECT n * 100 AS id FROM generate_series(1, 30000) AS n")
    connection.execute("CREATE UNIQUE INDEX ON many (id); ALTER TABLE many ALTER id SET NOT NULL; ANALYZE many")
    connection.execute("UPDATE pg_class SET reltuples = 1e8 WHERE relname = 'many'")
    monkeypatch.setattr(Distribution, "cuts", lambda *_: pytest.fail("All memory is taken."))
    with pytest.raises(
        InvalidParameterError, match=r"rows_per_range: the plan would have .* ranges, and the maximum is 100"
    ):
        plan("many", split=split, rows_per_range=1, max_ranges=100)


def test_few_keys_become_few_ranges_whatever_size_is_requested(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE many AS SELECT n % 7 AS k FROM generate_series(1, 30000) AS n; ANALYZE many")
    assert len(plan("many", key="k", split="histogram", rows_per_range=10, max_ranges=100).ranges) <= 8


def test_ranges_of_one_and_a_half_rows_are_not_more_than_requested(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE few AS SELECT n AS id FROM generate_series(1, 19000) AS n")
    connection.execute("ALTER TABLE few ADD PRIMARY KEY (id); ANALYZE few")
    assert len(plan("few", split="keyset", ranges=10_000).ranges) == 9_500


def test_probed_walks_only_where_rows_are_unevenly_spread(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    flush_counters(connection)
    counter = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'skewed'"
    (before,) = connection.execute(counter).fetchone()
    made = plan(skewed, split="probed", ranges=300)
    flush_counters(connection)
    (after,) = connection.execute(counter).fetchone()
    assert balance(sizes_of(connection, made)) < 1.6
    # 8 probes of 64 rows in each of 100 buckets, which is half of this small table, and a walk over two buckets.
    assert after - before < 100 * 8 * 64 + 10 * 500


def test_probed_finds_bursts_that_the_statistics_do_not_show(connection, plan: Planner) -> None:
    # 20 bursts in each bucket of the statistics.
    connection.execute(
        "CREATE TABLE bursts AS SELECT timestamptz '2026-01-01 00:00Z'"
        " + (n / 50 * 3600 + n % 50) * interval '1 second' AS at FROM generate_series(0, 99999) AS n"
    )
    connection.execute("ALTER TABLE bursts ADD PRIMARY KEY (at); ANALYZE bursts")
    made = plan("bursts", split="probed", ranges=1000)
    assert balance(sizes_of(connection, made)) < 1.6
    # Cuts by distance between longer steps would miss the bursts' ends.
    assert balance(sizes_of(connection, plan("bursts", split="probed", ranges=15_000))) < 1.1


def test_probed_finds_where_rows_become_dense_close_to_the_end_of_a_bucket(connection, plan: Planner) -> None:
    # Of ten buckets of 30,000 rows, one has its last tenth in 0.02 % of its ids, where no probe falls. The other column
    # is there so that ANALYZE reads all rows, and the buckets are the same every time.
    connection.execute(
        "CREATE TABLE dense (id bigint PRIMARY KEY, other bigint);"
        "ALTER TABLE dense ALTER id SET STATISTICS 10, ALTER other SET STATISTICS 1000;"
        "INSERT INTO dense SELECT CASE WHEN n <= 177000 THEN n * 500 ELSE 177000 * 500 + n END, n"
        " FROM generate_series(1, 300000) AS n;"
    )
    flush_counters(connection)
    connection.execute("ANALYZE dense")
    made = plan("dense", split="probed", ranges=3000)
    assert max(sizes_of(connection, made)) <= 150


@pytest.mark.parametrize("copies", [1, 7, 600, 3000])
def test_keyset_counts_rows_with_equal_keys(connection, plan: Planner, copies: int) -> None:
    connection.execute(f"CREATE TABLE equal AS SELECT n / {copies} AS k FROM generate_series(0, 17999) AS n")
    connection.execute("CREATE INDEX ON equal (k); ALTER TABLE equal ALTER k SET NOT NULL")
    made = plan("equal", key="k", split="keyset", rows_per_range=1000)
    sizes = sizes_of(connection, made)
    assert [one.expected_rows for one in made.ranges] == pytest.approx(sizes, rel=1 / 16)
    assert max(sizes) <= max(copies, 1000)


def test_keyset_reads_each_index_entry_of_a_window_about_once(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE pairs AS SELECT n / 5000 AS a, n AS b FROM generate_series(0, 19999) AS n")
    connection.execute("ALTER TABLE pairs ADD PRIMARY KEY (a, b)")
    plan("pairs", split="keyset", lower=[0, 0], upper=[9, 0], rows_per_range=200)
    flush_counters(connection)
    counter = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'pairs'"
    assert 20_000 <= connection.execute(counter).fetchone()[0] < 3 * 20_000


def test_keyset_sorts_a_table_without_index_once(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE bare AS SELECT n % 700 AS k FROM generate_series(0, 6999) AS n")
    made = plan("bare", key="k", split="keyset", rows_per_range=1000)
    assert [one.expected_rows for one in made.ranges] == [*[1000] * 7, None]
    assert sizes_of(connection, made) == [*[1000] * 7, 0]
    assert made.hints == (
        "No index has the order of k. Every range reads the whole table, unless another index finds its rows.",
    )


def test_probed_finds_rows_inserted_since_analyze_in_buckets_smaller_than_a_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE grown AS SELECT n * 100 AS id FROM generate_series(1, 20000) AS n")
    connection.execute("ALTER TABLE grown ADD PRIMARY KEY (id); ANALYZE grown")
    connection.execute("INSERT INTO grown SELECT 500000 + n FROM generate_series(1, 20000) AS n WHERE n % 100 > 0")
    flush_counters(connection)
    made = plan("grown", split="probed", ranges=20)
    assert balance(sizes_of(connection, made)) < 1.6


def test_keyset_is_exact_for_many_ranges(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE many AS SELECT 3 * n AS id FROM generate_series(1, 60000) AS n")
    connection.execute("ALTER TABLE many ADD PRIMARY KEY (id); ANALYZE many")
    made = plan("many", split="keyset", ranges=20_000)
    starts = [one.start_id for one in made.ranges[1:]]
    assert starts[:5000] == list(range(12, 12 + 9 * 5000, 9))
    assert len(made.ranges) == pytest.approx(20_000, abs=2)


@pytest.mark.parametrize("size", [{"rows_per_range": 1}, {"ranges": 3000}])
def test_keyset_walks_row_by_row_over_keys_without_a_codec(connection, plan: Planner, size) -> None:
    connection.execute("CREATE TABLE words AS SELECT md5(n::text) AS word FROM generate_series(1, 3000) AS n")
    connection.execute("ALTER TABLE words ADD PRIMARY KEY (word); ANALYZE words")
    words = [row[0] for row in connection.execute("SELECT word FROM words ORDER BY word")]
    made = plan("words", split="keyset", **size)
    assert [one.lower[0] for one in made.ranges[1:]] == words[1:]


def test_width_makes_the_guides_ranges(plan: Planner, skewed: str) -> None:
    made = plan(skewed, split="width", start_id=1, end_id=1_000_000, rows_per_range=25_000)
    assert [(one.start_id, one.end_id) for one in made.ranges] == build_id_ranges(1, 1_000_000, 25_000)


def test_width_expects_equal_ranges_without_statistics(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE far AS SELECT 1000000 + n AS id FROM generate_series(1, 4000) AS n")
    made = plan("far", key="id", split="width", ranges=4)
    sizes = [one.expected_rows for one in made.ranges if not one.nulls]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 1


def test_width_reads_both_ends_if_none_is_given(plan: Planner, skewed: str) -> None:
    made = plan(skewed, split="width", rows_per_range=10_000_000)
    assert [one.lower for one in made.ranges] == [None, *((str(5000 + n * 10_000_000),) for n in range(1, 5))]
    assert made.ranges[-1].upper is None


@pytest.mark.parametrize(("window", "cuts"), [({"start_id": 101}, [501, 901]), ({"end_id": 1000}, [401, 801])])
def test_width_reads_the_end_that_is_not_given(connection, plan: Planner, window, cuts) -> None:
    connection.execute("CREATE TABLE even AS SELECT n AS id FROM generate_series(1, 1200) AS n")
    made = plan("even", key="id", split="width", rows_per_range=400, **window)
    assert [one.start_id for one in made.ranges[1:]] == cuts


@pytest.mark.parametrize("window", [{"end_id": 50_000}, {"start_id": -9, "end_id": 50_000}, {"start_id": 200_000}])
def test_width_makes_few_ranges_of_a_window_without_rows(connection, plan: Planner, window) -> None:
    connection.execute("CREATE TABLE far AS SELECT 100000 + n AS id FROM generate_series(1, 1000) AS n; ANALYZE far")
    made = plan("far", key="id", split="width", rows_per_range=20_000, **window)
    assert len(made.ranges) == (3 if len(window) == 2 else 1)


def test_width_expects_unequal_ranges_of_a_skewed_key(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, split="width", ranges=10)
    expected = [one.expected_rows for one in made.ranges]
    assert expected == pytest.approx(sizes_of(connection, made), abs=2000)


@pytest.mark.parametrize(
    ("kind", "step", "cuts"),
    [
        ("date", "1 day", ["2024-01-26", "2024-02-20", "2024-03-16"]),
        ("timestamp", "1 second", ["2024-01-01 00:00:24", "2024-01-01 00:00:49", "2024-01-01 00:01:14"]),
        ("timestamptz", "1 second", ["2024-01-01 00:00:24", "2024-01-01 00:00:49", "2024-01-01 00:01:14"]),
    ],
)
def test_width_measures_time_without_infinity(connection, plan: Planner, kind, step, cuts) -> None:
    connection.execute(f"SET timezone = 'UTC'; CREATE TABLE times (at {kind})")
    connection.execute("INSERT INTO times VALUES ('infinity'), ('-infinity')")
    connection.execute(
        f"INSERT INTO times SELECT '2024-01-01'::{kind} + n * interval '{step}' FROM generate_series(0, 99) AS n"
    )
    made = plan("times", key="at", split="width", ranges=4)
    assert [one.lower[0][:19] for one in made.ranges if one.lower] == cuts


FAR_DATES = ("0044-03-15 BC", "10000-01-01", "20224-05-17")
"""In years that Python's datetime does not have."""


@pytest.fixture(params=["date", "timestamp", "timestamptz"])
def far(connection, request) -> str:
    """The name of a table with dates of 2024 and a few in years outside 1 to 9999."""
    connection.execute(
        f"SET timezone = 'Asia/Tokyo'; CREATE TABLE far (row_id bigserial, at {request.param} NOT NULL);"
        f"INSERT INTO far (at) SELECT '2024-01-01'::{request.param} + n * interval '1 day'"
        " FROM generate_series(0, 99) AS n;" + "".join(f"INSERT INTO far (at) VALUES ('{day}');" for day in FAR_DATES)
    )
    return "far"


@pytest.mark.parametrize("split", ["auto", "width", "histogram", "probed", "keyset"])
def test_years_outside_1_to_9999_are_in_exactly_one_range(connection, plan: Planner, far: str, split: str) -> None:
    connection.execute("CREATE INDEX ON far (at); ANALYZE far")
    made = plan(far, key="at", split=split, ranges=4)
    assert rows_in(connection, made) == rows_of(connection, far)
    assert max(sizes_of(connection, made)) <= 40


def test_width_puts_years_outside_1_to_9999_into_the_outer_ranges(connection, plan: Planner, far: str) -> None:
    made = plan(far, key="at", split="width", ranges=4)
    assert sizes_of(connection, made) == [26, 25, 25, 27]


def test_width_of_a_window_beyond_the_year_9999_is_one_range(connection, plan: Planner, far: str) -> None:
    made = plan(far, key="at", split="width", ranges=4, lower="9999-12-31", upper="30000-01-01")
    assert sizes_of(connection, made) == [2]


@pytest.mark.parametrize("upper", ["infinity", "30000-01-01"])
def test_width_measures_up_to_the_maximum_key_if_the_window_ends_later(connection, plan: Planner, far, upper) -> None:
    made = plan(far, key="at", split="width", ranges=4, lower="2024-01-01", upper=upper)
    assert sizes_of(connection, made) == [25, 25, 25, 27]


@pytest.mark.parametrize("value", ["-Infinity", "Infinity"])
def test_width_names_the_value_that_it_cannot_measure(connection, plan: Planner, value: str) -> None:
    connection.execute("CREATE TABLE far (k numeric); INSERT INTO far VALUES (1), (2), ('NaN')")
    connection.execute("INSERT INTO far VALUES (%s)", (value,))
    with pytest.raises(InvalidParameterError, match=f"'width' cannot measure the distance to {value}"):
        plan("far", key="k", split="width", ranges=2)


def test_width_of_only_infinity_is_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE times AS SELECT 'infinity'::date AS at FROM generate_series(1, 50)")
    assert len(plan("times", key="at", split="width", ranges=4).ranges) == 1


def test_the_server_reads_only_the_pages_of_a_range(connection, plan: Planner, skewed: str) -> None:
    made = plan(skewed, split="pages", ranges=8)
    assert made.needs_snapshot
    assert len(made.ranges) == 8
    assert balance(sizes_of(connection, made)) < 1.3  # the file may end with empty pages
    connection.execute("SET enable_seqscan = off")
    query = psycopg.sql.SQL("EXPLAIN SELECT FROM skewed WHERE {}").format(made.ranges[3].where)
    assert "Tid Range Scan" in connection.execute(query).fetchone()[0]


def test_one_range_of_pages_needs_no_snapshot(plan: Planner, skewed: str) -> None:
    assert not plan(skewed, split="pages", ranges=1).needs_snapshot


def test_single_makes_one_range(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    [only] = plan(skewed, split="single").ranges
    assert only.expected_rows == 50_000
    assert (only.lower, only.upper, only.nulls) == (None, None, False)


def test_rows_with_a_null_key_are_expected_in_their_range(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE loose AS SELECT CASE WHEN n % 4 > 0 THEN n END AS k FROM generate_series(1, 40000) AS n;"
        "CREATE INDEX ON loose (k); ANALYZE loose"
    )
    made = plan("loose", key="k", ranges=5)
    assert [one.nulls for one in made.ranges] == [False] * 5 + [True]
    assert made.ranges[-1].expected_rows == pytest.approx(10_000, rel=0.1)
    assert made.expected_rows == pytest.approx(40_000, rel=0.01)
    assert plan("loose", key="k", split="single").expected_rows == pytest.approx(40_000, rel=0.01)


def test_a_partitioned_table_can_be_one_range(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE top (k int PRIMARY KEY) PARTITION BY HASH (k);"
        "CREATE TABLE even PARTITION OF top FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE odd PARTITION OF top FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
    )
    assert [one.relation for one in plan("top", split="single").ranges] == [None]


@pytest.mark.parametrize("split", ["width", "histogram"])
def test_refine_cuts_the_ranges_that_are_too_large(connection, plan: Planner, skewed: str, split: str) -> None:
    connection.execute("ANALYZE skewed")
    connection.execute("INSERT INTO skewed SELECT 0, 20000000 + n FROM generate_series(1, 30000) n WHERE n % 5000 <> 0")
    loose, refined = (plan(skewed, split=split, ranges=RANGES, refine=refine) for refine in (False, True))
    assert max(sizes_of(connection, loose)) > 3 * 80_000 / RANGES
    assert max(sizes_of(connection, refined)) <= 1.6 * 80_000 / RANGES


def test_estimates_respect_where(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, where="row_id <= 25000 -- the older half", ranges=RANGES)
    assert made.expected_rows == pytest.approx(25_000, rel=0.1)
    assert len(plan(skewed, where="row_id <= 25000", rows_per_range=1000).ranges) == pytest.approx(25, abs=3)
