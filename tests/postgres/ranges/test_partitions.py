"""Partitioned tables: each partition is read separately where that gives the same rows."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.sizing import MIN_BYTES
from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import balance, rows_in, rows_of, sizes_of

DAYS = 10
MADE = """
    CREATE TABLE events (row_id bigint NOT NULL, day date NOT NULL, PRIMARY KEY (row_id, day)) PARTITION BY RANGE (day);
    INSERT INTO events
    SELECT n, date '2024-01-01' + n % 10 FROM generate_series(1, 4000) AS n;
    ANALYZE events;
"""


@pytest.fixture
def events(connection: psycopg.Connection) -> str:
    """A table with a partition a day, 400 rows each."""
    create, fill, analyse = MADE.strip().split(";\n")
    connection.execute(create)
    for day in range(1, DAYS + 1):
        connection.execute(
            sql.SQL("CREATE TABLE {} PARTITION OF events FOR VALUES FROM ({}) TO ({})").format(
                sql.Identifier(f"events_{day:02}"),
                sql.Literal(f"2024-01-{day:02}"),
                sql.Literal(f"2024-01-{day + 1:02}"),
            )
        )
    connection.execute(fill)
    flush_counters(connection)
    connection.execute(analyse)
    return "events"


@pytest.fixture
def reader(connection: psycopg.Connection) -> str:
    """A role that may read ``events``, but not its partitions by their own names."""
    name = f"reader_{connection.info.backend_pid}"
    connection.execute(f"CREATE ROLE {name}; GRANT SELECT ON events TO {name}")
    yield name
    connection.execute(f"RESET ROLE; DROP OWNED BY {name}; DROP ROLE {name}")


def relations(made) -> list[str | None]:
    return [one.relation and one.relation[1] for one in made.ranges]


def test_every_partition_gets_separate_ranges(connection, plan: Planner, events: str) -> None:
    made = plan(events, ranges=20)
    assert relations(made) == [f"events_{day:02}" for day in range(1, DAYS + 1) for _ in (1, 2)]
    assert balance(sizes_of(connection, made)) < 1.5
    assert rows_in(connection, made) == rows_of(connection, events)


def test_the_requested_number_of_ranges_is_kept_if_there_are_more_partitions(connection, plan: Planner, events) -> None:
    made = plan(events, ranges=4)
    assert relations(made) == [None] * 4
    assert rows_in(connection, made) == rows_of(connection, events)


def test_statistics_of_the_whole_table_are_trusted_while_its_size_is_the_same(
    connection, plan: Planner, events: str
) -> None:
    assert plan(events, ranges=4).strategy == "histogram"
    connection.execute("INSERT INTO events SELECT n, '2024-01-09' FROM generate_series(10001, 12000) AS n")
    # Autovacuum never analyzes the partitioned table itself; its partitions have fresh statistics.
    connection.execute("ANALYZE events_09")
    made = plan(events, ranges=4)
    assert made.strategy == "keyset"
    assert "rows changed since the last ANALYZE" in made.reason
    assert balance(sizes_of(connection, made)) < 1.1


def test_partitions_outside_the_window_are_left_out(connection, plan: Planner, events: str) -> None:
    made = plan(events, key="day", lower="2024-01-03", upper="2024-01-05")
    assert relations(made) == ["events_03", "events_04"]
    assert rows_in(connection, made) == rows_of(connection, events, "day IN ('2024-01-03', '2024-01-04')")


def test_a_window_beyond_all_partitions_has_no_ranges(plan: Planner, events: str) -> None:
    made = plan(events, key="day", lower="2025-01-01")
    assert made.ranges == ()
    assert made.reason == "No partition has rows in the window."


def test_pages_are_read_partition_by_partition(connection, plan: Planner, events: str) -> None:
    made = plan(events, split="pages", rows_per_range=200)
    assert set(relations(made)) == {f"events_{day:02}" for day in range(1, DAYS + 1)}
    assert made.needs_snapshot
    assert rows_in(connection, made) == rows_of(connection, events)


def test_partitions_that_the_role_cannot_read_are_read_through_the_table(
    connection, plan: Planner, events: str, reader: str
) -> None:
    connection.execute(f"SET ROLE {reader}")
    made = plan(events, ranges=20)
    assert set(relations(made)) == {None}
    assert rows_in(connection, made) == rows_of(connection, events)


def test_a_policy_of_the_table_applies_to_the_plan(connection, plan: Planner, events: str, reader: str) -> None:
    connection.execute("ALTER TABLE events ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY early ON events USING (row_id <= 1000)")
    connection.execute("".join(f"GRANT SELECT ON events_{day:02} TO {reader};" for day in range(1, DAYS + 1)))
    connection.execute(f"SET ROLE {reader}")
    made = plan(events, ranges=20)
    assert set(relations(made)) == {None}
    assert rows_in(connection, made) == list(range(1, 1001))


def test_pages_of_partitions_that_the_role_cannot_read_are_refused(
    connection, plan: Planner, events: str, reader: str
) -> None:
    connection.execute(f"SET ROLE {reader}")
    with pytest.raises(InvalidParameterError, match=r"split: public\.events is a partitioned table, whose pages"):
        plan(events, split="pages")


def test_only_the_partition_without_statistics_is_walked(connection, plan: Planner, events) -> None:
    connection.execute(
        "CREATE TABLE events_11 PARTITION OF events FOR VALUES FROM ('2024-01-11') TO ('2024-01-12');"
        "INSERT INTO events SELECT n, '2024-01-11' FROM generate_series(10001, 10400) AS n"
    )
    made = plan(events, rows_per_range=100)
    assert made.strategy == "histogram, keyset"
    assert made.reason == (
        "10 partitions by histogram: the statistics are fresh, so the planner read no rows;"
        " 1 partition by keyset: there are no statistics of the key, so the planner scanned the index."
    )
    assert rows_in(connection, made) == rows_of(connection, events)


@pytest.mark.parametrize("analysed", ["fat_1", None])
def test_a_partition_without_statistics_does_not_make_huge_ranges(connection, plan: Planner, analysed) -> None:
    connection.execute(
        "CREATE TABLE fat (id int PRIMARY KEY, doc text) PARTITION BY RANGE (id);"
        "ALTER TABLE fat ALTER doc SET STORAGE EXTERNAL;"
        "CREATE TABLE fat_1 PARTITION OF fat FOR VALUES FROM (1) TO (2001);"
        "CREATE TABLE fat_2 PARTITION OF fat FOR VALUES FROM (2001) TO (4001);"
        "INSERT INTO fat SELECT n, repeat('x', 20000) FROM generate_series(1, 4000) AS n"
    )
    if analysed:
        connection.execute(f"ANALYZE {analysed}")
    made = plan("fat")
    assert balance(sizes_of(connection, made)) < 1.6
    assert max(sizes_of(connection, made)) * 20_000 < 2 * MIN_BYTES


def test_one_partition_without_statistics_does_not_make_those_of_the_table_stale(
    connection, plan: Planner, events
) -> None:
    connection.execute("CREATE TABLE events_11 PARTITION OF events FOR VALUES FROM ('2024-01-11') TO ('2024-01-12')")
    connection.execute("INSERT INTO events VALUES (10001, '2024-01-11')")
    made = plan(events, ranges=5)
    assert made.reason == "The statistics are fresh, so the planner read no rows."


def test_the_rows_of_inheriting_children_are_read_with_their_parent(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE TABLE parent (row_id bigint NOT NULL); CREATE TABLE child () INHERITS (parent);"
        "INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO child SELECT generate_series(101, 1000)"
    )
    made = plan("parent", key="row_id", ranges=7)
    assert set(relations(made)) == {None}
    assert rows_in(connection, made) == list(range(1, 1001))


def test_a_table_without_partitions_has_no_ranges(connection, plan: Planner) -> None:
    connection.execute("CREATE TABLE future (id bigint PRIMARY KEY) PARTITION BY RANGE (id)")
    assert plan("future").ranges == ()


def test_partitions_may_be_in_a_schema_outside_the_search_path(connection, plan: Planner) -> None:
    connection.execute(
        "CREATE SCHEMA archive; CREATE TABLE parted (row_id int PRIMARY KEY) PARTITION BY RANGE (row_id)"
    )
    for number in range(2):
        bounds = f"FROM ({number * 5000}) TO ({number * 5000 + 5000})"
        connection.execute(f"CREATE TABLE archive.part_{number} PARTITION OF parted FOR VALUES {bounds}")
    connection.execute("INSERT INTO parted SELECT generate_series(0, 9999); ANALYZE parted")
    made = plan("parted", split="keyset", ranges=10)
    assert {one.relation for one in made.ranges} == {("archive", "part_0"), ("archive", "part_1")}
    assert rows_in(connection, made) == list(range(10_000))
    assert sizes_of(connection, made) == [one.expected_rows for one in made.ranges]


KEYS = {
    "bigint": "n * n",
    "text": "md5(n::text)",
    "date": "date '2000-01-01' + n",
    "numeric": "n / 7.0",
    "integer": "CASE WHEN n % 3 > 0 THEN n END",
}
PARTS = {
    "spread": "n % 4",
    "one after the other": "n / 12000",
    "of different sizes": "CASE WHEN n % 50 > 2 THEN 0 ELSE n % 50 + 1 END",
}


@pytest.mark.parametrize("type_", KEYS)
@pytest.mark.parametrize("parts", PARTS)
def test_a_partitioned_table_is_cut_as_a_whole_by_the_statistics_of_its_partitions(
    connection, plan: Planner, type_, parts
) -> None:
    connection.execute(f"CREATE TABLE t (row_id int, part int, k {type_}) PARTITION BY LIST (part)")
    for number in range(4):
        connection.execute(f"CREATE TABLE t_{number} PARTITION OF t FOR VALUES IN ({number})")
    connection.execute(
        f"INSERT INTO t SELECT n, {PARTS[parts]}, {KEYS[type_]} FROM generate_series(1, 40000) AS n;"
        "CREATE INDEX ON t (k)"
    )
    flush_counters(connection)
    connection.execute("ANALYZE t_0; ANALYZE t_1; ANALYZE t_2; ANALYZE t_3")
    bounds = {"lower": "2010-01-01", "upper": "2080-01-01"} if type_ == "date" else {}
    made = plan("t", key="k", ranges=25, by_partition=False, **bounds)
    assert made.strategy == "histogram"
    assert {one.relation for one in made.ranges} == {None}
    sizes = [size for size, one in zip(sizes_of(connection, made), made.ranges, strict=True) if not one.nulls]
    assert len(sizes) >= 23
    assert balance(sizes) < 1.5
    condition = "k >= '2010-01-01' AND k < '2080-01-01'" if bounds else "TRUE"
    assert rows_in(connection, made) == rows_of(connection, "t", condition)


def test_statistics_of_some_partitions_are_not_those_of_the_table(connection, plan: Planner, events: str) -> None:
    connection.execute("DELETE FROM pg_statistic WHERE starelid = 'events'::regclass AND stainherit")
    assert plan(events, ranges=4).strategy == "histogram"
    connection.execute(
        "CREATE TABLE events_11 PARTITION OF events FOR VALUES FROM ('2024-01-11') TO ('2024-01-12');"
        "INSERT INTO events SELECT n, '2024-01-11' FROM generate_series(10001, 11000) AS n"
    )
    made = plan(events, ranges=4)
    assert made.strategy == "keyset"
    assert balance(sizes_of(connection, made)) < 1.1
