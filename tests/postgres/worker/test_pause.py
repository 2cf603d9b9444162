"""A worker waits outside of a transaction while the task holds the lock of a pause."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.worker.pause import PauseLock
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import MapRow, RowFormat
from burla_provider.worker.sinks import Target, Upsert
from burla_provider.worker.target_writer import TargetWriter
from tests.postgres.worker.conftest import KEY, ROWS, ranges
from tests.support.waiting import LIMITS, wait_for

LOCK = PauseLock(2**62 + 1, seconds=0.2)
SINK = Upsert(Target("public", "results", ("id", "cents")), ("id",), ("cents",))
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'writer' AND state = 'idle' AND xact_start IS NULL AND query = 'ROLLBACK'
"""


@pytest.fixture
def results(orders: psycopg.Connection) -> psycopg.Connection:
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, cents integer)")
    return orders


@pytest.fixture
def transform(worker, results):
    def make(**fields):
        function = MapRow(lambda row: (row[0], int(row[1] * 100)), RowFormat(("id", "amount"), ("id", "cents")), 10)
        settings = SessionSettings("writer")
        writer = TargetWriter(connection_parameters(results), settings, SINK, pause_lock=LOCK)
        return worker(Transform(function, writer, KEY, chunk_rows=100), **fields)

    return make


@pytest.fixture
def task(database):
    """The task's session, in its transaction."""
    with closing(psycopg.connect(database)) as connection:
        yield connection


def test_a_worker_that_waits_has_no_transaction_and_writes_afterwards(transform, results, task):
    task.execute(LOCK.lock)
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(transform()(ranges(1)[0])))
    thread.start()
    try:
        wait_for(lambda: results.execute(WAITING).fetchall())
        assert results.execute("SELECT count(*) FROM results").fetchone() == (0,)
    finally:
        task.rollback()
        thread.join()
    assert outcomes[0].row_count == ROWS
    assert results.execute("SELECT count(*) FROM results").fetchone() == (ROWS,)


def test_the_end_of_the_task_s_session_ends_the_pause(transform, results, task):
    task.execute(LOCK.lock)
    pid = task.info.backend_pid
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(transform()(ranges(1)[0])))
    thread.start()
    wait_for(lambda: results.execute(WAITING).fetchall())
    results.execute("SELECT pg_terminate_backend(%s)", [pid])
    thread.join()
    assert outcomes[0].row_count == ROWS


def test_a_pause_does_not_count_for_the_time_limit_of_a_range(transform, results, task):
    for limit in LIMITS:
        one = transform(range_timeout=limit, range_retries=0)
        task.execute(LOCK.lock)
        timer = threading.Timer(limit + 1, task.rollback)
        timer.start()
        outcome = one(ranges(1)[0])
        timer.join()
        if outcome.failure is None:
            break
    assert outcome.failure is None
    assert outcome.row_count == ROWS


def test_no_worker_begins_a_chunk_while_the_task_waits_for_the_others(database, task, results):
    with psycopg.connect(database) as first, psycopg.connect(database) as second:
        assert first.execute(LOCK.try_shared).fetchone() == (True,)
        assert second.execute(LOCK.try_shared).fetchone() == (True,)
        second.rollback()
        task.execute("SELECT")  # begins the transaction
        task.pgconn.send_query(LOCK.lock.as_bytes(task))
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        wait_for(lambda: results.execute(query).fetchone() == (1,))
        assert second.execute(LOCK.try_shared).fetchone() == (False,)
        first.rollback()
        wait_for(lambda: results.execute(query).fetchone() == (0,))
        assert second.execute(LOCK.try_shared).fetchone() == (False,)
