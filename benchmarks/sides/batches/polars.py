"""Polars: ``read_database_uri``, which reads with ConnectorX, and expressions on the frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.batches.work import COLUMNS, FUNCTIONS
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import polars

    def run(task: Task) -> Result:
        query = f"SELECT {', '.join((task.key, *COLUMNS[task.job]))} FROM {task.table}"
        frame = polars.read_database_uri(query, task.uri, partition_on=task.key, partition_num=task.workers)
        return Result(frame.height, FUNCTIONS["polars"][task.job](frame))

    yield run
