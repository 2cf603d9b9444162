"""A table of orders, and work on it that has made the way to another interpreter."""

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
    """A range's work, pickled by value and unpickled, as a worker has it."""

    def __init__(self, work: RangeTask) -> None:
        for package in (burla_provider, tests):  # as what a DAG file and its helpers define
            cloudpickle.register_pickle_by_value(package)
        self.pickled = cloudpickle.dumps(work)
        self._work = cloudpickle.loads(self.pickled)

    def __call__(self, key_range: KeyRange):
        return decode(self._work(key_range.index, key_range.to_item()))

    def close(self) -> None:
        self._work.close()


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
    """``worker(kind, **fields)``: a worker whose work has these fields."""
    opened = []

    def make(kind, **fields) -> Worker:
        usual = {"parameters": connection_parameters(orders), "source": ORDERS, "key": KEY, "range_retries": 2}
        opened.append(Worker(RangeTask(kind=kind, **usual | fields)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.fixture
def held(orders: psycopg.Connection):
    """The orders at this moment."""
    with open_snapshot(connection_parameters(orders), "public", "orders") as held:
        yield held
