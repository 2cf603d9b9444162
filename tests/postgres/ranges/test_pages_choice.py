"""When "auto" splits a table that has a key by its physical pages, and when it keeps the key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.ranges import pages_choice
from burla_provider.ranges.window import WindowLimits
from tests.postgres.ranges.covering import balance, rows_in, rows_of, sizes_of
from tests.postgres.ranges.jobs import plan_job

READS_PAGES = "The job needs no key, and in one snapshot each physical page is read only once."


@pytest.fixture
def table(connection: psycopg.Connection) -> str:
    """The name of a table with 60,000 rows of about 200 bytes, in an order that is not that of the key."""
    connection.execute("""
        CREATE TABLE t (row_id bigint PRIMARY KEY, tenant int, at timestamp, amount int, note text);
        INSERT INTO t SELECT n, n % 200, timestamp '2024-01-01' + n * interval '1 minute', n % 77, repeat('x', 150)
        FROM generate_series(1, 60000) AS n ORDER BY hashint8(n);
        CREATE INDEX ON t (at);
    """)
    connection.execute("VACUUM ANALYZE t")
    return "t"


def test_a_job_that_needs_no_key_reads_pages(connection, table: str) -> None:
    made = plan_job(connection, table)
    assert (made.strategy, made.reason) == ("pages", READS_PAGES)
    assert made.needs_snapshot
    assert balance(sizes_of(connection, made)) < 1.1
    assert rows_in(connection, made) == rows_of(connection, table)


@pytest.mark.parametrize(
    "request_",
    [
        {"key": "row_id"},
        {"refine": True},
        {"limits": WindowLimits(start_id=1)},
        {"limits": WindowLimits(upper=50_000)},
        {"split": "keyset"},
        {"rows_per_range": 3},
        {"ranges": 5_000},
        {"ranges": 1},
    ],
)
def test_some_requests_need_the_key(connection, table: str, request_: dict[str, Any]) -> None:
    made = plan_job(connection, table, **request_)
    assert made.key.names == ("row_id",)
    assert "pages" not in made.reason


@pytest.mark.parametrize(("request_", "ranges"), [({"ranges": 40}, 40), ({"rows_per_range": 1_000}, 60)])
def test_the_requested_size_holds_for_pages(connection, table: str, request_: dict[str, int], ranges: int) -> None:
    made = plan_job(connection, table, **request_)
    assert (made.strategy, len(made.ranges)) == ("pages", ranges)
    assert balance(sizes_of(connection, made)) < 1.1


def test_a_small_table_stays_one_range_of_its_key(connection) -> None:
    connection.execute("CREATE TABLE t (row_id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5000)")
    for _ in range(2):
        made = plan_job(connection, "t")
        assert (made.strategy, made.key.names, len(made.ranges)) == ("single", ("row_id",), 1)
        connection.execute("ANALYZE t")


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("size", [{}, {"ranges": 8}, {"rows_per_range": 1}])
def test_empty_tables_and_tables_of_one_page_are_covered(connection, rows: int, size: dict[str, int]) -> None:
    connection.execute("CREATE TABLE t (row_id int PRIMARY KEY)")
    connection.execute("INSERT INTO t SELECT generate_series(1, %s)", [rows])
    made = plan_job(connection, "t", **size)
    assert made.key.names == ("row_id",)
    assert rows_in(connection, made) == rows_of(connection, "t")


def test_a_table_that_was_never_analyzed_is_split_by_its_size(connection) -> None:
    connection.execute("CREATE TABLE t (row_id int PRIMARY KEY, note text)")
    connection.execute("INSERT INTO t SELECT n, repeat('x', 150) FROM generate_series(1, 60000) AS n")
    made = plan_job(connection, "t", ranges=20)
    assert (made.strategy, len(made.ranges)) == ("pages", 20)
    assert balance(sizes_of(connection, made)) < 1.1


def test_the_size_now_counts_not_the_size_at_the_last_analyze(connection, table: str) -> None:
    connection.execute("INSERT INTO t SELECT n, 1, now(), 1, repeat('x', 150) FROM generate_series(60001, 180000) AS n")
    made = plan_job(connection, table, ranges=30)
    assert balance(sizes_of(connection, made)) < 1.1
    assert made.expected_rows == pytest.approx(180_000, rel=0.05)


def test_a_table_that_grows_after_planning_is_covered(connection, table: str) -> None:
    made = plan_job(connection, table, ranges=8)
    connection.execute("INSERT INTO t SELECT n, 1, now(), 1, repeat('x', 150) FROM generate_series(60001, 70000) AS n")
    assert rows_in(connection, made) == rows_of(connection, table)


def test_a_bloated_table_is_balanced_by_pages(connection, table: str) -> None:
    connection.execute("DELETE FROM t WHERE row_id % 10 > 0")
    connection.execute("ANALYZE t")
    made = plan_job(connection, table, rows_per_range=500)
    assert (made.strategy, len(made.ranges)) == ("pages", 12)
    assert balance(sizes_of(connection, made)) < 1.3
    assert rows_in(connection, made) == rows_of(connection, table)


def test_large_values_outside_of_the_pages_make_more_ranges(connection) -> None:
    connection.execute("CREATE TABLE t (row_id int PRIMARY KEY, document text)")
    connection.execute("ALTER TABLE t ALTER document SET STORAGE EXTERNAL")
    connection.execute("INSERT INTO t SELECT n, repeat('x', 20000) FROM generate_series(1, 5000) AS n")
    connection.execute("ANALYZE t")
    # 100 MB, of which 36 pages have rows: by their number alone, they would be one range.
    made = plan_job(connection, "t")
    assert (made.strategy, len(made.ranges)) == ("pages", 7)
    assert balance(sizes_of(connection, made)) < 1.2
    # A page has 2.8 MB of documents. Smaller ranges need the key.
    assert plan_job(connection, "t", ranges=30).key.names == ("row_id",)


def test_an_index_of_the_key_that_finds_the_rows_is_used(connection, table: str) -> None:
    made = plan_job(connection, table, where="row_id < 100")
    assert made.key.names == ("row_id",)
    assert made.reason.endswith("The index t_pkey contains the key and is cheaper than reading all pages.")
    assert plan_job(connection, table, where="row_id > 100").strategy == "pages"


def test_an_index_that_has_the_key_after_the_column_of_the_condition_is_used(connection, table: str) -> None:
    assert plan_job(connection, table, where="tenant = 3", columns=("amount",)).strategy == "pages"
    connection.execute("CREATE INDEX of_tenant ON t (tenant, row_id)")
    made = plan_job(connection, table, where="tenant = 3", columns=("amount",))
    assert made.key.names == ("row_id",)
    assert "The index of_tenant contains the key" in made.reason


def test_an_index_without_the_key_serves_ranges_of_pages_too(connection, table: str) -> None:
    where = "at < '2024-01-01 00:20'"
    made = plan_job(connection, table, where=where, ranges=8)
    assert made.strategy == "pages"
    query = psycopg.sql.SQL("EXPLAIN SELECT FROM t WHERE {} AND " + where).format(made.ranges[3].where)
    assert "t_at_idx" in str(connection.execute(query).fetchall())


def test_an_index_that_has_all_columns_is_read_instead_of_wide_rows(connection) -> None:
    connection.execute("SET synchronous_commit = on")  # otherwise, VACUUM does not know yet that the rows are committed
    connection.execute("CREATE TABLE t (row_id int PRIMARY KEY, note text)")
    connection.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 30000) AS n")
    connection.execute("VACUUM ANALYZE t")
    made = plan_job(connection, "t")
    assert made.key.names == ("row_id",)
    assert "The index t_pkey contains the key" in made.reason
    assert plan_job(connection, "t", columns=("note",)).strategy == "pages"


def test_pages_are_not_scanned_in_parallel_nor_the_table_for_each_range(connection, table: str) -> None:
    made = plan_job(connection, table, ranges=8, where="amount < 70")
    connection.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
    for setting in ("enable_seqscan = off", "max_parallel_workers_per_gather = 0"):  # as on a worker
        connection.execute(f"SET {setting}")
    for one in made.ranges:
        query = psycopg.sql.SQL("EXPLAIN SELECT sum(amount) FROM t WHERE {} AND amount < 70").format(one.where)
        text = str(connection.execute(query).fetchall())
        assert "Tid Range Scan" in text
        assert "Parallel" not in text


def test_row_security_needs_the_key(connection, table: str) -> None:
    connection.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY odd ON t USING (row_id % 2 = 1)")
    connection.execute("DROP ROLE IF EXISTS pages_reader; CREATE ROLE pages_reader; GRANT SELECT ON t TO pages_reader")
    connection.execute("SET ROLE pages_reader")
    made = plan_job(connection, table, ranges=8)
    assert made.key.names == ("row_id",)
    assert rows_in(connection, made) == rows_of(connection, table)
    connection.execute("RESET ROLE; DROP OWNED BY pages_reader; DROP ROLE pages_reader")


def test_children_of_an_inherited_table_need_the_key(connection, table: str) -> None:
    connection.execute("CREATE TABLE child () INHERITS (t); INSERT INTO child SELECT 60001")
    made = plan_job(connection, table, ranges=8)
    assert made.key.names == ("row_id",)
    assert rows_in(connection, made) == rows_of(connection, table)


def test_a_server_without_scans_of_pages_needs_the_key(connection, table: str, monkeypatch) -> None:
    monkeypatch.setattr(pages_choice, "_TID_RANGE_SCAN_SINCE", connection.info.server_version + 1)
    assert plan_job(connection, table).key.names == ("row_id",)


def test_a_materialized_view_with_a_key_is_read_by_pages(connection, table: str) -> None:
    connection.execute("CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE UNIQUE INDEX ON m (row_id); ANALYZE m")
    assert plan_job(connection, "m").strategy == "pages"


def create_partitions(connection: psycopg.Connection, leaves: int, rows: int) -> None:
    connection.execute("CREATE TABLE p (row_id int PRIMARY KEY, note text) PARTITION BY RANGE (row_id)")
    for number in range(leaves):
        bounds = f"FROM ({number * 10_000}) TO ({(number + 1) * 10_000})"
        connection.execute(f"CREATE TABLE p_{number:03} PARTITION OF p FOR VALUES {bounds}")
    connection.execute("INSERT INTO p SELECT n, repeat('x', 150) FROM generate_series(1, %s) AS n", [rows])


def test_pages_of_each_partition_are_cut_into_ranges_of_equal_size(connection) -> None:
    create_partitions(connection, 4, 25_000)  # two full partitions, a half, and an empty one
    connection.execute("ANALYZE p")
    made = plan_job(connection, "p", ranges=20)
    assert made.strategy == "pages, single"
    assert made.reason == (
        "3 partitions by pages: the job needs no key, and in one snapshot each physical page is read only once;"
        " 1 partition by single: there are no rows."
    )
    assert balance(sizes_of(connection, made)[:-1]) < 1.1
    assert rows_in(connection, made) == rows_of(connection, "p")


def test_ranges_have_equal_pages_in_partitions_with_deleted_rows_too(connection) -> None:
    create_partitions(connection, 2, 19_999)
    connection.execute("DELETE FROM p WHERE row_id < 9000; ANALYZE p")
    made = plan_job(connection, "p", ranges=20)
    assert [sum(one.relation[1] == name for one in made.ranges) for name in ("p_000", "p_001")] == [10, 10]
    assert rows_in(connection, made) == rows_of(connection, "p")


def test_a_condition_that_excludes_most_partitions_needs_the_key(connection) -> None:
    create_partitions(connection, 4, 39_999)
    connection.execute("ANALYZE p")
    made = plan_job(connection, "p", where="row_id >= 30000", ranges=20)
    assert made.key.names == ("row_id",)
    assert made.reason.endswith(
        "The condition excludes 3 of 4 partitions, and the key contains the columns that they are partitioned by."
    )
    assert plan_job(connection, "p", where="row_id >= 10000", ranges=20).strategy == "pages"


def test_many_small_partitions_are_one_range_each_as_by_key(connection) -> None:
    create_partitions(connection, 60, 590_000)
    connection.execute("ANALYZE p")
    by_pages, by_key = plan_job(connection, "p", parallelism=1), plan_job(connection, "p", parallelism=1, key="row_id")
    assert by_pages.key.names == ("ctid",)
    assert len(by_pages.ranges) == len(by_key.ranges) == 60
    # A range of the key can have several partitions.
    few = plan_job(connection, "p", ranges=10)
    assert (few.key.names, len(few.ranges)) == (("row_id",), 10)


def test_a_partition_that_cannot_be_read_by_its_name_needs_the_key(connection) -> None:
    connection.execute("CREATE TABLE p (row_id int PRIMARY KEY, note text) PARTITION BY RANGE (row_id)")
    connection.execute("CREATE TABLE p_1 (note text, row_id int NOT NULL)")
    connection.execute("INSERT INTO p_1 SELECT repeat('x', 150), n FROM generate_series(1, 30000) AS n")
    connection.execute("ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES FROM (0) TO (50000); ANALYZE p")
    made = plan_job(connection, "p", ranges=8)
    assert made.key.names == ("row_id",)
    assert rows_in(connection, made) == rows_of(connection, "p")


# Each statement writes rows with another remainder of 3, so that the writers do not wait for each other.
WRITES = {
    "insert": "INSERT INTO t SELECT max(row_id) + 1, 1, now(), 1, repeat('y', 400) FROM t",
    "update": "UPDATE t SET note = repeat('z', 300) WHERE row_id % 300 = {n} * 3 % 300",
    "update in the page": "UPDATE t SET amount = amount + 1 WHERE row_id % 600 = ({n} * 3 + 1) % 600",
    "delete": "DELETE FROM t WHERE row_id % 900 = ({n} * 3 + 2) % 900",
    "vacuum": "VACUUM t",
}


@pytest.fixture
def writers(database: str) -> Iterator[Callable[[], None]]:
    """Start writers of the table ``t``, each in a loop. They end after the test, and must have written."""
    stop, threads, counts = threading.Event(), [], dict.fromkeys(WRITES, 0)

    def write(name: str) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute(WRITES[name].format(n=counts[name]))
                counts[name] += 1

    def start() -> None:
        for name in WRITES:
            threads.append(threading.Thread(target=write, args=(name,)))
            threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    assert all(counts.values()) or not threads


@pytest.mark.parametrize("request_", [{}, {"key": "row_id"}, {"split": "pages"}])
def test_under_writers_every_row_of_the_snapshot_is_in_exactly_one_range(
    connection, database: str, table: str, writers: Callable[[], None], request_: dict[str, Any]
) -> None:
    connection.execute("ALTER TABLE t SET (fillfactor = 70)")  # room for updates in the page
    connection.execute("VACUUM FULL t")
    writers()
    for _ in range(3):
        with psycopg.connect(database) as reader:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            expected = rows_of(reader, "t")
            made = plan_job(reader, "t", rows_per_range=700, **request_)
            assert made.key.names == (("row_id",) if "key" in request_ else ("ctid",))
            reader.execute("SET LOCAL enable_seqscan = off")
            assert rows_in(reader, made) == expected
