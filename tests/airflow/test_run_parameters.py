"""Parameters that a person sets for one run, by the params of the DAG."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import START, Airflow

PARAMS = {
    "plan_only": False,
    "split": "auto",
    "consistency": "snapshot",
    "trial_ranges": 0,
    "on_range_failure": "finish",
    "tolerated_failures": "0",
}


def fail_early(rows: Any) -> dict[str, Any]:
    ids = [row[0] for row in rows]
    if min(ids) < 6000:
        raise ValueError("no such order")
    return {"largest": max(ids)}


@pytest.fixture(params=[False, True], ids=["text", "native"])
def operator(request: pytest.FixtureRequest) -> BurlaPostgresOperator:
    """An operator with a template for each parameter that a run may set."""
    with DAG("d", start_date=START, schedule=None, params=PARAMS, render_template_as_native_obj=request.param):
        return BurlaPostgresOperator(
            task_id="t",
            postgres_conn_id="orders_db",
            table="orders",
            columns=["id"],
            process_rows=fail_early,
            ranges=4,
            max_parallelism=1,
            **{name: f"{{{{ params.{name} }}}}" for name in PARAMS},
        )


def test_a_run_can_be_plan_only(airflow: Airflow, orders: Orders, operator: Any) -> None:
    result = airflow.run(operator, conf={"plan_only": True, "split": "width"})
    assert result.state == "success", result.log
    assert result.value["strategy"] == "width"
    assert "Job " not in result.log


def test_a_run_can_set_trial_ranges(airflow: Airflow, orders: Orders, operator: Any) -> None:
    result = airflow.run(operator, conf={"trial_ranges": 1, "split": "width"})
    assert "Trial: running 1 of " in result.log
    assert "The trial passed" in result.log
    result = airflow.run(operator, conf={"trial_ranges": 2}, run_id="b")
    assert "The trial failed" in str(result.error)


def test_a_run_can_set_tolerated_failures_and_snapshot(airflow: Airflow, orders: Orders, operator: Any) -> None:
    result = airflow.run(operator, conf={"tolerated_failures": "50%", "consistency": "none", "split": "width"})
    assert result.state == "success", result.log
    assert result.value["complete"] is False
    assert "napshot" not in result.log


def test_a_run_can_set_stop_at_the_first_failure(airflow: Airflow, orders: Orders, operator: Any) -> None:
    finished = airflow.run(operator, conf={"on_range_failure": "finish", "split": "width"})
    assert finished.state == "failed"
    stopped = airflow.run(operator, conf={"on_range_failure": "stop", "split": "width"}, run_id="b")
    assert stopped.state == "failed"
    assert stopped.xcoms["burla_report"]["done"] < finished.xcoms["burla_report"]["done"]


def test_what_a_run_sets_is_refused_without_a_retry_if_it_cannot_be_used(
    airflow: Airflow, orders: Orders, operator: Any
) -> None:
    result = airflow.run(operator, conf={"plan_only": "maybe"}, max_tries=3)
    assert result.state == "failed"
    assert str(result.error) == "plan_only: must be a boolean, got 'maybe'. Use True or False."


@pytest.mark.parametrize("name", ["inputs", "op_kwargs", "requirements"])
def test_the_error_of_a_list_that_was_rendered_to_text_says_how_to_keep_it(airflow: Airflow, name: str) -> None:
    with DAG("d", start_date=START, schedule=None, params={"value": {"a": 1} if name == "op_kwargs" else ["a"]}):
        options = {"inputs": [1], "op_kwargs": {}, name: "{{ params.value }}"}
        operator = BurlaMapOperator(task_id="t", python_callable=lambda value, **others: value, **options)
    error = str(airflow.run(operator).error)
    assert error.startswith(f"{name}: must be a ")
    assert error.endswith(" A template renders to text, unless the DAG has render_template_as_native_obj=True.")


@pytest.mark.parametrize("condition", [False, 0, True])
def test_a_condition_that_is_rendered_to_another_type_is_refused(
    airflow: Airflow, orders: Orders, condition: Any
) -> None:
    with DAG("d", start_date=START, schedule=None, params={"where": ""}, render_template_as_native_obj=True):
        operator = BurlaPostgresOperator(
            task_id="t",
            postgres_conn_id="orders_db",
            table="orders",
            where="{{ params.where }}",
            totals={"n": "count(*)"},
            retries=1,
        )
    result = airflow.run(operator, conf={"where": condition}, max_tries=1)
    assert result.state == "failed"
    assert str(result.error).startswith(f"where: must be a condition in SQL, got {condition!r}.")


def test_a_run_can_tolerate_failures_of_inputs(airflow: Airflow) -> None:
    names = ("trial_inputs", "on_input_failure", "tolerated_failures")
    with DAG("d", start_date=START, schedule=None, params={"trial_inputs": 0, "tolerated_failures": 0}):
        task = BurlaMapOperator(
            task_id="t",
            python_callable=lambda number: 1 // number,
            inputs=[1, 1, 0, 1],
            on_input_failure="{{ 'stop' }}",
            **{name: f"{{{{ params.{name} }}}}" for name in names if name != "on_input_failure"},
        )
    assert airflow.run(task).state == "failed"
    result = airflow.run(task, conf={"trial_inputs": 2, "tolerated_failures": "25%"}, run_id="b")
    assert result.value == [1, 1, None, 1]
    assert "Trial: running 2 of 4 first." in result.log
