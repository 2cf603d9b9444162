"""The provider on the Burla cluster of this machine, with Arrow batches."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks import airflow_task
from benchmarks.task import Run, Task
from burla_provider.demo.cluster import find_login


def ready(task: Task) -> AbstractContextManager[Run]:
    login = find_login()
    burla = {"host": login.url, "login": login.email, "password": login.token}
    return airflow_task.ready(task, burla, "benchmarks.sides.batches.ours", batch_format="arrow")
