"""Several ranges in one call, as a worker processes them."""

import pickle
import time

import psycopg
import pytest

from burla_provider.database.snapshot import Snapshot
from burla_provider.jobs.client import call
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from tests.postgres.worker.conftest import ROWS, ranges
from tests.postgres.worker.test_faults import waiting
from tests.postgres.worker.test_kept_transaction import COUNT, count_carefully, sessions
from tests.support.waiting import LIMITS, wait_for

RANGES = ranges(6)


def run_batch(worker, batch=RANGES):
    """Return the outcomes of one call; its task has another connection than ``worker``."""
    items = [(key_range.index, pickle.dumps(key_range.to_item())) for key_range in batch]
    results = call.make_list_call(worker.pickled)(items)
    assert [index for index, *_ in results] == [key_range.index for key_range in batch]
    assert all(outcome == "succeeded" for _, outcome, _ in results)
    return [decode(encoded) for *_, encoded in results]


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    # A busy machine would leave the last ranges to another call.
    monkeypatch.setattr(call, "BATCH_SECONDS", 300.0)


@pytest.fixture(params=["snapshot", "no snapshot"])
def snapshot(request):
    return request.getfixturevalue("held").snapshot if request.param == "snapshot" else None


@pytest.mark.parametrize(
    "processor", [SqlTotals(()), COUNT, ProcessRange(count_carefully)], ids=["totals", "rows", "range"]
)
def test_a_batch_has_the_outcomes_of_single_calls(worker, snapshot, processor):
    one = worker(processor, snapshot=snapshot)
    outcomes = run_batch(one)
    assert [outcome.failure for outcome in outcomes] == [None] * 6
    singles = [one(key_range) for key_range in RANGES]
    assert [(o.index, o.value, o.row_count) for o in outcomes] == [(o.index, o.value, o.row_count) for o in singles]
    assert sum(outcome.row_count for outcome in outcomes) == ROWS


def test_a_range_that_fails_in_a_batch_fails_alone(worker, snapshot):
    def fail_once(rows):
        ids = [id_ for id_, _ in rows]
        if 400 in ids:
            raise ValueError("400")
        return {}

    outcomes = run_batch(worker(ProcessRows(fail_once), snapshot=snapshot))
    assert [outcome.ok for outcome in outcomes] == [True, True, False, True, True, True]
    assert outcomes[2].failure.message == "400"


def test_a_database_error_in_a_batch_fails_alone(worker, snapshot):
    def divide(connection, key_range):
        connection.execute("SELECT 1 / %s", [key_range.index - 3])
        return {}

    outcomes = run_batch(worker(ProcessRange(divide), snapshot=snapshot, range_retries=0))
    assert [outcome.ok for outcome in outcomes] == [True, True, True, False, True, True]
    assert outcomes[3].failure.sqlstate == psycopg.errors.DivisionByZero.sqlstate


def test_range_timeout_applies_to_each_range_of_a_batch(worker, snapshot, monkeypatch):
    monkeypatch.setattr("burla_provider.jobs.client.call.BATCH_SECONDS", 600.0)

    def sleep(connection, key_range):
        if key_range.index in (1, 4):
            connection.execute("SELECT pg_sleep(600)")
        time.sleep(0.02)
        return {}

    for limit in LIMITS:
        outcomes = run_batch(worker(ProcessRange(sleep), snapshot=snapshot, range_retries=0, range_timeout=limit))
        if sum(outcome.ok for outcome in outcomes) == 4:
            break
    assert [outcome.ok for outcome in outcomes] == [True, False, True, True, False, True]
    assert f"range_timeout={limit:g} seconds" in outcomes[4].failure.text


def test_a_transient_error_repeats_only_its_range(worker, snapshot):
    attempts = []

    def lose_connection(connection, key_range):
        attempts.append(key_range.index)
        if attempts.count(2) == 1 and key_range.index == 2:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"attempts": list(attempts)}

    outcomes = run_batch(worker(ProcessRange(lose_connection), snapshot=snapshot))
    assert [outcome.attempts for outcome in outcomes] == [1, 1, 2, 1, 1, 1]
    assert outcomes[-1].value == {"attempts": [0, 1, 2, 2, 3, 4, 5]}


def test_each_range_of_a_batch_has_its_name_and_no_idle_timeout(worker, held):
    def settings(connection, key_range):
        query = "SELECT current_setting('application_name'), current_setting('idle_in_transaction_session_timeout')"
        name, timeout = connection.execute(query).fetchone()
        return {"name": name, "timeout": timeout}

    outcomes = run_batch(worker(ProcessRange(settings), snapshot=held.snapshot))
    assert [outcome.value for outcome in outcomes] == [{"name": f"burla #{n}", "timeout": "0"} for n in range(6)]


def test_the_ranges_of_a_batch_have_one_transaction(worker, held):
    began = ProcessRange(
        lambda connection, key_range: {"began": str(connection.execute("SELECT transaction_timestamp()").fetchone()[0])}
    )
    outcomes = run_batch(worker(began, snapshot=held.snapshot))
    assert len({outcome.value["began"] for outcome in outcomes}) == 1


def test_a_batch_continues_while_another_session_waits_for_the_table(worker, orders, held, database):
    one = worker(COUNT, range_retries=0, snapshot=held.snapshot)
    assert one.task(0, RANGES[0].to_item())
    with waiting("TRUNCATE orders", orders, database):
        outcomes = [decode(one.task.process(key_range.index, key_range.to_item())) for key_range in RANGES]
        one.task.pause()
    assert [outcome.failure for outcome in outcomes] == [None] * 6


def test_the_server_ends_the_transaction_of_a_worker_that_waits_for_a_batch(worker, orders, held, monkeypatch):
    monkeypatch.setattr(Snapshot, "idle_timeout", "50ms")
    one = worker(COUNT, snapshot=held.snapshot)
    for key_range in RANGES:
        one.task.process(key_range.index, key_range.to_item())
    time.sleep(0.2)  # longer than the timeout, which does not apply within a batch
    assert sessions(orders) == 2
    one.task.pause()
    wait_for(lambda: sessions(orders) == 1)  # the holder
    assert one(RANGES[0]).ok


def test_pause_does_not_fail_if_the_connection_is_lost(worker, orders, held):
    one = worker(COUNT, snapshot=held.snapshot)
    assert decode(one.task.process(0, RANGES[0].to_item())).ok
    orders.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'burla #0'")
    wait_for(lambda: sessions(orders) == 1)
    one.task.pause()
    assert one(RANGES[1]).attempts == 1
