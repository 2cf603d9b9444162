"""psycopg2: a named cursor reads, ``execute_values`` writes on another connection, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg2
from psycopg2.extras import execute_values

from benchmarks.sides.writing.rows import CHUNK, chunks, is_update, make_row, on_conflict, update_from
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with closing(psycopg2.connect(**task.login)) as source, closing(psycopg2.connect(**task.login)) as target:

        def run(task: Task) -> Result:
            count = 0
            query = f"INSERT INTO {task.target} (id, cents, label) VALUES %s {on_conflict(task)}"
            if is_update(task):
                query = update_from(task, "VALUES %s")
            with source, source.cursor("rows") as cursor, target, target.cursor() as writer:
                cursor.itersize = CHUNK
                cursor.execute(f"SELECT {', '.join(task.columns)} FROM {task.table}")
                for chunk in chunks(map(make_row, cursor)):
                    execute_values(writer, query, chunk, page_size=1_000)
                    count += len(chunk)
            return Result(count, None)

        yield run
