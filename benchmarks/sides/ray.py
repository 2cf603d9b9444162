"""Ray Data: ``read_sql``, one shard per worker.

The query of each shard reads the whole table, WHERE MOD(ABS((id)), 2) = 0. With 24 shards, like the partitions of Dask
and Spark, the database needed more than twice the time, and the job was not faster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.checksum import checksum
from benchmarks.task import Result, Run, Task


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    import ray
    from ray.data.aggregate import Count, Sum

    ray.init(num_cpus=task.workers, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def read(task: Task, query: str, connect):
        # No hash function: the key is a number, and PostgreSQL's MD5 returns text.
        return ray.data.read_sql(
            query, connect, shard_keys=[task.key], shard_hash_fn="", override_num_blocks=task.ranges or task.workers
        )

    def run(task: Task) -> Result:
        login = task.login

        def connect():
            import psycopg2

            return psycopg2.connect(**login)

        def digest(batch):
            rows = list(zip(*(batch[name].tolist() for name in task.columns), strict=True))
            return {"rows": [len(rows)], "checksum": [sum(map(checksum, rows))]}

        if task.job == "totals":
            data = read(task, f"SELECT {task.key}, amount FROM {task.table}", connect)
            found = data.aggregate(Count(), Sum("amount"))
            return Result(found["count()"], found["sum(amount)"])
        data = read(task, task.exact_query, connect)
        found = data.map_batches(digest).aggregate(Sum("rows"), Sum("checksum"))
        return Result(int(found["sum(rows)"]), int(found["sum(checksum)"]))

    yield run
    ray.shutdown()
