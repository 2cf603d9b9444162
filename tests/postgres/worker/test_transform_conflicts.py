"""Jobs that write the same rows at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from random import Random

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat
from burla_provider.worker.sinks import Target, Update, Upsert
from burla_provider.worker.target_writer import TargetWriter
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS
from tests.support.marks import conninfo_of
from tests.support.waiting import wait_for

SEEDS = range(int(os.environ.get("BURLA_TEST_SEEDS", "5")))
TARGET = Target("public", "results", ("id", "job", "version"))


@pytest.fixture
def results(orders: psycopg.Connection) -> psycopg.Connection:
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, job integer, version integer)")
    return orders


def run(connection: psycopg.Connection, sink, function) -> dict[str, int]:
    """Write all orders as one range, in chunks of 500 rows."""
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), sink)
    with psycopg.connect(conninfo_of(connection)) as reader:
        result = Transform(function, writer, KEY, chunk_rows=500)(reader, ORDERS, KeyRange(KEY, 0))
    writer.close()
    return result.value


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mode", ["upsert", "upsert without a version", "update"])
def test_jobs_that_write_overlapping_rows_do_not_deadlock(results, monkeypatch, mode, seed):
    monkeypatch.setattr("burla_provider.worker.target_writer._WRITE_ATTEMPTS", 1)
    if mode == "update":
        results.execute("INSERT INTO results SELECT g, 0, 0 FROM generate_series(1, 1000) AS g")

    def job(number):
        random = Random(seed * 100 + number)

        def shuffled(rows):
            rows = [(id_, number, number * 1_000 + random.randrange(1_000)) for id_, _ in rows]
            random.shuffle(rows)
            return rows

        updated = ("job", "version")
        version = "version" if mode == "upsert" else None
        sink = Update(TARGET, ("id",), updated) if mode == "update" else Upsert(TARGET, ("id",), updated, version)
        return run(results, sink, MapBatch(shuffled, RowFormat(("id", "amount"), TARGET.columns), 500))

    with ThreadPoolExecutor(4) as threads:
        assert len(list(threads.map(job, range(4)))) == 4  # map raises what a job has raised
    # Each row is that of one job.
    query = "SELECT count(*), count(*) FILTER (WHERE job = version / 1000) FROM results"
    assert results.execute(query).fetchone() == (ROWS, ROWS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_maximum_version_of_all_jobs_wins(results, seed):
    versions = [[Random(seed * 1_000 + number + job).randrange(10_000) for number in range(ROWS)] for job in range(3)]

    def job(number):
        row = MapRow(
            lambda row: (row[0], number, versions[number][row[0] - 1]), RowFormat(("id", "amount"), TARGET.columns)
        )
        run(results, Upsert(TARGET, ("id",), ("job", "version"), "version"), row)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(job, range(3)))
    rows = results.execute("SELECT version FROM results ORDER BY id").fetchall()
    assert [version for (version,) in rows] == [max(all_) for all_ in zip(*versions, strict=True)]


def test_a_deadlock_repeats_the_write_and_not_the_function(results):
    results.execute("INSERT INTO results SELECT g, 0, 0 FROM generate_series(1, 1000) AS g")
    results.execute(f"ALTER DATABASE {results.info.dbname} SET deadlock_timeout = '50ms'")
    called = []

    def function(row):
        called.append(row[0])
        return row[0], 1, 1

    sink = Update(TARGET, ("id",), ("job", "version"))
    conninfo = conninfo_of(results)
    with ThreadPoolExecutor(2) as threads, psycopg.connect(conninfo) as other, psycopg.connect(conninfo) as gate:
        other.execute("SET deadlock_timeout = '1h'")  # so that the job finds the deadlock
        other.execute("UPDATE results SET job = 2 WHERE id = 5")
        gate.execute("UPDATE results SET job = 2 WHERE id = 4")
        job = threads.submit(run, results, sink, MapRow(function, RowFormat(("id", "amount"), TARGET.columns)))
        wait_for(lambda: count_waiting(results) == 1)
        blocked = threads.submit(other.execute, "UPDATE results SET job = 2 WHERE id = 2")  # waits for the job
        wait_for(lambda: count_waiting(results) == 2)
        gate.rollback()  # A session looks for a deadlock once, a while after it began to wait: now for row 5.
        blocked.result()
        other.commit()
        job.result()
    assert sorted(called) == list(range(1, ROWS + 1))
    assert results.execute("SELECT count(*) FROM results WHERE job = 1").fetchone() == (ROWS,)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    wait_for(lambda: results.execute(deadlocks).fetchone() == (1,))


def count_waiting(connection: psycopg.Connection) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    return connection.execute(query).fetchone()[0]
