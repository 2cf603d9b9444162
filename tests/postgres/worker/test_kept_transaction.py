"""In a snapshot, a worker's transaction and its locks span ranges."""

from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from burla_provider.database import snapshot
from burla_provider.database.connect import connection_parameters
from burla_provider.database.snapshot import Snapshot
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.sql_checks import check_source
from burla_provider.worker.connection import CachedConnection
from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ROWS, ranges
from tests.postgres.worker.test_faults import waiting
from tests.support.snapshots import open_snapshot
from tests.support.waiting import wait_for

FIRST, *REST = ranges(5)
COUNT = ProcessRows(lambda rows: {"n": len(list(rows))})
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'burla%%'"
)


def count_carefully(connection, key_range):
    try:
        with connection.transaction():
            connection.execute("SELECT 1 / 0")
    except psycopg.errors.DivisionByZero:
        pass
    query = sql.SQL("SELECT count(*) FROM orders WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).fetchone()[0]}


def sessions(orders):
    return orders.execute(SESSIONS).fetchone()[0]


@pytest.mark.parametrize(
    "processor", [SqlTotals(()), COUNT, ProcessRange(count_carefully)], ids=["totals", "rows", "range"]
)
@pytest.mark.parametrize("statement", ["TRUNCATE orders", "ALTER TABLE orders DROP COLUMN amount", "DROP TABLE orders"])
def test_ranges_continue_while_another_session_waits_for_the_table(
    worker, orders, held, database, processor, statement
):
    one = worker(processor, range_retries=0, snapshot=held.snapshot)
    first = one(FIRST)
    with waiting(statement, orders, database):
        outcomes = [first, *map(one, REST)]
    assert [outcome.failure for outcome in outcomes] == [None] * 5
    assert sum(outcome.row_count for outcome in outcomes) == ROWS


@pytest.mark.parametrize(
    ("source", "statement"),
    [
        (Source("public", "seen", ("id",)), "REFRESH MATERIALIZED VIEW seen"),
        (Source("public", "orders", ("id",), "id IN (SELECT id FROM vip)"), "TRUNCATE vip"),
        (Source("public", "parts", ("id",)), "TRUNCATE parts"),
        (Source("public", "parts", ("id",)), "ALTER TABLE parts_4 ADD CHECK (id > 0)"),
        (Source("public", "parts", ("id",)), "ALTER TABLE parts DETACH PARTITION parts_4"),
    ],
    ids=["materialized view", "table of the condition", "partitioned table", "partition", "detached partition"],
)
def test_ranges_continue_while_another_session_waits_for_a_dependent_relation(
    worker, orders, database, source, statement
):
    orders.execute("CREATE MATERIALIZED VIEW seen AS SELECT * FROM orders; CREATE TABLE vip AS SELECT id FROM orders")
    make_parts(orders, 5)
    parts = source.table == "parts"
    first, *rest = [part(number) for number in range(5)] if parts else [FIRST, *REST]
    with open_snapshot(connection_parameters(orders), source.schema, source.table) as held:
        check_source(held.connection, source)
        one = worker(COUNT, range_retries=0, source=source, snapshot=held.snapshot)
        outcomes = [one(first)]
        with waiting(statement, orders, database):
            outcomes += map(one, rest)
    assert [outcome.failure for outcome in outcomes] == [None] * 5
    assert sum(outcome.row_count for outcome in outcomes) == ROWS


def make_parts(orders, count):
    size = ROWS // count
    orders.execute("CREATE TABLE parts (id bigint) PARTITION BY RANGE (id)")
    for number in range(count):
        bounds = f"FROM ({number * size + 1}) TO ({(number + 1) * size + 1})"
        orders.execute(f"CREATE TABLE parts_{number} PARTITION OF parts FOR VALUES {bounds}")
    orders.execute("INSERT INTO parts SELECT id FROM orders")


def part(number):
    return KeyRange(KEY, number, relation=("public", f"parts_{number}"))


def test_a_worker_limits_the_partitions_that_it_locks(worker, orders, monkeypatch):
    make_parts(orders, 5)
    monkeypatch.setattr(CachedConnection, "max_locked", 2)
    monkeypatch.setattr(snapshot, "MAX_LOCKED_RELATIONS", 3)
    held_locks = "SELECT count(*) FROM pg_locks JOIN pg_class c ON c.oid = relation WHERE relname LIKE 'parts\\_%'"
    with open_snapshot(connection_parameters(orders), "public", "parts") as held:
        assert orders.execute(held_locks).fetchone()[0] == 5
        one = worker(SqlTotals(()), source=Source("public", "parts"), snapshot=held.snapshot)
        counts = []
        for number in range(5):
            assert one(part(number)).row_count == ROWS // 5
            counts.append(orders.execute(held_locks).fetchone()[0] - 5)
    assert counts == [1, 2, 1, 2, 1]


def test_a_failed_range_ends_the_transaction(worker, held):
    def work(rows):
        if next(rows)[0] == 201:
            raise ValueError("no")
        return {}

    one = worker(ProcessRows(work), snapshot=held.snapshot)
    assert [one(key_range).ok for key_range in (FIRST, *REST)] == [True, False, True, True, True]


def test_a_function_that_does_not_read_all_rows_does_not_end_the_transaction(worker, orders, database):
    orders.execute("CREATE TABLE wide AS SELECT id, repeat('x', 50000) AS filler FROM orders")
    source = Source("public", "wide", ("id", "filler"))
    with open_snapshot(connection_parameters(orders), "public", "wide") as held:
        one = worker(
            ProcessRows(lambda rows: {"n": next(rows)[0]}), range_retries=0, source=source, snapshot=held.snapshot
        )
        outcomes = [one(FIRST)]
        with waiting("TRUNCATE wide", orders, database):
            outcomes += map(one, REST)
    assert [outcome.failure for outcome in outcomes] == [None] * 5


def test_a_worker_has_no_session_after_its_job(worker, orders):
    with open_snapshot(connection_parameters(orders), "public", "orders") as held:
        workers = [worker(processor, snapshot=held.snapshot) for processor in (COUNT, ProcessRange(count_carefully))]
        assert all(one(FIRST).ok for one in workers)
        with open_snapshot(connection_parameters(orders), "public", "orders") as other:
            neighbour = worker(COUNT, snapshot=other.snapshot)
            assert neighbour(FIRST).ok
            pid = orders.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'burla'").fetchall()
            assert len(pid) == 3
    wait_for(lambda: sessions(orders) == 0)
    orders.execute("SET lock_timeout = '10s'; TRUNCATE orders")


def test_only_the_sessions_of_the_job_that_ended_are_ended(worker, orders):
    with open_snapshot(connection_parameters(orders), "public", "orders") as held:
        neighbour = worker(SqlTotals(()), snapshot=held.snapshot)
        assert neighbour(FIRST).ok
        with open_snapshot(connection_parameters(orders), "public", "orders") as other:
            assert worker(SqlTotals(()), snapshot=other.snapshot)(FIRST).ok
        wait_for(lambda: sessions(orders) == 2)  # the holder and the neighbour
        orders.execute("UPDATE orders SET n = 1")
        assert neighbour(REST[0]).attempts == 1


def test_the_server_ends_the_transaction_of_an_idle_worker(worker, orders, held, monkeypatch):
    monkeypatch.setattr(Snapshot, "idle_timeout", "50ms")
    one = worker(ProcessRange(count_carefully), snapshot=held.snapshot)
    assert one(FIRST).ok
    for key_range in REST:  # a range that begins when the timeout ends would lose its session
        wait_for(lambda: sessions(orders) == 1)  # the holder
        assert one(key_range).attempts == 1


def test_the_idle_timeout_between_ranges_does_not_apply_within_a_range(worker, orders, held):
    def limit(connection, key_range):
        return {"limit": connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0]}

    one = worker(ProcessRange(limit), snapshot=held.snapshot)
    assert [one(key_range).value for key_range in (FIRST, *REST)] == [{"limit": "0"}] * 5
    given = replace(one.task.settings, idle_in_transaction_session_timeout=7)
    one = worker(ProcessRange(limit), snapshot=held.snapshot, settings=given)
    assert [one(key_range).value for key_range in (FIRST, *REST)] == [{"limit": "7s"}] * 5
