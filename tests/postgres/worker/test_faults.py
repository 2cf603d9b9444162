"""Database faults during a job: the totals are right, or the failure says what happened."""

import contextlib
import itertools
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import cloudpickle
import psycopg
import pytest
from psycopg import sql

from burla_provider.combine.combiners import SumByKey, Totals
from burla_provider.database.connect import connection_parameters, is_alive
from burla_provider.database.settings import SessionSettings
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.sql_checks import check_source
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges
from tests.support.snapshots import open_snapshot
from tests.support.waiting import wait_for

TOTAL = {"row_count": ROWS, "total": Decimal("5005.00")}
FIRST, *_ = ranges(2)


def add_up(rows):
    return {"total": sum(row[1] for row in rows)}


@pytest.fixture
def side_by_side(worker):
    """Process ranges in three threads, each with its own unpickled task.

    ``meanwhile(number)`` is called in this thread after every outcome.
    """

    def run(processor, key_ranges, meanwhile=lambda number: None, **fields):
        pickled = worker(processor, **{"range_retries": 8} | fields).pickled
        mine = threading.local()

        def work(key_range):
            mine.work = getattr(mine, "work", None) or cloudpickle.loads(pickled)
            return decode(mine.work(key_range.index, key_range.to_item()))

        outcomes = []
        with ThreadPoolExecutor(3) as pool:
            for number, outcome in enumerate(pool.map(work, key_ranges)):
                outcomes.append(outcome)
                meanwhile(number)
        return outcomes

    return run


def totals_of(outcomes):
    totals = Totals(SumByKey(), range(len(outcomes)))
    for outcome in outcomes:
        totals.add(outcome)
    return totals


def test_a_restart_does_not_change_the_totals(side_by_side, postgres_server):
    outcomes = side_by_side(
        ProcessRows(add_up), ranges(200), lambda number: postgres_server.restart() if number == 3 else None
    )
    assert totals_of(outcomes).result() == TOTAL


def test_a_restart_loses_the_snapshot(worker, orders, postgres_server):
    with open_snapshot(connection_parameters(orders), "public", "orders") as held:
        one = worker(ProcessRows(add_up), snapshot=held.snapshot)
        assert one(FIRST).ok
        postgres_server.restart()
        assert not is_alive(held.connection)
        outcome = one(FIRST)
    assert outcome.failure.type.endswith("SnapshotLostError")
    assert "Run the task again: it uses a new snapshot" in outcome.failure.text


def test_terminated_backends_do_not_change_the_totals(side_by_side, orders):
    end_sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'burla%%'"
    outcomes = side_by_side(ProcessRows(add_up), ranges(40), lambda number: orders.execute(end_sessions))
    assert totals_of(outcomes).result() == TOTAL


def test_a_range_whose_backend_is_terminated_is_retried(worker, orders):
    orders.execute("CREATE TABLE wide AS SELECT id, amount, repeat('x', 50000) AS filler FROM orders")
    large = Source("public", "wide", ("id", "amount", "filler"))
    end_session = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'burla #0'"
    kills = [end_session]
    dsn = f"{orders.info.dsn} password={orders.info.password}"

    def kill_once(rows):
        first = next(rows)
        while kills:
            with psycopg.connect(dsn, autocommit=True) as other:
                other.execute(kills.pop())
        return {"total": first[1] + sum(row[1] for row in rows)}

    outcome = worker(ProcessRows(kill_once), source=large)(ranges(1)[0])
    assert (outcome.value, outcome.attempts) == ({"total": TOTAL["total"]}, 2)


def take_all_connections(orders, postgres_server):
    """Return all connections that the server has left. A session that was just closed keeps its place for a while."""
    taken = []
    while len(taken) + 1 < int(orders.execute("SHOW max_connections").fetchone()[0]):
        with contextlib.suppress(psycopg.OperationalError):
            taken.append(psycopg.connect(postgres_server.dsn))
    return taken


def test_too_many_connections_is_retried(worker, orders, postgres_server):
    taken = take_all_connections(orders, postgres_server)
    one = worker(ProcessRows(add_up), range_retries=1)
    outcome = one(FIRST)
    for connection in taken:
        connection.close()
    assert "too many clients" in outcome.failure.text
    assert outcome.attempts == 2
    wait_for(lambda: one(FIRST).ok)


def test_a_connection_that_is_released_in_time_is_used(worker, orders, postgres_server):
    taken = take_all_connections(orders, postgres_server)
    one = worker(ProcessRows(add_up), range_retries=8)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one, FIRST)
        for connection in taken:
            connection.close()
        assert answer.result().ok


