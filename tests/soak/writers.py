"""Writers: threads that change all tables until they are stopped."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

_LIMITS = "-c statement_timeout=4s -c idle_in_transaction_session_timeout=4s"
"""They keep a transaction shorter than the lag of the incremental DAGs, also on a busy machine."""

Connection = psycopg.Connection[Any]


def change_orders(connection: Connection, draw: random.Random) -> None:
    """Insert, update and delete orders. There are about as many afterwards."""
    insert = "INSERT INTO orders (amount, version) SELECT %s + n / 3.0, 0 FROM generate_series(1, %s) AS n"
    connection.execute(insert, [draw.randrange(1000), draw.randrange(8)])
    pick = "SELECT id FROM orders WHERE id >= %s ORDER BY id LIMIT %s FOR UPDATE"
    first = draw.randrange(20_000)
    update = f"UPDATE orders SET amount = amount + 1.25, version = version + 1 WHERE id IN ({pick})"
    connection.execute(update.encode(), [first, draw.randrange(30)])
    delete = f"DELETE FROM orders WHERE id IN ({pick})"
    connection.execute(delete.encode(), [first, draw.randrange(8)])


def add_events(connection: Connection, draw: random.Random) -> None:
    """Insert events, which become visible later than those of a faster writer."""
    insert = "INSERT INTO events (amount) SELECT %s + n / 7.0 FROM generate_series(1, %s) AS n"
    connection.execute(insert, [draw.randrange(1000), draw.randrange(1, 12)])
    time.sleep(draw.choice([0, 0.1, 1.5]))


def change_counters(connection: Connection, draw: random.Random) -> None:
    """Add 1,000 to some counters, to which the task adds 1."""
    first = draw.randrange(12_000)
    update = "UPDATE counters SET n = n + 1000, writes = writes + 1 WHERE id BETWEEN %s AND %s"
    connection.execute(update, [first, first + 20])


def change_targets(connection: Connection, draw: random.Random) -> None:
    """Change columns and rows of the targets that the tasks do not own."""
    first = draw.randrange(20_000)
    update = "UPDATE order_labels SET touches = touches + 1 WHERE order_id BETWEEN %s AND %s"
    touches = connection.execute(update, [first, first + 10]).rowcount
    number = draw.randrange(100)
    scores = -connection.execute("DELETE FROM order_scores WHERE (order_id, source) = (%s, 'other')", [number]).rowcount
    if not scores:
        scores = connection.execute("INSERT INTO order_scores VALUES (%s, 'other', 0, '')", [number]).rowcount
    connection.execute("INSERT INTO writes VALUES (%s, %s)", [touches, scores])


class Writers:
    """The running writers. As a context manager, it stops them.

    :param source: conninfo of the database that tasks read.
    :param target: conninfo of the database that they write to.
    :ivar commits: number of transactions.
    :ivar failures: errors that no kill explains.
    """

    def __init__(self, source: str, target: str, seed: int) -> None:
        self.commits = 0
        self.failures: list[str] = []
        self._stopped = threading.Event()
        work = [(source, change_orders)] * 2 + [(source, add_events)] * 2
        work += [(source, change_counters), (target, change_targets)]
        self._threads = [
            threading.Thread(target=self._run, args=[conninfo, change, random.Random(f"{seed} {number}")])
            for number, (conninfo, change) in enumerate(work)
        ]

    def stop(self) -> None:
        """Stop the writers. No transaction is left open."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, conninfo: str, change: Callable[[Connection, random.Random], None], draw: random.Random) -> None:
        while not self._stopped.is_set():
            try:
                with psycopg.connect(conninfo, application_name="writer", options=_LIMITS) as connection:
                    while not self._stopped.is_set():
                        with connection.transaction() as transaction:
                            change(connection, draw)
                            if draw.random() < 0.1:
                                raise psycopg.Rollback(transaction)
                        self.commits += 1
                        self._stopped.wait(draw.uniform(0.05, 0.4))
            except (psycopg.OperationalError, psycopg.errors.IdleInTransactionSessionTimeout, psycopg.Rollback):
                # The server restarts, also before a rollback, or another session holds a lock for too long.
                self._stopped.wait(0.5)
            except Exception as error:
                self.failures.append(f"{change.__name__}: {type(error).__name__}: {error}")
                return
