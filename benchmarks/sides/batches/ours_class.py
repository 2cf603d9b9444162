"""The provider on the local engine, with a class that records each of its instances and each process that calls one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import airflow_task
from benchmarks.task import Run, Task


class Recorder:
    def __init__(self, login, table, kills):
        import os

        import psycopg

        self.connection = psycopg.connect(**login, autocommit=True)
        self.table, self.kills, self.process = table, kills, os.getpid()
        self.record("made", self.process)

    def __call__(self, batches):
        import os
        import signal

        rows = sum(batch.num_rows for batch in batches)
        self.record("called", self.process)
        for number in range(self.kills):  # the first process that gets a number is killed
            if self.record("killed", number):
                os.kill(self.process, signal.SIGKILL)
        return {"total": rows}

    def record(self, event, value):
        query = f"INSERT INTO {self.table} VALUES (%s, %s) ON CONFLICT (event, value) WHERE event <> 'made' DO NOTHING"
        return self.connection.execute(query, [event, value]).rowcount

    def close(self):
        self.connection.close()


@contextmanager
def ready(task: Task) -> Iterator[Run]:
    with airflow_task.ready(task, {"extra": {"engine": "local"}}, "benchmarks.sides.batches.ours_class") as run:
        yield run


def make_operator(task: Task):
    from burla_provider.operators.postgres import BurlaPostgresOperator

    kills = int(task.job.partition(" ")[2])
    return BurlaPostgresOperator(
        task_id="constructors",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table=task.table,
        columns=["id"],
        process_rows=Recorder,
        op_kwargs={"login": task.login, "table": task.target, "kills": kills},
        batch_format="arrow",
        max_parallelism=task.workers,
        ranges=task.ranges,
    )
