"""Polars: ``read_database_uri``, which reads with ConnectorX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import polars

    def run(task: Task) -> Result:
        query = f"SELECT {task.key}, amount FROM {task.table}" if task.job == "totals" else task.exact_query
        frame = polars.read_database_uri(query, task.uri, partition_on=task.key, partition_num=task.workers)
        value = frame["amount"].sum() if task.job == "totals" else sum(map(checksum, frame.iter_rows()))
        return Result(frame.height, value)

    yield run
