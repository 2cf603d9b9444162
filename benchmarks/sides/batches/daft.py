"""Daft: ``read_sql``, which reads with ConnectorX, and a class with a batch method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.batches.work import COLUMNS, FUNCTIONS
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import daft

    # In the process: the function runs in Arrow, which needs no lock of Python.
    @daft.cls(max_concurrency=task.workers, use_process=False)
    class Total:
        def __init__(self, job: str) -> None:
            self.names, self.function = COLUMNS[job], FUNCTIONS["arrow"][job]

        @daft.method.batch(return_dtype=daft.DataType.int64())
        def add_up(self, *columns: daft.Series):
            import pyarrow as pa

            arrays = [column.to_arrow() for column in columns]
            total = self.function(pa.table(arrays, self.names))
            # A method returns as many values as it gets.
            return pa.array([total] + [0] * (len(arrays[0]) - 1), pa.int64())

    def run(task: Task) -> Result:
        names = COLUMNS[task.job]
        query = f"SELECT {', '.join((task.key, *names))} FROM {task.table}"
        frame = daft.read_sql(query, task.uri, partition_col=task.key, num_partitions=task.workers)
        totals = frame.select(Total(task.job).add_up(*(daft.col(name) for name in names)).alias("total"))
        found = totals.agg(daft.col("total").count().alias("rows"), daft.col("total").sum()).to_pydict()
        return Result(found["rows"][0], found["total"][0])

    yield run
