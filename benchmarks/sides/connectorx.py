"""ConnectorX: the table into Arrow, partitioned on the key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import connectorx
    import pyarrow.compute as pc

    def read(task: Task, query: str):
        return connectorx.read_sql(
            task.uri, query, return_type="arrow", partition_on=task.key, partition_num=task.workers, protocol="binary"
        )

    def run(task: Task) -> Result:
        if task.job == "totals":
            table = read(task, f"SELECT {task.key}, amount FROM {task.table}")
            return Result(table.num_rows, pc.sum(table.column("amount")).as_py())
        table = read(task, task.exact_query)
        batches = table.to_batches(max_chunksize=10_000)
        rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
        return Result(table.num_rows, sum(map(checksum, rows)))

    yield run
