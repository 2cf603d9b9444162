"""A job that reads a hot standby, whose replay may conflict with it."""

import shutil
import tempfile
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters, is_alive
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.increment import find_column, find_increment
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.results_table import prepare_results_table
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRows
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges
from tests.support.postgres import running_server
from tests.support.snapshots import open_snapshot
from tests.support.standby import running_standby

(WHOLE,) = ranges(1)


@pytest.fixture(scope="module")
def archive():
    home = Path(tempfile.mkdtemp(prefix="burla-test-archive-"))
    home.chmod(0o777)  # both servers may run as another user
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def primary(archive):
    settings = {"archive_mode": "on", "archive_command": f"cp %p {archive}/%f", "wal_level": "replica"}
    with running_server(settings=settings) as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric(12,2))")
        connection.execute("INSERT INTO orders SELECT g, g / 100.0 FROM generate_series(1, %s) AS g", [ROWS])
        yield connection, server


@pytest.fixture(scope="module")
def standby(primary, archive):
    """A standby that replays the primary's archive without waiting for queries."""
    connection, server = primary
    settings = {
        "restore_command": f"cp {archive}/%f %p",
        "wal_retrieve_retry_interval": "100ms",
        "max_standby_archive_delay": "0",
    }
    with running_standby(server, connection, settings) as replica:
        yield replica


@pytest.fixture
def reader(standby):
    with psycopg.connect(standby.dsn, autocommit=True) as connection:
        yield connection


def replay(primary, reader):
    """Write on the primary, and wait until the standby has replayed it."""
    connection, _ = primary
    (place,) = connection.execute("SELECT pg_switch_wal()").fetchone()
    connection.execute("CHECKPOINT")
    while not reader.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [place]).fetchone()[0]:
        pass


def remove_what_is_read(primary):
    connection, _ = primary
    connection.execute("UPDATE orders SET amount = amount")
    connection.execute("VACUUM orders")


def add_up(rows):
    return {"total": sum(row[1] for row in rows)}


def test_a_standby_shares_a_snapshot(primary, standby, reader):
    replay(primary, reader)
    parameters = connection_parameters(reader)
    with open_snapshot(parameters, "public", "orders") as held:
        task = RangeTask(parameters, ORDERS, KEY, ProcessRows(add_up), range_retries=8, snapshot=held.snapshot)
        assert decode(task(0, WHOLE.to_item())).value == {"total": Decimal("5005.00")}
        task.close()


@pytest.mark.parametrize("lag", [None, timedelta(minutes=2)])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamptz(0)", "timestamp", "timestamp(0)", "date"])
def test_the_window_of_an_increment_ends_below_what_is_not_replayed(primary, standby, reader, kind, lag):
    connection, _ = primary
    connection.execute(f"DROP TABLE IF EXISTS events; CREATE TABLE events (at {kind})")
    # The row in the future says nothing about what is replayed.
    connection.execute("INSERT INTO events VALUES (now() - interval '1 hour'), (now() + interval '2 days')")
    [(newest,)] = connection.execute("INSERT INTO events VALUES (now() - interval '2 seconds') RETURNING at").fetchall()
    replay(primary, reader)
    # A transaction that began before the last one that is replayed, and commits after it.
    late = newest - (lag or timedelta()) / 2
    connection.execute("INSERT INTO events VALUES (%s)", [late])
    column = find_column(read_facts(PlannerConnection(reader), "events"), "at")
    increment = find_increment(reader, Source("public", "events"), column, None, lag)
    query = f"SELECT %s::{kind} < %s::{kind}, (SELECT count(*) FROM events WHERE at < %s::{kind})"
    [(is_below, count)] = reader.execute(query, [late, increment.upper, increment.upper]).fetchall()
    assert not is_below
    assert count == 1 or kind == "date"
    replay(primary, reader)


def test_a_table_that_a_job_would_write_is_refused_on_a_standby(standby, reader):
    with pytest.raises(InvalidParameterError, match="ledger: the server is read-only"):
        prepare_ledger(reader, Ledger("public", "burla_ledger", "run"))
    with pytest.raises(InvalidParameterError, match="results_table: the server is read-only"):
        prepare_results_table(reader, "public", "results")


def test_a_range_that_replay_cancels_is_retried(primary, standby, reader):
    replay(primary, reader)
    conflicts = [True]

    def conflict_once(rows):
        first = next(rows)
        if conflicts:
            conflicts.pop()
            remove_what_is_read(primary)
            replay(primary, reader)
        return {"total": first[1] + sum(row[1] for row in rows)}

    task = RangeTask(connection_parameters(reader), ORDERS, KEY, ProcessRows(conflict_once), range_retries=8)
    outcome = decode(task(0, WHOLE.to_item()))
    task.close()
    assert (outcome.value, outcome.attempts) == ({"total": Decimal("5005.00")}, 2)


def test_a_snapshot_that_replay_ends_is_explained(primary, standby, reader):
    replay(primary, reader)
    parameters = connection_parameters(reader)
    with open_snapshot(parameters, "public", "orders") as held:
        remove_what_is_read(primary)
        replay(primary, reader)
        task = RangeTask(parameters, ORDERS, KEY, ProcessRows(add_up), range_retries=8, snapshot=held.snapshot)
        failure = decode(task(0, WHOLE.to_item())).failure
        task.close()
        assert not is_alive(held.connection)
    assert failure.type.endswith("SnapshotLostError")
    assert "hot standby" in failure.text
