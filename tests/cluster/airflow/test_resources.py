"""What the cluster says about resources that it does not have."""

from __future__ import annotations

import pytest

from burla_provider.operators.map import BurlaMapOperator
from tests.airflow.conftest import Orders
from tests.cluster.jobs.conftest import Cluster
from tests.support.task_runner import Airflow


@pytest.mark.parametrize(
    ("gpu", "problem"),
    [
        ("X100", "The cluster refused the job: func_gpu must be one of ['A100', 'A100_40G'"),
        ("A100", "No ready nodes match `func_gpu='A100'`"),
    ],
)
def test_a_gpu_that_the_cluster_does_not_have_fails_the_task_in_words(
    on_burla: Airflow, orders: Orders, gpu: str, problem: str
) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[1], func_gpu=gpu)
    result = on_burla.run(task, max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith("func_gpu: ")
    assert problem in str(result.error)
    assert str(result.error).endswith(
        f"Got {gpu!r}. Use a GPU that the cluster's cloud has, add nodes with it, or use grow=True."
    )


def test_a_disk_size_is_passed_to_the_cluster(on_burla: Airflow, orders: Orders, cluster: Cluster) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[-1], grow=True, disk_gb="{{ 20 * 5 }}")
    result = on_burla.run(task)
    assert result.value == [1], result.log
    job_id = result.log.split("Job ", 1)[1].split(":", 1)[0]
    assert cluster.job(job_id)["requested_disk_gb"] == 100
