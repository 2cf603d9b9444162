"""Parameters about the machines that calls run on."""

from __future__ import annotations

from typing import Any

import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow


@pytest.mark.parametrize("gpu", ["A100", "{{ 'A' ~ 100 }}"])
def test_the_local_engine_refuses_a_gpu_before_anything_starts(airflow: Airflow, gpu: str) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[1], func_gpu=gpu)
    result = airflow.run(task, max_tries=3)
    assert result.state == "failed"
    assert str(result.error) == (
        "func_gpu: the local engine assigns no GPUs, got 'A100'. Leave it out, or use a connection to a cluster."
    )
    stored = [message.key for message in airflow.messages if "TaskStateStore" in type(message).__name__]
    assert set(stored) <= {"burla_report", "burla_tries"}


def test_a_gpu_does_not_matter_for_a_plan(airflow: Airflow, orders: Orders) -> None:
    options: dict[str, Any] = {"table": "orders", "postgres_conn_id": "orders_db", "totals": {"n": "count(*)"}}
    task = BurlaPostgresOperator(task_id="t", plan_only=True, func_gpu="A100", **options)
    assert airflow.run(task).state == "success"


def test_templates_of_resources_may_render_to_nothing(airflow: Airflow) -> None:
    empty = dict.fromkeys(("func_gpu", "disk_gb", "grow", "max_parallelism"), "{{ '' }}")
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=abs, inputs=[-1], **empty))
    assert result.value == [1], result.log


def test_the_local_engine_boots_no_nodes(airflow: Airflow) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[-1], grow="{{ true }}", disk_gb="{{ 100 }}")
    assert airflow.run(task).value == [1]
