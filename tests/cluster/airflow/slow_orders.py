"""A job of 40 ranges of half a second each. Each inserts a row into ``marks``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.marks import Marks
from tests.support.postgres import report_writes
from tests.support.waiting import wait_for

RANGES = 40


class SlowOrders:
    """The table of marks, and the task that writes them."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.marks = Marks(orders.connection)
        # The first try must see the statistics of the rows that the fixture has written.
        report_writes(orders.connection)

    def task(self, **options: Any) -> BurlaPostgresOperator:
        work = {"process_rows": self.marks.slow(0.5), "columns": ["id", "amount"]}
        defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": RANGES}
        return BurlaPostgresOperator(**{**defaults, **work, **options})

    def totals(self) -> dict[str, Any]:
        """Return the expected result."""
        return {"row_count": 20000, "total": str(self.orders.ask("sum(amount)"))}


@contextmanager
def meanwhile(when: Callable[[], bool], act: Callable[[], Any]) -> Iterator[Future[None]]:
    """Call ``act()`` as soon as ``when()`` is true, while the body runs.

    :yields: a future. Call its ``result()`` after the body: it raises the error of ``act``, or an error if the body
        ended before.
    """
    over = threading.Event()

    def watch() -> None:
        wait_for(lambda: over.is_set() or when(), 120)
        assert not over.is_set(), "The task ended before when() was true."
        act()

    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(watch)
        finally:
            over.set()
