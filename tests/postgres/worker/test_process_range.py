from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest
from psycopg.rows import dict_row

from burla_provider.worker.processors import ProcessRange
from tests.postgres.worker.conftest import ROWS, ranges

FIRST, LAST = ranges(2)


def in_range(key_range):
    return [key_range.start_id, key_range.end_id]


def count(connection, key_range):
    cursor = connection.execute("SELECT count(*) FROM orders WHERE id BETWEEN %s AND %s", in_range(key_range))
    return {"row_count": cursor.fetchone()[0], "start_id": key_range.start_id}


def increment(connection, key_range):
    connection.execute("UPDATE orders SET n = n + 1 WHERE id BETWEEN %s AND %s", in_range(key_range))
    return {}


def total_n(orders):
    return orders.execute("SELECT sum(n) FROM orders").fetchone()[0]


def test_the_function_gets_the_connection_and_the_range(worker):
    outcome = worker(ProcessRange(count))(LAST)
    assert outcome.value == {"row_count": 500, "start_id": 501}


def test_a_row_count_from_the_function_is_used(worker):
    assert worker(ProcessRange(count))(FIRST).row_count == 500


def test_a_function_that_counts_nothing_has_no_row_count(worker):
    assert worker(ProcessRange(lambda connection, key_range: {"n": 1}))(FIRST).row_count is None


def test_without_a_snapshot_the_function_may_write(worker, orders):
    one = worker(ProcessRange(increment))
    assert [one(key_range).ok for key_range in (FIRST, LAST)] == [True, True]
    assert total_n(orders) == ROWS


def test_with_a_snapshot_writing_fails_with_advice(worker, held):
    failure = worker(ProcessRange(increment), snapshot=held.snapshot)(FIRST).failure
    assert failure.sqlstate == "25006"
    assert "ledger" in failure.text


def test_writes_of_a_failing_function_are_rolled_back(worker, orders):
    def write_and_fail(connection, key_range):
        increment(connection, key_range)
        raise ValueError("no")

    assert not worker(ProcessRange(write_and_fail))(FIRST).ok
    assert total_n(orders) == 0


def test_savepoints_are_allowed(worker, orders):
    def careful(connection, key_range):
        increment(connection, key_range)
        try:
            with connection.transaction():
                connection.execute("SELECT 1 / 0")
        except ZeroDivisionError:
            raise
        except Exception:
            connection.execute("SAVEPOINT mine")
            connection.execute("ROLLBACK TO SAVEPOINT mine")
        return {}

    assert worker(ProcessRange(careful))(FIRST).ok
    assert total_n(orders) == 500


@pytest.mark.parametrize(
    "query",
    [
        "/* a */ SELECT CASE WHEN n >= 0 THEN n /* b */ END FROM orders",
        "/* /* a */ begin */ SELECT 1",
        "-- commit\n SELECT 1 -- end",
        "/* x */ SELECT '/* y */ commit'",
    ],
)
def test_comments_with_words_of_transactions_are_allowed(worker, query: str):
    def work(connection, key_range):
        connection.execute(query)
        return {}

    outcome = worker(ProcessRange(work))(FIRST)
    assert outcome.ok, outcome.failure


MISUSES = {
    "commit()": lambda connection: connection.commit(),
    "rollback()": lambda connection: connection.rollback(),
    "COMMIT": lambda connection: connection.execute("COMMIT"),
    "comment, rollback": lambda connection: connection.cursor().execute("-- x\n /* y */ rollback"),
    "nested comment": lambda connection: connection.execute("/* a /* b */ c */ COMMIT"),
    "bytes": lambda connection: connection.execute(b"BEGIN"),
    "two statements": lambda connection: connection.execute("SELECT 1; ROLLBACK"),
    "context": lambda connection: connection.__exit__(None, None, None),
    "autocommit": lambda connection: setattr(connection, "autocommit", True),
    "close()": lambda connection: connection.close(),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_a_function_cannot_end_the_transaction(worker, orders, misuse):
    def work(connection, key_range):
        increment(connection, key_range)
        misuse(connection)
        return {}

    one = worker(ProcessRange(work))
    failure = one(FIRST).failure
    assert failure is not None
    assert failure.type.endswith(("UserFunctionError", "ProgrammingError"))
    assert total_n(orders) == 0


@pytest.mark.parametrize("name", ["commit()", "rollback()"])
def test_the_end_of_a_transaction_is_named(worker, name):
    failure = worker(ProcessRange(lambda connection, key_range: MISUSES[name](connection)))(FIRST).failure
    assert failure.message.startswith("The function called commit() or rollback().")


def test_a_lost_connection_that_the_function_ignores_is_no_fault_of_the_function(worker):
    lost = []

    def ignore(connection, key_range):
        if not lost:
            lost.append(True)
            with suppress(psycopg.OperationalError):
                connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"n": 1}

    outcome = worker(ProcessRange(ignore), range_retries=1)(FIRST)
    assert (outcome.value, outcome.attempts) == ({"n": 1}, 2)


def test_a_database_error_that_the_function_caught_is_reported(worker, orders):
    def careless(connection, key_range):
        increment(connection, key_range)
        try:
            connection.execute("SELECT 1 / 0")
        except Exception:
            return {"done": 1}

    failure = worker(ProcessRange(careless))(FIRST).failure
    assert "caught a database error and continued" in failure.text
    assert total_n(orders) == 0


def test_connection_attributes_do_not_reach_the_next_range(worker):
    def spoil(connection, key_range):
        connection.row_factory = dict_row
        return {"n": 1}

    one = worker(ProcessRange(spoil))
    assert one(FIRST).ok
    assert one(LAST).ok


def test_a_range_takes_no_longer_than_allowed(worker, orders):
    def slow(connection, key_range):
        connection.execute("SELECT pg_sleep(60)")

    failure = worker(ProcessRange(slow), range_timeout=0.2)(FIRST).failure
    assert failure.type.endswith("RangeTimeoutError")
    assert "range_timeout=0.2" in failure.text
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
    while orders.execute(running).fetchone()[0]:
        pass


def test_the_same_range_has_the_same_idempotency_key_in_every_attempt(worker):
    def key(connection, key_range):
        return {"key": key_range.idempotency_key}

    first = worker(ProcessRange(key), job_key="dag/task/run")(LAST).value
    again = worker(ProcessRange(key), job_key="dag/task/run")(LAST).value
    assert first == again == {"key": replace(LAST, job_key="dag/task/run").idempotency_key}
