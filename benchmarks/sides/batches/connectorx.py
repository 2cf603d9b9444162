"""ConnectorX: the table into Arrow, partitioned on the key, and the function on its batches in threads."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.sides.batches.threads import add_up
from benchmarks.sides.batches.work import COLUMNS
from benchmarks.task import Result, Run, Task

ROWS_PER_BATCH = 50_000


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import connectorx
    import pyarrow.compute  # noqa: F401

    with ThreadPoolExecutor(task.workers) as pool:

        def run(task: Task) -> Result:
            query = f"SELECT {', '.join((task.key, *COLUMNS[task.job]))} FROM {task.table}"
            table = connectorx.read_sql(
                task.uri, query, return_type="arrow", partition_on=task.key, partition_num=task.workers
            )
            return add_up(pool, task, table.to_batches(max_chunksize=ROWS_PER_BATCH))

        yield run
