"""Ray Data: ``read_sql``, one shard per worker, and ``map_batches``, which runs in the tasks that read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.sides.batches.work import COLUMNS, FUNCTIONS
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray

    ray.init(num_cpus=task.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def run(task: Task) -> Result:
        login, function = task.login, FUNCTIONS["arrow"][task.job]

        def connect():
            import psycopg2

            return psycopg2.connect(**login)

        def add_up(batch):
            import pyarrow as pa

            return pa.table({"rows": [batch.num_rows], "total": [function(batch)]})

        # As text, because psycopg2 would parse it.
        names = [f"{name}::text AS {name}" if name == "attributes" else name for name in COLUMNS[task.job]]
        data = ray.data.read_sql(
            f"SELECT {', '.join((task.key, *names))} FROM {task.table}",
            connect,
            shard_keys=[task.key],
            shard_hash_fn="",  # the key is a number, and PostgreSQL's MD5 returns text
            override_num_blocks=task.workers,
        )
        parts = data.map_batches(add_up, batch_format="pyarrow", batch_size=50_000).take_all()
        return Result(sum(part["rows"] for part in parts), sum(part["total"] for part in parts))

    yield run
    ray.shutdown()
