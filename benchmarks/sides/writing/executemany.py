"""psycopg: a server-side cursor reads, ``executemany`` writes on another connection, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from benchmarks.sides.writing.rows import CHUNK, chunks, is_update, make_row, on_conflict
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with psycopg.connect(**task.login) as source, psycopg.connect(**task.login) as target:

        def run(task: Task) -> Result:
            count = 0
            query = f"INSERT INTO {task.target} (id, cents, label) VALUES (%s, %s, %s) {on_conflict(task)}"
            if is_update(task):
                query = f"UPDATE {task.target} SET cents = %s, label = %s WHERE id = %s"
            with source.transaction(), source.cursor("rows") as cursor, target.transaction():
                cursor.itersize = CHUNK
                cursor.execute(f"SELECT {', '.join(task.columns)} FROM {task.table}")  # type: ignore[arg-type]
                for chunk in chunks(map(make_row, cursor)):
                    rows = [(*row[1:], row[0]) for row in chunk] if is_update(task) else chunk
                    target.cursor().executemany(query, rows)  # type: ignore[arg-type]
                    count += len(chunk)
            return Result(count, None)

        yield run
