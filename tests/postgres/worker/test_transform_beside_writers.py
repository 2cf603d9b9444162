"""A table is updated in place while other sessions change, delete and insert its rows."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import Outcome
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import RowFormat
from burla_provider.worker.sinks import Target, UpdateInPlace
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ROWS, ranges
from tests.support.marks import conninfo_of
from tests.support.waiting import wait_for

SEEDS = range(int(os.environ.get("BURLA_TEST_SEEDS", "3")))
LEDGER = Ledger("public", "ledger", "dag/task/run")
WRITERS = 2

CHECKS = """
    ALTER TABLE orders ADD version integer NOT NULL DEFAULT 0, ADD computed integer, ADD others integer;
    CREATE FUNCTION check_computed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF new.computed IS DISTINCT FROM old.computed AND new.computed <> old.version THEN
            RAISE EXCEPTION 'the row % has changed since it was read', new.id;
        END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER check_computed BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION check_computed();
"""
"""The job stores the version that it has read. A writer increments it."""


PARTITIONED = """
    ALTER TABLE orders RENAME TO plain;
    CREATE TABLE orders (LIKE plain INCLUDING DEFAULTS, st integer NOT NULL DEFAULT 0, PRIMARY KEY (id, st))
        PARTITION BY LIST (st);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES IN (0);
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);
    CREATE TABLE orders_2 PARTITION OF orders FOR VALUES IN (2);
    INSERT INTO orders SELECT *, id % 3 FROM plain;
"""


class Writers:
    """Sessions that change, delete and insert orders until they are stopped."""

    def __init__(self, conninfo: str, seed: int, change: str) -> None:
        self.conninfo, self.seed, self.change = conninfo, seed, change
        self.changed: Counter[int] = Counter()
        self.deleted: set[int] = set()
        self.stop = threading.Event()

    def __call__(self, number: int) -> None:
        random = Random(self.seed * 10 + number)
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while not self.stop.is_set():
                id_ = random.randrange(1, ROWS // WRITERS + 1) * WRITERS - number  # each writer has its own rows
                action = random.random()
                if id_ in self.deleted:
                    continue
                if action < 0.8:
                    connection.execute(f"UPDATE orders SET {self.change} WHERE id = %s", [id_])
                    self.changed[id_] += 1
                elif action < 0.9:
                    connection.execute("DELETE FROM orders WHERE id = %s", [id_])
                    self.deleted.add(id_)
                else:
                    new = 10 * ROWS + random.randrange(10**9) * WRITERS - number
                    connection.execute("INSERT INTO orders (id, amount) VALUES (%s, 0)", [new])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ledger", [LEDGER, None], ids=["ledger", "none"])
@pytest.mark.parametrize("moves", [False, True], ids=["plain", "rows move to other partitions"])
def test_no_update_is_lost_and_every_row_is_computed(
    orders: psycopg.Connection[Any], worker: Any, tmp_path: Path, moves: bool, ledger: Ledger | None, seed: int
) -> None:
    change = "version = version + 1, others = 1"
    unique, fixed = KEY, None
    if moves:
        orders.execute(PARTITIONED)
        change += ", st = mod(st + 1 + version / 2, 3)"
        unique, fixed = Key((*KEY.columns, KeyColumn("st", "integer"))), KEY.names
    orders.execute(CHECKS)
    prepare_ledger(orders, LEDGER)

    gate = str(tmp_path / "gate")

    def compute(row: tuple[Any, ...]) -> tuple[Any, ...]:
        import time
        from pathlib import Path

        time.sleep(0.0005)
        # In the middle, until the writers have done enough: the machine may let them begin later than the job.
        end = time.monotonic() + 60
        while row[0] > ROWS // 2 and not Path(gate).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return (row[1],)

    sink = UpdateInPlace(Target("public", "orders", ("computed",)), unique.names, fixed)
    writer = TargetWriter(connection_parameters(orders), SessionSettings(), sink, ledger)
    function = UpdateRows(EachRow(compute), RowFormat(("id", "version"), ("computed",)), 1 + len(unique.names), 20)
    processor = Transform(function, writer, unique, chunk_rows=100, fixed_key=fixed, reads_xmin=True)
    source = Source("public", "orders", ("id", "version"))
    jobs = [worker(processor, source=source, ledger=None) for _ in range(2)]
    writers = Writers(conninfo_of(orders), seed, change)

    def run(number: int) -> list[Outcome]:
        return [jobs[number](one) for one in ranges(4)[number::2]]

    with ThreadPoolExecutor(4) as threads:
        others = [threads.submit(writers, number) for number in range(WRITERS)]
        try:
            results = threads.map(run, range(2))
            wait_for(lambda: len(writers.changed) > 50 and writers.deleted)
            Path(gate).touch()
            outcomes = [outcome for several in results for outcome in several]
        finally:
            writers.stop.set()
        for one in others:
            one.result()
    assert [outcome.failure for outcome in outcomes] == [None] * 4
    assert len(writers.changed) > 50
    assert writers.deleted
    rows = orders.execute("SELECT id, version, computed FROM orders WHERE id <= %s", [ROWS]).fetchall()
    assert {row[0] for row in rows} == set(range(1, ROWS + 1)) - writers.deleted
    assert [row for row in rows if row[1] != writers.changed[row[0]]] == []
    assert [row for row in rows if row[2] is None] == []
    counts = Counter[str]()
    for outcome in outcomes:
        counts.update(outcome.value)
    assert sum(outcome.row_count for outcome in outcomes) == counts["rows_updated"] + counts["rows_unchanged"]
