"""One SQL statement: what the server can do without Python, and without sending rows anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.sides.writing.rows import CENTS, LABEL, SQL, on_conflict, update_from
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with psycopg.connect(**task.login, autocommit=True) as connection:

        def run(task: Task) -> Result:
            rows = f"SELECT {SQL} FROM {task.table}"
            query = f"INSERT INTO {task.target} {rows} {on_conflict(task)}"
            if task.job == "update":
                query = update_from(task, rows)
            if task.job == "in_place":
                query = f"UPDATE {task.target} SET cents = {CENTS}, label = {LABEL}"
            return Result(connection.execute(query).rowcount, None)  # type: ignore[arg-type]

        yield run
