"""A job of forty ranges of half a second each, which leaves a mark in the database for each that is worked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.waiting import wait_for

RANGES = 40


class SlowOrders:
    """The table of marks, and the task that makes them."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.connection = orders.connection
        self.connection.execute("CREATE TABLE marks (first_id bigint)")
        # What the fixture has written is counted before the first try looks, not only when its session says so.
        self.connection.execute("SELECT pg_stat_force_next_flush()")
        self.conninfo = f"{self.connection.info.dsn} password={self.connection.info.password}"

    def task(self, **options: Any) -> BurlaPostgresOperator:
        conninfo = self.conninfo

        def slow(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
            import time

            import psycopg

            taken = list(rows)
            with psycopg.connect(conninfo) as connection:
                connection.execute("INSERT INTO marks VALUES (%s)", [taken[0][0]])
            time.sleep(0.5)
            return {"total": sum(amount for _, amount in taken)}

        defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": RANGES}
        return BurlaPostgresOperator(**{**defaults, "process_rows": slow, "columns": ["id", "amount"], **options})

    def marks(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM marks").fetchone()
        return row[0] if row else 0

    def distinct_marks(self) -> int:
        row = self.connection.execute("SELECT count(DISTINCT first_id) FROM marks").fetchone()
        return row[0] if row else 0

    def totals(self) -> dict[str, Any]:
        """What is true."""
        return {"row_count": 20000, "total": str(self.orders.ask("sum(amount)"))}


@contextmanager
def meanwhile(when: Callable[[], bool], act: Callable[[], Any]) -> Iterator[None]:
    """As soon as ``when()`` is true, while the body runs, ``act()``. Where the body is over before, nothing."""
    over = threading.Event()

    def watch() -> None:
        wait_for(lambda: over.is_set() or when(), 120)
        if not over.is_set():
            act()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
