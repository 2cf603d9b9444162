"""The provider's operator, as in a DAG."""

from __future__ import annotations

from typing import Any

from benchmarks.sides.writing.rows import COLUMNS, make_row
from benchmarks.task import Task
from burla_provider.operators.transform import BurlaPostgresTransformOperator


def make_values(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return make_row(row)[1:]


def make_operator(task: Task) -> BurlaPostgresTransformOperator:
    if task.job == "in_place":
        return BurlaPostgresTransformOperator(
            task_id="order_cents",
            postgres_conn_id="orders_db",
            burla_conn_id="burla_default",
            table=task.table,
            columns=task.columns,
            map_row=make_values,
            write_mode="update",
            update_columns=COLUMNS[1:],
            ledger="burla_ledger",
            max_parallelism=task.workers,
        )
    return BurlaPostgresTransformOperator(
        task_id="order_cents",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table=task.table,
        columns=task.columns,
        map_row=make_row,
        target_table=task.target,
        target_columns=COLUMNS,
        write_mode="upsert" if task.job == "repeat" else task.job,
        ledger="burla_ledger",
        max_parallelism=task.workers,
    )
