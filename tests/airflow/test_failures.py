"""A real run with failures of several kinds, one of them late: the error, the log and the report."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.worker.errors import MESSAGE_LIMIT
from tests.airflow.conftest import Orders
from tests.airflow.test_postgres import operator
from tests.support.task_runner import Airflow

LATE = 28


def fail_in_four_ways(number: int) -> int:
    if number == LATE:
        time.sleep(1.5)
        raise LookupError("late")
    if number % 5 == 0:
        raise ValueError(f"Input {number} has no currency.")
    if number % 5 == 1:
        return 1 // (number - number)
    if number % 5 == 2:
        raise KeyError(f"key {number}")
    return number


def run_map(airflow: Airflow, count: int = 30, **options: Any) -> Any:
    operator = BurlaMapOperator(
        task_id="t", python_callable=fail_in_four_ways, inputs=list(range(count)), max_parallelism=2, **options
    )
    return airflow.run(operator)


def test_the_log_has_one_traceback_per_kind(airflow: Airflow) -> None:
    result = run_map(airflow)
    log = result.log[: result.log.index("Task failed with exception")]  # Airflow's, with a traceback of its own
    assert result.state == "failed"
    assert log.count("Traceback (most recent call last):") == 4
    # One that is whole per kind, then short ones of the three frequent kinds.
    assert (log.count(" failed: "), log.count(" failed too: ")) == (4, 3 * 2)
    assert log.count("Further failures of this kind are listed at the end.") == 3
    assert ".." not in log
    summary = log[log.index("::group::19 inputs failed, with 4 kinds of errors") :]
    assert "6 inputs: ValueError: Input " in summary
    assert "1 input: LookupError: late" in summary
    for number in range(LATE + 1):
        assert bool(re.search(rf"input {number} \({number}\)(,|$)", summary, re.M)) == (
            number % 5 < 3 or number == LATE
        )
    lines = log[log.index(" failed: ") :].splitlines()
    assert len(lines) < 60
    assert all(len(line) < 200 for line in lines)


def test_the_error_lists_the_kinds(airflow: Airflow) -> None:
    error = str(run_map(airflow).error)
    lines = error.splitlines()
    assert lines[0] == "19 of 30 inputs failed, with 4 kinds of errors (tolerated: 0):"
    assert sum(line.startswith("- ") for line in lines) == 4
    assert "- LookupError: late" in lines
    assert f"  in input {LATE} ({LATE})" in lines
    assert sum(line.endswith(" and 3 more") for line in lines) == 3
    assert len(error) < 1000


def test_the_report_has_all_kinds_with_tracebacks(airflow: Airflow) -> None:
    started = time.time()
    result = run_map(airflow)
    ended = time.time()
    failures = result.xcoms["burla_report"]["failures"]
    assert (failures["count"], failures["kinds"]) == (19, 4)
    assert [group["count"] for group in failures["groups"]] == [6, 6, 6, 1]
    assert {group["type"] for group in failures["groups"]} == {
        *("ValueError", "ZeroDivisionError", "KeyError", "LookupError")
    }
    for group in failures["groups"]:
        assert "in fail_in_four_ways" in group["traceback"]
        assert "burla_provider" not in group["traceback"]  # it begins with the user's function
        assert len(group["ranges"]) == group["count"]
        assert group["worker_count"] >= len(group["workers"]) > 0
    late = failures["groups"][-1]
    assert (late["type"], late["message"], late["ranges"][0]["index"]) == ("LookupError", "late", LATE)
    assert started + 1.4 < late["first"] == late["last"] < ended + 0.1


def test_one_failure_is_singular_and_has_no_summary(airflow: Airflow) -> None:
    def fail(number: int) -> None:
        raise ValueError("no")

    operator = BurlaMapOperator(task_id="t", python_callable=fail, inputs=[1])
    result = airflow.run(operator)
    assert str(result.error) == "1 of 1 input failed (tolerated: 0):\n- ValueError: no\n  in input 0 (1)"
    assert "kinds of errors" not in result.log
    assert "inputs failed" not in result.log


def test_tolerated_failures_are_in_the_log_and_the_report(airflow: Airflow) -> None:
    result = run_map(airflow, tolerated_failures=19)
    assert result.state == "success"
    assert "::group::19 inputs failed, with 4 kinds of errors" in result.log
    assert result.xcoms["burla_report"]["failures"]["kinds"] == 4


def test_a_kind_of_many_failures_is_listed_with_its_count(airflow: Airflow) -> None:
    def fail(number: int) -> None:
        raise ValueError(f"{number} is bad")

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fail, inputs=list(range(1200))))
    assert "1,200 inputs: ValueError: " in result.log
    assert " and 200 more" in result.log
    assert str(result.error).startswith("1,200 of 1,200 inputs failed (tolerated: 0):")


def test_a_cut_message_says_so(airflow: Airflow) -> None:
    def fail(number: int) -> None:
        raise ValueError("x" * 5000)

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fail, inputs=[1]))
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert len(group["message"]) <= MESSAGE_LIMIT
    assert group["message"].endswith("more characters)")
    assert "more characters, see the log)" in str(result.error)


def test_a_database_error_has_its_sqlstate_and_advice(airflow: Airflow, orders: Orders) -> None:
    def read(connection: Any, key_range: Any) -> Any:
        connection.execute("SELECT amont FROM orders")

    result = airflow.run(operator(process_range=read))
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert (group["type"], group["sqlstate"]) == ("psycopg.errors.UndefinedColumn", "42703")
    assert group["advice"].endswith("Check the name amont.")
    assert "Check the name" not in group["message"]
    for text in (str(result.error), result.log):
        assert "[42703]: column" in text or "[42703]\ncolumn" in text
        assert "Check the name amont." in text
    assert "A retry would fail again: no range succeeded" in str(result.error)


def test_an_aborted_transaction_is_explained(airflow: Airflow, orders: Orders) -> None:
    def read(connection: Any, key_range: Any) -> Any:
        try:
            connection.execute("SELECT 1 / 0")
        except Exception as error:
            print(error)
        connection.execute("SELECT 1")

    result = airflow.run(operator(process_range=read, ranges=1))
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert group["sqlstate"] == "25P02"
    assert "connection.transaction()" in group["advice"]


@pytest.mark.parametrize("limit", [1.5, None])
def test_a_statement_timeout_says_where_it_is_from(airflow: Airflow, orders: Orders, limit: float | None) -> None:
    def read(connection: Any, key_range: Any) -> Any:
        connection.execute("SELECT pg_sleep(20)")

    orders.connection.execute("ALTER ROLE current_user SET statement_timeout = '3s'")
    try:
        result = airflow.run(operator(process_range=read, ranges=1, statement_timeout=limit, range_retries=0))
    finally:
        orders.connection.execute("ALTER ROLE current_user RESET statement_timeout")
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert group["sqlstate"] == "57014"
    wanted = "Raise statement_timeout (1.5 seconds)" if limit else "The operator sets no statement_timeout"
    assert group["advice"].startswith(wanted)


def test_a_worker_that_was_killed_is_explained(airflow: Airflow) -> None:
    def kill(number: int) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=kill, inputs=[1]))
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert group["type"] == "WorkerError"
    assert "func_ram" in group["advice"]
    assert "func_ram" in str(result.error)


def test_secrets_of_airflow_are_in_no_text(airflow: Airflow) -> None:
    from airflow.providers.common.compat.sdk import mask_secret

    mask_secret("hunter2hunter2")

    def fail(number: int) -> None:
        raise ValueError("hunter2" * 2)

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fail, inputs=["hunter2" * 2, 2]))
    report = json.dumps(result.xcoms["burla_report"])
    assert "hunter2hunter2" not in report
    assert "hunter2hunter2" not in str(result.error)