def test_a_lock_timeout_gives_advice(worker, orders, database):
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        one = worker(ProcessRows(add_up), range_retries=1, settings=SessionSettings(lock_timeout=0.05))
        outcome = one(FIRST)
    assert (outcome.failure.sqlstate, outcome.attempts) == ("55P03", 2)
    assert "pg_locks" in outcome.failure.text
    assert one(FIRST).ok


@contextlib.contextmanager
def waiting(statement, orders, database):
    """Another session waits for a lock that the statement needs."""
    with psycopg.connect(database) as other:
        pid = other.info.backend_pid

        def execute():
            with contextlib.suppress(psycopg.errors.QueryCanceled):
                other.execute(statement)

        thread = threading.Thread(target=execute)
        thread.start()
        while not orders.execute("SELECT cardinality(pg_blocking_pids(%s))", [pid]).fetchone()[0]:
            pass
        try:
            yield
        finally:
            other.cancel_safe()
            thread.join()
            other.rollback()


def test_a_change_of_the_table_that_waits_for_the_job_does_not_hang_it(worker, orders, held, database):
    one = worker(ProcessRows(add_up), range_retries=0, snapshot=held.snapshot)
    with waiting("ALTER TABLE orders DROP COLUMN amount", orders, database):
        outcome = one(FIRST)
    assert outcome.failure.sqlstate == "55P03"
    assert one(FIRST).ok


@pytest.mark.parametrize(
    ("source", "statement"),
    [
        (Source("public", "seen", ("id", "amount")), "REFRESH MATERIALIZED VIEW seen"),
        (Source("public", "orders", ("id", "amount"), "id IN (SELECT id FROM vip)"), "TRUNCATE vip"),
    ],
    ids=["materialized view", "table of the condition"],
)
def test_a_relation_that_cannot_be_locked_does_not_hang_the_job(worker, orders, database, source, statement):
    orders.execute("CREATE MATERIALIZED VIEW seen AS SELECT * FROM orders; CREATE TABLE vip AS SELECT id FROM orders")
    with open_snapshot(connection_parameters(orders), source.schema, source.table) as held:
        check_source(held.connection, source)  # like the task: the holder keeps locks on everything that ranges read
        limits = SessionSettings(lock_timeout=1)
        one = worker(ProcessRows(add_up), range_retries=0, source=source, snapshot=held.snapshot, settings=limits)
        with waiting(statement, orders, database):
            outcome = one(FIRST)
        assert outcome.failure.sqlstate == "55P03"
        assert "pg_locks" in outcome.failure.text
        assert one(FIRST).ok


@pytest.mark.parametrize(
    "processor",
    [SqlTotals(()), ProcessRows(add_up), ProcessRows(lambda batches: {"n": len(list(batches))}, batch_format="arrow")],
    ids=["totals", "rows", "batches"],
)
@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE orders; INSERT INTO orders SELECT * FROM loaded",
        "ALTER TABLE orders ALTER id TYPE numeric",
        "TRUNCATE vip; INSERT INTO vip SELECT id FROM loaded",
    ],
    ids=["loaded again", "rewritten", "table of the condition"],
)
def test_without_a_snapshot_a_range_that_waits_for_a_new_load_reads_the_new_rows(
    worker, orders, database, processor, statement
):
    orders.execute("CREATE TABLE loaded AS SELECT * FROM orders; CREATE TABLE vip AS SELECT id FROM orders")
    one = worker(processor, source=Source("public", "orders", ("id", "amount"), "id IN (SELECT id FROM vip)"))
    with psycopg.connect(database) as other, ThreadPoolExecutor() as pool:
        other.execute(statement)
        outcome = pool.submit(one, FIRST)
        waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
        while not outcome.done() and not other.execute(waits).fetchone()[0]:
            pass
        other.commit()
        assert outcome.result().row_count == ROWS // 2


@pytest.mark.parametrize("statement", ["TRUNCATE orders", "ALTER TABLE orders DROP COLUMN amount", "DROP TABLE orders"])
def test_the_table_cannot_be_dropped_while_its_snapshot_is_held(worker, orders, held, statement):
    orders.execute("SET lock_timeout = 50")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        orders.execute(statement)
    outcome = worker(ProcessRows(add_up), snapshot=held.snapshot)(ranges(1)[0])
    assert outcome.value == {"total": TOTAL["total"]}


