"""One SQL query: the limit for totals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import psycopg

    def run(task: Task) -> Result:
        with psycopg.connect(**task.login) as connection:
            query = f"SELECT count(*), sum(amount) FROM {task.table}"
            return Result(*connection.execute(query).fetchone())  # type: ignore[arg-type, misc]

    yield run
