"""Tasks with so many ranges that a call processes several of them."""

from __future__ import annotations

import re
import signal
from decimal import Decimal
from typing import Any

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders, needs_state_stores
from tests.airflow.test_resume import Marks, marks, operator  # noqa: F401
from tests.support.postgres import report_writes
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for

MANY = {"ranges": 400, "max_parallelism": 2}
"""The first calls process eight ranges each."""


def add_up(rows: Any) -> dict[str, Any]:
    return {"total": sum(amount for _, amount in rows)}


def fail_three(rows: Any) -> dict[str, Any]:
    ids = [id_ for id_, _ in rows]
    if any(number in ids for number in (3, 40_003, 96_003)):
        raise ValueError(f"ids from {ids[0]}")
    print("ids from", ids[0])
    return {"n": len(ids)}


def increment(connection: Any, key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE orders SET amount = amount + 1 WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).rowcount}


def test_the_totals_of_batches_are_those_of_a_query(airflow: Airflow, orders: Orders) -> None:
    common = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", **MANY}
    result = airflow.run(BurlaPostgresOperator(**common, totals={"total": "sum(amount)"}))
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}, result.log
    assert result.xcoms["burla_report"]["done"] == result.xcoms["burla_report"]["total"] > 350
    assert airflow.run(operator(add_up, **MANY)).value == result.value


def test_writes_of_batches_happen_once(airflow: Airflow, orders: Orders) -> None:
    before: Decimal = orders.ask("sum(amount)")
    common = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", **MANY}
    task = BurlaPostgresOperator(**common, process_range=increment, ledger="public.burla_ledger")
    assert airflow.run(task).value["row_count"] == 20000
    assert orders.ask("sum(amount)") == before + 20000


def test_failed_ranges_of_batches_are_counted_and_named_alone(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(fail_three, tolerated_failures=3, range_retries=0, **MANY))
    assert result.state == "success", result.log
    assert result.value["failed_ranges"] == 3
    assert result.xcoms["burla_report"]["failed"] == 3
    assert len(set(re.findall(r"range \d+ \([^)]*\) failed(?: too: ValueError|: ValueError\n)", result.log))) == 3
    assert "ids from 3" in result.log
    assert airflow.run(operator(fail_three, tolerated_failures=2, range_retries=0, **MANY)).state == "failed"


def test_printed_lines_of_batches_name_their_range(airflow: Airflow, orders: Orders) -> None:
    log = airflow.run(operator(fail_three, tolerated_failures=3, range_retries=0, **MANY)).log
    lines = re.findall(r"range \d+ \((\S+) <= id < \S+\): ids from (\d+)", log)
    assert len(lines) > 300
    assert all(lower == "..." or int(lower) <= int(first) < int(lower) + 400 for lower, first in lines)


def test_a_job_of_batches_stops_at_the_first_failure(airflow: Airflow, orders: Orders, marks: Marks) -> None:  # noqa: F811
    slow = marks.slow(0.05)

    def fail_early(rows: Any) -> dict[str, Any]:
        value: dict[str, Any] = slow(rows)
        raise ValueError(value)

    result = airflow.run(operator(fail_early, on_range_failure="stop", range_retries=0, **MANY))
    assert result.state == "failed"
    assert 0 < len(marks.attempts()) < 100


@needs_state_stores
def test_a_killed_task_with_batches_is_resumed(airflow: Airflow, orders: Orders, marks: Marks) -> None:  # noqa: F811
    slow = marks.slow(0.03)
    report_writes(orders.connection)
    task = operator(slow, **MANY)
    run_and_kill(airflow, task, signal.SIGKILL, when=lambda: "burla_checkpoint_outcomes_00000" in airflow.state_store)
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%'"
    wait_for(lambda: orders.connection.execute(at_work).fetchone() == (0,))
    before = sum(marks.attempts().values())
    assert 0 < before < 350
    result = airflow.run(operator(slow, **MANY), try_number=2, max_tries=1)
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    report = result.xcoms["burla_report"]
    assert report["resumed"] > 0, result.log
    assert sum(marks.attempts().values()) - before == report["total"] - report["resumed"]
