"""DuckDB: its extension for PostgreSQL, which reads pages over several connections in one snapshot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task

ROWS_PER_BATCH = 50_000


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import duckdb
    import pyarrow  # noqa: F401 - the processes need it too

    with ProcessPoolExecutor(task.workers) as pool:
        pool.submit(int).result()  # starts the processes, before DuckDB starts threads
        database = duckdb.connect(config={"threads": task.workers})
        database.execute(f"LOAD '{extension(duckdb.__version__)}'")

        def run(task: Task) -> Result:
            database.execute(f"ATTACH '{task.uri}' AS source (TYPE postgres, READ_ONLY)")
            try:
                if task.job == "totals":
                    query = f"SELECT count(*), sum(amount) FROM source.{task.table}"
                    return Result(*database.execute(query).fetchone())
                # The function needs text. As numbers, amounts would become Decimal objects first, which is slower.
                names = ["amount::varchar" if name == "amount" else name for name in task.columns]
                query = f"SELECT {', '.join(names)} FROM source.{task.table}"
                return add_up(database.execute(query).to_arrow_reader(ROWS_PER_BATCH))
            finally:
                database.execute("DETACH source")

        def add_up(batches) -> Result:
            rows = total = 0
            pending: deque[Future[int]] = deque()
            for batch in batches:
                rows += batch.num_rows
                pending.append(pool.submit(add_up_batch, batch))
                if len(pending) > 2 * task.workers:  # otherwise all rows would be in memory
                    total += pending.popleft().result()
            return Result(rows, total + sum(future.result() for future in pending))

        yield run


def extension(version: str) -> str:
    """Return the file of the extension. It comes from a package; DuckDB itself would download it."""
    package = find_spec("duckdb_extension_postgres_scanner")
    assert package is not None
    [folder] = package.submodule_search_locations or []
    return f"{folder}/extensions/v{version}/postgres_scanner.duckdb_extension"


def add_up_batch(batch) -> int:
    return sum(map(checksum, zip(*(column.to_pylist() for column in batch.columns), strict=True)))
