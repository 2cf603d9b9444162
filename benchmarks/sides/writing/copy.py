"""COPY alone: the rows are computed and formatted before the time starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.sides.writing.rows import SQL
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with psycopg.connect(**task.login, autocommit=True) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY (SELECT {SQL} FROM {task.table}) TO STDOUT") as copy:  # type: ignore[arg-type]
            data = b"".join(copy)

        def run(task: Task) -> Result:
            with cursor.copy(f"COPY {task.target} FROM STDIN") as copy:  # type: ignore[arg-type]
                copy.write(data)
            return Result(cursor.rowcount, None)

        yield run
