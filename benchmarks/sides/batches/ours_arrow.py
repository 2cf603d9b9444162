"""The provider on the local engine, with batches of one format."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks import airflow_task
from benchmarks.task import Run, Task


def ready(task: Task) -> AbstractContextManager[Run]:
    return airflow_task.ready(
        task, {"extra": {"engine": "local"}}, "benchmarks.sides.batches.ours", batch_format="arrow"
    )
