"""The provider's operator, as in a DAG."""

from __future__ import annotations

from benchmarks.checksum import checksum
from benchmarks.task import Task
from burla_provider.operators.postgres import BurlaPostgresOperator


def checksum_rows(rows):
    return {"total": sum(map(checksum, rows))}


def sum_rows(rows):
    return {"total": sum(amount for (amount,) in rows)}


def make_operator(task: Task) -> BurlaPostgresOperator:
    work = {
        "totals": {"totals": {"total": "sum(amount)"}},
        "sum_rows": {"process_rows": sum_rows, "columns": ["amount"]},
        "checksum": {"process_rows": checksum_rows, "columns": task.columns},
    }
    return BurlaPostgresOperator(
        task_id="orders",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table=task.table,
        key=task.key if task.split in ("key", "width") else None,
        max_parallelism=task.workers,
        ranges=task.ranges,
        split="auto" if task.split == "key" else task.split,
        **work[task.job],
    )
