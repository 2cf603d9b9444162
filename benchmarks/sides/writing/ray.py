"""Ray Data: ``read_sql`` in two shards, and ``write_sql``, which calls ``executemany``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.writing.rows import COLUMNS, make_row
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray

    ray.init(num_cpus=task.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(task: Task) -> Result:
        login = task.login

        def connect():
            import psycopg2

            return psycopg2.connect(**login)

        def make_batch(batch):
            rows = map(make_row, zip(*(batch[name].tolist() for name in task.columns), strict=True))
            return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))

        query = f"SELECT {', '.join(task.columns)} FROM {task.table}"
        data = ray.data.read_sql(
            query, connect, shard_keys=[task.key], shard_hash_fn="", override_num_blocks=task.workers
        )
        data.map_batches(make_batch).write_sql(f"INSERT INTO {task.target} VALUES (%s, %s, %s)", connect)
        return Result(0, None)

    yield run
    ray.shutdown()
