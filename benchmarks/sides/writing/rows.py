"""What all sides make of a row, in Python and in SQL, and the statements that write it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.task import Task

COLUMNS = ("id", "cents", "label")
CENTS, LABEL = "(amount * 100)::bigint", "'order ' || id"
SQL = f"id, {CENTS} AS cents, {LABEL} AS label"
"""The same as ``make_row``."""
CHUNK = 10_000


def make_row(row: tuple[Any, ...]) -> tuple[Any, ...]:
    order_id, amount = row
    return order_id, int(amount * 100), f"order {order_id}"


def is_update(task: Task) -> bool:
    return task.job in ("update", "in_place")


def on_conflict(task: Task) -> str:
    """Return what follows the rows of an INSERT."""
    if task.job == "insert":
        return ""
    return "ON CONFLICT (id) DO UPDATE SET cents = excluded.cents, label = excluded.label"


def update_from(task: Task, rows: str) -> str:
    """Return the statement that updates the target with rows."""
    return (
        f"UPDATE {task.target} AS t SET cents = s.cents, label = s.label FROM ({rows}) AS s (id, cents, label)"
        " WHERE t.id = s.id"
    )


def chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
