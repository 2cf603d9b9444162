"""A job of forty ranges of half a second each, which leaves a mark in the database for each that is worked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.marks import Marks
from tests.support.waiting import wait_for

RANGES = 40


class SlowOrders:
    """The table of marks, and the task that makes them."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.marks = Marks(orders.connection)
        # What the fixture has written is counted before the first try looks, not only when its session says so.
        orders.connection.execute("SELECT pg_stat_force_next_flush()")

    def task(self, **options: Any) -> BurlaPostgresOperator:
        work = {"process_rows": self.marks.slow(0.5), "columns": ["id", "amount"]}
        defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": RANGES}
        return BurlaPostgresOperator(**{**defaults, **work, **options})

    def totals(self) -> dict[str, Any]:
        """What is true."""
        return {"row_count": 20000, "total": str(self.orders.ask("sum(amount)"))}


@contextmanager
def meanwhile(when: Callable[[], bool], act: Callable[[], Any]) -> Iterator[Future[None]]:
    """As soon as ``when()`` is true, while the body runs, ``act()``.

    Ask the ``result()`` of what it yields after the body: it raises what went wrong, or that the body was over before.
    """
    over = threading.Event()

    def watch() -> None:
        wait_for(lambda: over.is_set() or when(), 120)
        assert not over.is_set(), "The task was over before anything could befall it."
        act()

    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(watch)
        finally:
            over.set()
