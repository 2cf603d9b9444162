"""The provider on the local engine."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks import airflow_task
from benchmarks.task import Run, Task


def ready(task: Task) -> AbstractContextManager[Run]:
    return airflow_task.ready(task, {"extra": {"engine": "local"}}, "benchmarks.sides.large.ours")
