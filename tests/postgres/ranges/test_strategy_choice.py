"""The strategy that split="auto" chooses, and the reason that it gives."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import balance, rows_in, rows_of, sizes_of

RANGES = 32


def test_fresh_statistics_are_trusted(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "histogram"
    assert made.reason == "The statistics are fresh, so the planner read no rows."


def test_a_table_that_was_never_analysed_is_walked(connection, plan: Planner, skewed: str) -> None:
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "keyset"
    assert made.reason == "There are no statistics of the key, so the planner scanned the index."
    assert balance(sizes_of(connection, made)) < 1.1


def test_stale_statistics_are_not_trusted(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    connection.execute("INSERT INTO skewed SELECT n, 60000000 + n FROM generate_series(100001, 130000) AS n")
    flush_counters(connection)
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "keyset"
    assert made.reason == "About 30,000 rows changed since the last ANALYZE, so the planner scanned the index."
    assert balance(sizes_of(connection, made)) < 1.1


def test_a_few_new_rows_after_the_last_bound_are_found(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    connection.execute("INSERT INTO skewed SELECT n, 60000000 + n FROM generate_series(100001, 104500) AS n")
    flush_counters(connection)
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "histogram"
    assert balance(sizes_of(connection, made)) < 1.8


def test_statistics_of_a_table_without_a_row_count_are_not_trusted(connection, plan: Planner, skewed) -> None:
    # So it is on a hot standby after TRUNCATE and a new load: its own counter of changes stays at 0.
    connection.execute("ANALYZE skewed")
    connection.execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE relname = 'skewed'")
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "keyset"
    assert made.reason == "Row changes since the last ANALYZE are unknown, so the planner scanned the index."


def test_a_role_that_sees_no_statistics_gets_balanced_ranges(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    connection.execute("ALTER TABLE skewed ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY odd ON skewed USING (row_id % 2 = 1)")
    connection.execute("DROP ROLE IF EXISTS planner_reader")
    connection.execute("CREATE ROLE planner_reader; GRANT SELECT ON skewed TO planner_reader")
    connection.execute("SET ROLE planner_reader")
    made = plan(skewed, ranges=RANGES)
    assert made.strategy == "keyset"
    assert made.expected_rows == 25_000
    assert balance(sizes_of(connection, made)) < 1.1
    connection.execute("RESET ROLE; DROP OWNED BY planner_reader; DROP ROLE planner_reader")


def test_a_small_table_without_statistics_is_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small SELECT generate_series(1, 5000)")
    assert plan("small").strategy == "single"
    connection.execute("INSERT INTO small SELECT generate_series(5001, 50000)")
    assert plan("small").strategy == "keyset"


def test_a_small_table_is_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE small AS SELECT generate_series(1, 5000) AS id")
    connection.execute("ALTER TABLE small ADD PRIMARY KEY (id); ANALYZE small")
    made = plan("small")
    assert made.strategy == "single"
    assert made.reason == "About 5,000 rows fit into one range."


def test_a_table_that_only_looks_small_is_split(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE events (id bigint PRIMARY KEY); INSERT INTO events VALUES (1); ANALYZE events")
    connection.execute("INSERT INTO events SELECT generate_series(2, 60000)")
    # No row of the window was there when the statistics were made.
    made = plan("events", start_id=2)
    assert made.strategy == "keyset"
    assert len(made.ranges) > 3
    assert balance(sizes_of(connection, made)) < 1.3


@pytest.mark.parametrize("split", ["auto", "keyset"])
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("freeze", [True, False])
def test_a_key_that_was_filled_since_analyze_is_split(connection, plan: Planner, split, indexed, freeze) -> None:
    connection.execute("CREATE TABLE filled AS SELECT n AS row_id, NULL::bigint AS k FROM generate_series(1, 60000) n")
    if indexed:
        connection.execute("CREATE INDEX ON filled (k)")
    connection.execute("ANALYZE filled; UPDATE filled SET k = row_id")
    made = plan("filled", key="k", split=split, ranges=8, freeze_upper=freeze)
    assert made.ranges[-1].nulls
    assert len(made.ranges) == 8 + 1
    assert balance(sizes_of(connection, made)[:-1]) < 1.3
    assert made.expected_rows == pytest.approx(60_000, rel=0.01)


def test_keys_that_are_all_null_are_expected_in_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE nulls AS SELECT NULL::int AS k FROM generate_series(1, 3000); ANALYZE nulls")
    made = plan("nulls", key="k", split="keyset", ranges=8)
    assert [one.expected_rows for one in made.ranges] == [3000]


def test_a_table_without_a_key_is_split_by_its_pages(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE lines AS SELECT n, repeat('x', 400) FROM generate_series(1, 60000) AS n")
    made = plan("lines")
    assert made.strategy == "pages"
    assert made.needs_snapshot
    assert len(made.ranges) > 3


def test_a_small_table_without_a_key_is_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE lines AS SELECT n FROM generate_series(1, 60) AS n")
    made = plan("lines")
    assert (made.strategy, made.key.names, made.needs_snapshot) == ("single", (), False)


def test_the_reason_of_a_strategy_that_was_set_names_the_parameter(connection, plan: Planner, skewed: str) -> None:
    assert plan(skewed, split="width", ranges=4).reason == "Set by split='width'."


@pytest.mark.parametrize("asked", [{"ranges": 3}, {"rows_per_range": 1000}])
def test_a_small_table_without_a_key_is_split_if_requested(connection, plan: Planner, asked: dict) -> None:
    connection.execute("CREATE TABLE lines AS SELECT n, repeat('x', 400) FROM generate_series(1, 3000) AS n")
    connection.execute("ANALYZE lines")
    made = plan("lines", **asked)
    assert (made.strategy, len(made.ranges)) == ("pages", 3)


def test_the_error_for_a_missing_key_names_indexed_columns(connection, plan: Planner) -> None:
    connection.execute("CREATE MATERIALIZED VIEW lines AS SELECT n, n % 3 AS m FROM generate_series(1, 60) AS n")
    connection.execute("CREATE INDEX ON lines (n); CREATE INDEX ON lines (m)")
    with pytest.raises(InvalidParameterError, match=r"a materialized view and .*: there is an index on m, n\."):
        plan("lines", split="keyset")


def test_ranges_finer_than_the_statistics_are_walked(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, ranges=400)
    assert made.strategy == "keyset"
    assert made.reason == "400 ranges are finer than the statistics of id, so the planner scanned the index."


def test_stale_statistics_of_a_large_table_are_probed(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE large AS SELECT n AS id FROM generate_series(1, 600000) AS n")
    connection.execute("ALTER TABLE large ADD PRIMARY KEY (id)")
    flush_counters(connection)
    connection.execute("ANALYZE large")
    connection.execute("INSERT INTO large SELECT generate_series(600001, 800000)")
    connection.execute("DELETE FROM large WHERE id BETWEEN 100000 AND 150000")
    flush_counters(connection)
    made = plan("large", ranges=RANGES)
    assert made.strategy == "probed"
    assert made.reason == (
        "About 250,001 rows changed since the last ANALYZE, so the planner probed the index and scanned it where rows"
        " are unevenly spread."
    )
    assert balance(sizes_of(connection, made)) < 1.6


def test_ranges_finer_than_the_steps_of_a_walk_are_cut_by_distance_within_max_ranges(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE large AS SELECT n * 7 AS id FROM generate_series(1, 600000) AS n")
    connection.execute("ALTER TABLE large ADD PRIMARY KEY (id); ANALYZE large")
    connection.execute("INSERT INTO large SELECT 4200000 + n * 7 FROM generate_series(1, 10000) AS n")
    made = plan("large", ranges=12_000, max_ranges=12_000)
    assert made.strategy == "probed"
    assert 11_000 < len(made.ranges) <= 12_000
    ends = (*made.ranges[:3], *made.ranges[-3:])
    assert balance(sizes_of(connection, replace(made, ranges=(*made.ranges[40:-1:40], *ends)))) < 1.6
    assert len(plan("large", ranges=12_000).ranges) > 12_000
    # Also where fewer were asked for than there may be.
    made = plan("large", ranges=11_990, max_ranges=12_000)
    assert balance(sizes_of(connection, replace(made, ranges=(*made.ranges[:3], *made.ranges[-3:])))) < 1.6


READ = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'known'"


@pytest.fixture
def known(connection) -> str:
    """Freshly analysed; every third row has the same key, which is in the middle."""
    connection.execute(
        "CREATE TABLE known AS"
        " SELECT CASE WHEN n % 3 = 0 THEN 60000 ELSE n END AS k FROM generate_series(1, 120000) AS n"
    )
    connection.execute("CREATE INDEX ON known (k); ALTER TABLE known ALTER k SET NOT NULL")
    flush_counters(connection)
    connection.execute("ANALYZE known")
    return "known"


def test_fresh_statistics_are_used_without_reading_the_index(connection, plan: Planner, known: str) -> None:
    (before,) = connection.execute(READ).fetchone()
    assert plan(known, key="k", ranges=80).strategy == "histogram"
    flush_counters(connection)
    assert connection.execute(READ).fetchone() == (before,)


def test_rows_inserted_since_analyze_are_found_at_both_ends(connection, plan: Planner, known: str) -> None:
    connection.execute("INSERT INTO known SELECT -n FROM generate_series(1, 5000) AS n")
    flush_counters(connection)
    made = plan(known, key="k", ranges=40)
    assert made.strategy == "histogram"
    assert max(sizes_of(connection, made)[:3]) < 1.6 * 125_000 / 40


def test_a_key_without_an_index_is_cut_by_its_statistics(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, key="row_id", ranges=RANGES)
    assert made.strategy == "histogram"
    assert made.hints == (
        "No index has the order of row_id. Every range reads the whole table, unless another index finds its rows.",
    )


def test_the_reason_names_the_sort_of_a_key_without_an_index(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE heap AS SELECT n % 9973 AS day, n FROM generate_series(1, 20000) AS n")
    connection.execute("ANALYZE heap")
    made = plan("heap", key="day", ranges=RANGES, refine=True)
    assert made.strategy == "keyset"
    assert made.reason == (
        "Refine requests exact ranges, so the planner sorted the table once, because no index has the order of the key."
    )
    assert balance(sizes_of(connection, made)) < 1.1


def test_a_tenant_with_most_of_the_rows_is_cut_by_the_second_column(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE owned AS SELECT CASE WHEN n % 5 = 0 THEN n % 97 ELSE 1 END AS tenant, n AS id"
        " FROM generate_series(1, 20000) AS n"
    )
    connection.execute("ALTER TABLE owned ADD PRIMARY KEY (tenant, id); ANALYZE owned")
    made = plan("owned", ranges=RANGES)
    assert made.strategy == "histogram"
    assert (
        made.reason
        == "The statistics are fresh, so the planner read only the index entries of frequent values of tenant."
    )
    assert balance(sizes_of(connection, made)) < 1.6


def test_an_even_tenant_is_cut_by_distance_and_an_uneven_one_by_its_rows(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE owned AS"
        " SELECT t AS tenant, CASE t WHEN 1 THEN 10 ^ 9 + n * 20 + n * n % 11 ELSE n::bigint * n END::bigint AS id"
        " FROM generate_series(1, 2) AS t, generate_series(1, 20000) AS n"
    )
    connection.execute("ALTER TABLE owned ADD PRIMARY KEY (tenant, id); ANALYZE owned")
    made = plan("owned", ranges=RANGES)
    assert balance(sizes_of(connection, made)) < 1.6
    steps = {"1": [], "2": []}
    for one, other in pairwise(made.ranges):
        if one.lower and other.lower and one.lower[0] == other.lower[0]:
            steps[one.lower[0]].append(int(other.lower[1]) - int(one.lower[1]))
    assert len(steps["1"]) > 12
    assert max(one.expected_rows for one in made.ranges) < 1.6 * 40000 / RANGES
    assert max(steps["1"]) - min(steps["1"]) <= 1
    assert max(steps["2"]) > 3 * min(steps["2"])


@pytest.mark.parametrize(
    ("columns", "rest"),
    [
        ("n AS id, 7::smallint AS line", ("-32768",)),
        ("timestamptz '2024-01-01 00:00Z' + n * interval '1 minute' AS id", ()),
    ],
)
def test_the_rows_of_an_even_tenant_are_cut_by_distance_whatever_its_key(
    connection, plan: Planner, columns, rest
) -> None:
    connection.execute("SET timezone = 'UTC'")
    connection.execute(f"CREATE TABLE owned AS SELECT 1 AS tenant, {columns} FROM generate_series(1, 40000) AS n")
    key = ["tenant", "id", *["line"] * len(rest)]
    connection.execute(f"ALTER TABLE owned ADD PRIMARY KEY ({', '.join(key)})")
    flush_counters(connection)
    connection.execute("ANALYZE owned")
    made = plan("owned", ranges=RANGES)
    assert made.strategy == "histogram"
    assert {one.lower[2:] for one in made.ranges[1:] if one.lower} == {rest}
    sizes = sizes_of(connection, made)
    assert len(sizes) == RANGES
    assert max(sizes) - min(sizes) <= 2


def test_many_tenants_are_cut_between_them_without_reading_rows(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE owned AS SELECT n % 5000 AS tenant, n AS id FROM generate_series(1, 20000) AS n")
    connection.execute("ALTER TABLE owned ADD PRIMARY KEY (tenant, id); ANALYZE owned")
    made = plan("owned", ranges=RANGES)
    assert made.strategy == "histogram"
    assert balance(sizes_of(connection, made)) < 1.6


def test_where_is_applied_to_the_estimate_of_rows_with_a_null_key(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE partly AS"
        " SELECT CASE WHEN n % 4 > 0 THEN n END AS id, n % 2 AS odd FROM generate_series(1, 40000) AS n"
    )
    connection.execute("ANALYZE partly")
    made = plan("partly", key="id", ranges=4, where="odd = 1")
    assert made.ranges[-1].nulls
    assert made.ranges[-1].expected_rows == pytest.approx(5000, rel=0.1)
    assert made.expected_rows == pytest.approx(20_000, rel=0.1)


def test_a_view_is_split_by_a_given_key(connection, plan: Planner, skewed: str) -> None:
    connection.execute("CREATE VIEW seen AS SELECT * FROM skewed WHERE row_id > 10000")
    made = plan("seen", key="id", ranges=8)
    assert made.strategy == "keyset"
    assert balance(sizes_of(connection, made)) < 1.3
    assert rows_in(connection, made) == rows_of(connection, "seen")


def test_the_rows_of_a_view_are_counted_before_it_becomes_one_range(connection, plan: Planner) -> None:
    connection.execute("CREATE VIEW seen AS SELECT n AS id FROM generate_series(1, 60000) AS n")
    made = plan("seen", key="id", start_id=1, end_id=60000)
    assert made.strategy == "keyset"
    assert len(made.ranges) > 3
    assert balance(sizes_of(connection, made)) < 1.3


def test_a_key_whose_later_column_has_no_known_minimum_is_walked(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE paid AS SELECT n % 5 AS tenant, n::numeric AS amount FROM generate_series(1, 30000) n"
    )
    connection.execute("ALTER TABLE paid ADD PRIMARY KEY (tenant, amount); ANALYZE paid")
    made = plan("paid", ranges=8)
    assert made.reason == "The statistics contain no usable bounds, so the planner scanned the index."
    with pytest.raises(
        InvalidParameterError, match=r"the statistics of tenant, amount contain no usable bounds\. Use split='keyset'"
    ):
        plan("paid", split="histogram")


def test_a_foreign_table_is_split_by_a_given_key(connection, database: str, plan: Planner, skewed: str) -> None:
    try:
        connection.execute("CREATE EXTENSION postgres_fdw")
    except psycopg.Error:
        pytest.skip("This server has no postgres_fdw.")
    there = psycopg.conninfo.conninfo_to_dict(database)
    connection.execute(
        f"CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '{there['host']}', port '{there['port']}', dbname '{there['dbname']}');"
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user 'postgres', password '{there['password']}');"
        f"CREATE FOREIGN TABLE far (row_id int, id bigint NOT NULL) SERVER self OPTIONS (table_name 'skewed')"
    )
    made = plan("far", key="id", ranges=8)
    assert balance(sizes_of(connection, made)) < 1.1


def test_refine_means_exact_ranges(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    made = plan(skewed, ranges=RANGES, refine=True)
    assert made.strategy == "keyset"
    assert balance(sizes_of(connection, made)) < 1.1


def test_workers_get_a_dozen_ranges_each(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE wide AS SELECT n AS id, repeat('x', 100) FROM generate_series(1, 200000) AS n")
    connection.execute("ALTER TABLE wide ADD PRIMARY KEY (id); ANALYZE wide")
    assert len(plan("wide", parallelism=1).ranges) == 12
    assert len(plan("wide", parallelism=20).ranges) == 20  # of 10,000 rows, not less