def test_a_dropped_column_is_named(worker, orders):
    one = worker(ProcessRows(add_up))
    assert one(FIRST).ok
    orders.execute("ALTER TABLE orders DROP COLUMN amount")
    failure = one(FIRST).failure
    assert failure.sqlstate == "42703"
    assert 'column "amount" does not exist' in failure.text


def test_a_statement_timeout_on_one_range_fails_that_range_only(worker, orders):
    source = Source("public", "orders", ("id", "amount"), "id <> 17 OR pg_sleep(60) IS NULL")
    one = worker(SqlTotals(()), source=source, settings=SessionSettings(statement_timeout=0.5))
    outcomes = [one(key_range) for key_range in ranges(10)]
    assert [outcome.index for outcome in outcomes if not outcome.ok] == [0]
    assert (outcomes[0].failure.sqlstate, outcomes[0].attempts) == ("57014", 2)
    assert "statement_timeout" in outcomes[0].failure.text


def slow(rows):
    rows = list(rows)
    time.sleep(0.5)
    return {"n": len(rows)}


def test_a_function_may_compute_for_long_in_a_snapshot(worker, orders, held):
    name = sql.Identifier(orders.info.dbname)
    orders.execute(sql.SQL("ALTER DATABASE {} SET idle_in_transaction_session_timeout = '100ms'").format(name))
    assert worker(ProcessRows(slow), snapshot=held.snapshot)(ranges(1)[0]).value == {"n": ROWS}
    failure = worker(ProcessRows(slow))(ranges(1)[0]).failure
    assert failure.sqlstate == "25P03"
    assert "idle_in_transaction_session_timeout" in failure.text


def test_transaction_timeout_of_the_role_does_not_end_a_snapshot(worker, orders, held):
    if orders.info.server_version < 170000:
        pytest.skip("transaction_timeout came with PostgreSQL 17")
    name = sql.Identifier(orders.info.dbname)
    orders.execute(sql.SQL("ALTER DATABASE {} SET transaction_timeout = '100ms'").format(name))
    assert worker(ProcessRows(slow), snapshot=held.snapshot)(ranges(1)[0]).value == {"n": ROWS}
    failure = worker(ProcessRows(slow))(ranges(1)[0]).failure
    assert failure.sqlstate == "25P04"
    assert "transaction_timeout" in failure.text


def test_deadlocks_are_retried(orders):
    both = threading.Barrier(2)
    entries = itertools.count()

    def cross(connection, key_range):
        ids = [1, 2] if key_range.index == 0 else [2, 1]
        connection.execute("UPDATE orders SET n = n + 1 WHERE id = %s", [ids[0]])
        if next(entries) < 2:
            both.wait(30)
        connection.execute("UPDATE orders SET n = n + 1 WHERE id = %s", [ids[1]])
        return {}

    database = sql.Identifier(orders.info.dbname)
    orders.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '50ms'").format(database))
    # Not pickled, so that the function uses the same barrier.
    task = RangeTask(connection_parameters(orders), ORDERS, KEY, ProcessRange(cross), range_retries=8)
    with ThreadPoolExecutor(2) as pool:
        outcomes = [decode(answer) for answer in pool.map(lambda one: task(one.index, one.to_item()), ranges(2))]
    assert all(outcome.ok for outcome in outcomes)
    assert sorted(outcome.attempts for outcome in outcomes) == [1, 2]
    assert orders.execute("SELECT n FROM orders WHERE id <= 2").fetchall() == [(2,), (2,)]


KILLED = """
import pickle, sys
work = pickle.load(open(sys.argv[1], "rb"))
work(*pickle.load(open(sys.argv[2], "rb")))
"""


def test_a_range_of_a_killed_worker_is_processed_by_another(worker, orders, tmp_path):
    ledger = Ledger("public", "burla_ledger", "run")
    prepare_ledger(orders, ledger)

    def slow(connection, key_range):
        connection.execute("UPDATE orders SET n = n + 1")
        connection.execute("SELECT pg_advisory_lock(1)")
        return {}

    orders.execute("SELECT pg_advisory_lock(1)")
    one = worker(ProcessRange(slow), ledger=ledger)
    (tmp_path / "work").write_bytes(one.pickled)
    (tmp_path / "item").write_bytes(pickle.dumps((0, FIRST.to_item())))
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "work", tmp_path / "item"]) as process:
        while not orders.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ).fetchone()[0]:
            pass
        process.send_signal(signal.SIGKILL)
    orders.execute("SELECT pg_advisory_unlock(1)")
    assert one(FIRST).ok
    assert orders.execute("SELECT min(n), max(n) FROM orders").fetchone() == (1, 1)
