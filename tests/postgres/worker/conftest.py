"""A table of orders, and range tasks that were pickled and unpickled."""

from __future__ import annotations

import cloudpickle
import psycopg
import pytest

import burla_provider
import tests
from burla_provider.database.connect import connection_parameters
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.outcome import decode
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source
from tests.support.snapshots import open_snapshot

ROWS = 1_000
KEY = Key((KeyColumn("id", "bigint"),))
ORDERS = Source("public", "orders", ("id", "amount"))


class Worker:
    """A range task that was pickled by value and unpickled, as on a worker."""

    def __init__(self, task: RangeTask) -> None:
        for package in (burla_provider, tests):  # as what a DAG file and its helpers define
            cloudpickle.register_pickle_by_value(package)
        self.pickled = cloudpickle.dumps(task)
        self.task = cloudpickle.loads(self.pickled)

    def __call__(self, key_range: KeyRange):
        return decode(self.task(key_range.index, key_range.to_item()))

    def close(self) -> None:
        self.task.close()


def ranges(count: int = 10, rows: int = ROWS) -> list[KeyRange]:
    """``count`` ranges over ids 1 to ``rows``, the first and the last one open-ended."""
    cuts = [None, *((str(rows * number // count + 1),) for number in range(1, count)), None]
    return [KeyRange(KEY, index, cuts[index], cuts[index + 1]) for index in range(count)]


@pytest.fixture
def orders(connection: psycopg.Connection) -> psycopg.Connection:
    """A connection to a database with 1,000 orders, ids 1 to 1,000, amounts of id / 100."""
    connection.execute(
        "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12,2) NOT NULL, n integer NOT NULL DEFAULT 0)"
    )
    connection.execute("INSERT INTO orders SELECT g, g / 100.0 FROM generate_series(1, %s) AS g", [ROWS])
    return connection


@pytest.fixture
def worker(orders: psycopg.Connection):
    """``worker(processor, **fields)``: a worker whose range task has these fields."""
    opened = []

    def make(processor, **fields) -> Worker:
        usual = {"parameters": connection_parameters(orders), "source": ORDERS, "key": KEY, "range_retries": 2}
        opened.append(Worker(RangeTask(processor=processor, **usual | fields)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def held(orders: psycopg.Connection):
    """A held snapshot of the orders."""
    with open_snapshot(connection_parameters(orders), "public", "orders") as held:
        yield held
