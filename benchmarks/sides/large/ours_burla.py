"""The provider on the Burla cluster of this machine. Only the connection differs from the local engine."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks import airflow_task
from benchmarks.task import Run, Task
from burla_provider.demo.cluster import find_login


def ready(task: Task) -> AbstractContextManager[Run]:
    login = find_login()
    return airflow_task.ready(
        task, {"host": login.url, "login": login.email, "password": login.token}, "benchmarks.sides.large.ours"
    )
