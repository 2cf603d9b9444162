"""The operators of ``benchmarks/large.py``. ``task.ranges`` is the number of inputs or ranges."""

from __future__ import annotations

from typing import Any

from benchmarks.sides.ours import checksum_rows
from benchmarks.task import Task
from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator

RESULT_BYTES = 200_000_000
"""Size of all results of a job together."""

PART_END = 30_000_000
"""The last id of the part of the largest table whose rows are processed in Python."""


def last_digit(number):
    return number % 10


def make_operator(task: Task) -> BurlaBaseOperator:
    count, common = task.ranges, {"task_id": "large", "max_parallelism": task.workers}
    size = RESULT_BYTES // (count or 1)

    def make_text(_):
        return "x" * size

    def make_range_text(rows):
        return {"rows": sum(1 for _ in rows), "text": "x" * size}

    def count_texts(results):
        return {"total": len(results)}

    if task.job in ("inputs", "results", "refused"):
        limit: dict[str, Any] = {"max_result_bytes": None} if task.job == "results" else {}
        function = last_digit if task.job == "inputs" else make_text
        return BurlaMapOperator(python_callable=function, inputs=list(range(count or 0)), **limit, **common)
    work = {
        "totals": {"totals": {"total": "sum(amount)"}},
        "range_results": {"process_rows": make_range_text, "columns": ["id"], "combine": count_texts},
        "rows": {"process_rows": checksum_rows, "columns": task.columns},
        "part": {"process_rows": checksum_rows, "columns": task.columns, "end_id": PART_END},
    }
    return BurlaPostgresOperator(
        postgres_conn_id="orders_db",
        table=task.table,
        key=None if task.split == "auto" else "id",
        ranges=count,
        **work[task.job],
        **common,
    )
