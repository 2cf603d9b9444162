"""The keys of the rows of a range of pages, in its failure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters
from burla_provider.ranges.key import CTID, Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.processors import ProcessRange, ProcessRows
from burla_provider.worker.row_keys import MAX_VALUE_LENGTH, KeyFinder, describe_keys, read_first_and_last
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ORDERS

PAGES = KeyRange(CTID, 0, ("(1,0)",), ("(3,0)",))
ALL_PAGES = KeyRange(CTID, 1)


def fail(rows):
    raise ValueError("no")


@pytest.fixture(autouse=True)
def _reads_ranges_of_pages(orders) -> None:
    if orders.info.server_version < 140000:
        pytest.skip("PostgreSQL 14 brought scans of a range of pages")


@pytest.fixture
def pages_worker(worker, held):
    """``pages_worker(processor, **fields)``: a worker that reads ranges of pages in a snapshot."""

    def make(processor, **fields):
        return worker(processor, **{"key": CTID, "row_key": KEY, "snapshot": held.snapshot} | fields)

    return make


def test_a_failed_range_of_pages_says_between_which_keys_its_rows_are(pages_worker, orders):
    query = "SELECT min(id), max(id) FROM orders WHERE ctid >= '(1,0)' AND ctid < '(3,0)'"
    first, last = orders.execute(query).fetchone()
    failure = pages_worker(ProcessRows(fail))(PAGES).failure
    assert (failure.message, failure.keys) == ("no", f"id between {first} and {last}")


def test_the_keys_are_those_of_the_snapshot(pages_worker, orders):
    one = pages_worker(ProcessRows(fail))
    orders.execute("UPDATE orders SET id = -id")  # moves every row, but not in the snapshot
    assert one(ALL_PAGES).failure.keys == "id between 1 and 1000"


def test_a_range_that_succeeds_has_no_keys(pages_worker, held):
    one = pages_worker(ProcessRows(lambda rows: {"n": len(list(rows))}))
    assert one(ALL_PAGES).failure is None


def test_a_range_without_rows_has_no_keys(pages_worker):
    assert pages_worker(ProcessRows(fail))(replace(PAGES, lower=("(900,0)",), upper=None)).failure.keys == ""


def test_an_error_of_the_jobs_condition_does_not_hide_the_keys(pages_worker):
    source = replace(ORDERS, where="1 / (id - 17) < 5")
    failure = pages_worker(ProcessRows(lambda rows: {"n": len(list(rows))}), source=source)(ALL_PAGES).failure
    assert (failure.sqlstate, failure.keys) == ("22012", "id between 1 and 1000")


def test_a_timeout_does_not_hide_the_keys(pages_worker):
    def sleep(connection, key_range):
        connection.execute("SELECT pg_sleep(60)")

    failure = pages_worker(ProcessRange(sleep), range_timeout=0.2)(ALL_PAGES).failure
    assert (failure.type.rpartition(".")[2], failure.keys) == ("RangeTimeoutError", "id between 1 and 1000")


def test_keys_that_cannot_be_read_do_not_hide_the_error(pages_worker):
    missing = Key((KeyColumn("nope", "bigint"),))
    failure = pages_worker(ProcessRows(fail), row_key=missing)(PAGES).failure
    assert (failure.type, failure.message, failure.keys) == ("ValueError", "no", "")


def test_the_time_for_keys_is_limited_for_all_ranges_together(worker, orders):
    orders.execute("CREATE VIEW slow AS SELECT id FROM orders WHERE pg_sleep(0.1) IS NOT NULL")
    one = worker(
        ProcessRange(lambda connection, key_range: 1 / 0),
        source=Source("public", "slow"),
        key=CTID,
        row_key=KEY,
        _key_finder=KeyFinder(0.2),
    )
    failure = one(ALL_PAGES).failure
    assert (failure.type, failure.keys) == ("ZeroDivisionError", "")
    one.task = replace(one.task, source=ORDERS)
    assert one(ALL_PAGES).failure.keys == ""


def test_no_keys_are_read_after_a_connection_was_lost(pages_worker):
    def end(connection, key_range):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    failure = pages_worker(ProcessRange(end), range_retries=0)(PAGES).failure
    assert failure.sqlstate == "57P01"
    assert failure.keys == ""


def test_rows_that_fail_are_named_by_their_key_and_not_by_their_place(pages_worker):
    def strict(rows):
        return {"n": sum(1 / (row[0] not in (17, 400)) for row in rows)}

    failure = pages_worker(ProcessRows(strict), isolate_failures=True)(ALL_PAGES).failure
    assert failure.rows == "id = 17; id = 400"


def test_rows_that_fail_only_together_are_named_by_their_range_of_keys(pages_worker):
    def refuse_many(rows):
        if len(list(rows)) > 900:
            raise ValueError("no")
        return {}

    failure = pages_worker(ProcessRows(refuse_many), isolate_failures=True)(ALL_PAGES).failure
    assert (failure.message, failure.rows) == ("no", "range 1 (all pages) with id between 1 and 1000")


def test_without_a_key_the_place_of_a_row_is_named(pages_worker):
    def strict(rows):
        return {"n": sum(1 / (row[0] != 17) for row in rows)}

    failure = pages_worker(ProcessRows(strict), isolate_failures=True, row_key=Key())(ALL_PAGES).failure
    assert failure.rows == "ctid = (0,17)"
    assert failure.keys == ""


@pytest.mark.parametrize("relation", [None, ("public", "visits_1")], ids=["whole table", "partition"])
def test_rows_of_a_partitioned_table_are_named_by_all_columns_of_the_key(worker, orders, relation):
    columns = "day int, name text, bad bool, PRIMARY KEY (day, name)"
    orders.execute(f"CREATE TABLE visits ({columns}) PARTITION BY LIST (day)")
    orders.execute("CREATE TABLE visits_1 (name text NOT NULL, bad bool, day int NOT NULL)")
    orders.execute("ALTER TABLE visits ATTACH PARTITION visits_1 FOR VALUES IN (1)")
    orders.execute("INSERT INTO visits SELECT 1, 'n' || g, g = 5 FROM generate_series(1, 9) AS g")
    one = worker(
        ProcessRows(lambda rows: {"n": sum(1 / (not bad) for (bad,) in rows)}),
        source=Source("public", "visits", ("bad",), partitioned=True),
        key=CTID,
        row_key=Key((KeyColumn("day", "integer"), KeyColumn("name", "text"))),
        isolate_failures=True,
    )
    failure = one(KeyRange(CTID, 0, relation=relation)).failure
    assert failure.rows == "day = 1 and name = n5"
    assert failure.keys == "(day, name) between (1, n1) and (1, n9)"


def test_keys_of_a_type_without_a_minimum_are_compared(worker, orders):
    orders.execute("CREATE TABLE things (id uuid PRIMARY KEY)")
    orders.execute("INSERT INTO things SELECT lpad(g::text, 32, '0')::uuid FROM generate_series(1, 9) AS g")
    row_key = Key((KeyColumn("id", "uuid"),))
    one = worker(ProcessRows(fail), source=Source("public", "things"), key=CTID, row_key=row_key)
    prefix = "00000000-0000-0000-0000-00000000000"
    assert one(KeyRange(CTID, 0)).failure.keys == f"id between {prefix}1 and {prefix}9"


def test_only_the_pages_of_the_range_are_read_and_no_index(orders):
    with orders.transaction():
        orders.execute("SET LOCAL enable_seqscan = off")  # as in a range of pages
        read_first_and_last(orders, ORDERS, PAGES, KEY)
        query = "SELECT coalesce(idx_scan, 0), seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'orders'"
        index_scans, rows_read = orders.execute(query).fetchone()
        [(rows,)] = orders.execute(ORDERS.select(sql.SQL("count(*)"), PAGES)).fetchall()
    assert (index_scans, rows_read) == (0, rows)


def test_secrets_are_redacted_in_keys(worker, orders):
    orders.execute("CREATE TABLE words (word text PRIMARY KEY)")
    orders.execute("INSERT INTO words VALUES (%s)", [connection_parameters(orders)["password"]])
    row_key = Key((KeyColumn("word", "text"),))
    one = worker(ProcessRows(fail), source=Source("public", "words"), key=CTID, row_key=row_key)
    assert one(KeyRange(CTID, 0)).failure.keys == "word = ***"


def test_long_keys_are_cut_off():
    row_key = Key((KeyColumn("word", "text"),))
    assert describe_keys(row_key, ("a" * 1_000,), ("a" * 1_000,)) == f"word = {'a' * MAX_VALUE_LENGTH}..."
