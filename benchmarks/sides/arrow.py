"""The provider's operator with functions on Arrow batches."""

from __future__ import annotations

from benchmarks.checksum import checksum
from benchmarks.task import Task
from burla_provider.operators.postgres import BurlaPostgresOperator


def checksum_batches(batches):
    columns = (zip(*(column.to_pylist() for column in batch.columns), strict=True) for batch in batches)
    return {"total": sum(checksum(row) for rows in columns for row in rows)}


def sum_batches(batches):
    import pyarrow.compute

    sums = (pyarrow.compute.sum(batch["amount"]).as_py() for batch in batches)
    return {"total": sum(amount for amount in sums if amount is not None)}


def make_operator(task: Task) -> BurlaPostgresOperator:
    work = {
        "totals": {"process_rows": sum_batches, "columns": ["amount"]},
        "checksum": {
            "process_rows": checksum_batches,
            # As text, because the function needs text: Decimal objects would be built only to be converted.
            "columns": {name: "amount::text" if name == "amount" else name for name in task.columns},
        },
    }
    return BurlaPostgresOperator(
        task_id="orders",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table=task.table,
        key=task.key if task.split == "key" else None,
        max_parallelism=task.workers,
        batch_format="arrow",
        requirements=["pyarrow"],
        **work[task.job],
    )
