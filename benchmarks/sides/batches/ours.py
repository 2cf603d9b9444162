"""The provider's operator with functions of batches, as in a DAG."""

from __future__ import annotations

from benchmarks.sides.batches.work import COLUMNS, FUNCTIONS
from benchmarks.task import Task
from burla_provider.operators.postgres import BurlaPostgresOperator


def make_operator(task: Task, batch_format: str) -> BurlaPostgresOperator:
    function = FUNCTIONS[batch_format][task.job]

    def add_batches(batches):
        return {"total": sum(map(function, batches))}

    def add_rows(rows):
        return {"total": function(rows)}

    is_rows = batch_format == "tuples"
    return BurlaPostgresOperator(
        task_id=task.job,
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table=task.table,
        columns=COLUMNS[task.job],
        process_rows=add_rows if is_rows else add_batches,
        batch_format=None if is_rows else batch_format,
        max_parallelism=task.workers,
    )
