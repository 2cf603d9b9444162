"""DuckDB: its extension for PostgreSQL, and the function on Arrow batches in threads.

The function runs in Arrow, which needs no lock of Python, so threads are faster here than processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from benchmarks.sides.batches.threads import add_up
from benchmarks.sides.batches.work import COLUMNS
from benchmarks.sides.duckdb import ROWS_PER_BATCH, extension
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import duckdb
    import pyarrow.compute  # noqa: F401

    database = duckdb.connect(config={"threads": task.workers})
    database.execute(f"LOAD '{extension(duckdb.__version__)}'")
    with ThreadPoolExecutor(task.workers) as pool:

        def run(task: Task) -> Result:
            database.execute(f"ATTACH '{task.uri}' AS source (TYPE postgres, READ_ONLY)")
            try:
                query = f"SELECT {', '.join(COLUMNS[task.job])} FROM source.{task.table}"
                return add_up(pool, task, database.execute(query).to_arrow_reader(ROWS_PER_BATCH))
            finally:
                database.execute("DETACH source")

        yield run
