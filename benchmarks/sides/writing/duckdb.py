"""DuckDB: INSERT into an attached PostgreSQL. Its expressions take the place of the Python function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from benchmarks.sides.writing.rows import SQL
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import duckdb

    database = duckdb.connect(config={"threads": task.workers})
    # DuckDB itself would download the extension.
    [folder] = find_spec("duckdb_extension_postgres_scanner").submodule_search_locations  # type: ignore[union-attr]
    database.execute(f"LOAD '{folder}/extensions/v{duckdb.__version__}/postgres_scanner.duckdb_extension'")
    database.execute(f"ATTACH '{task.uri}' AS orders_db (TYPE postgres)")

    def run(task: Task) -> Result:
        database.execute("CALL pg_clear_cache()")
        query = f"INSERT INTO orders_db.{task.target} SELECT {SQL} FROM orders_db.{task.table}"
        return Result(database.execute(query).fetchone()[0], None)

    yield run
    database.close()
