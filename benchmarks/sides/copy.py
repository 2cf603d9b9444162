"""The limit for rows: each process receives its part of them as fast as possible and discards them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    import psycopg

    with ProcessPoolExecutor(task.workers) as pool:

        def run(task: Task) -> Result:
            with psycopg.connect(**task.login) as connection:
                query = f"SELECT percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {task.key}) FROM {task.table}"
                parts = [[part / task.workers for part in range(1, task.workers)]]
                [(bounds,)] = connection.execute(f"{query} TABLESAMPLE SYSTEM (1)", parts)
                if bounds is None:  # no page of a small table was in the sample
                    [(bounds,)] = connection.execute(query, parts)
            conditions = [
                " AND ".join(part)
                for part in zip(
                    ["TRUE", *(f"{task.key} >= {bound}" for bound in bounds)],
                    [*(f"{task.key} < {bound}" for bound in bounds), "TRUE"],
                    strict=True,
                )
            ]
            return Result(sum(pool.map(receive, [task] * task.workers, conditions)), None)

        yield run


def receive(task: Task, condition: str) -> int:
    import psycopg

    query = f"COPY (SELECT {', '.join(task.columns)} FROM {task.table} WHERE {condition}) TO STDOUT (FORMAT binary)"
    with psycopg.connect(**task.login) as connection, connection.cursor().copy(query) as copy:
        return sum(1 for _ in copy) - 1  # the last one is the end marker
