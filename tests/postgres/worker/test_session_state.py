"""State that a user's function leaves in the session does not reach the next range."""

import psycopg
import pytest
from psycopg.types.numeric import FloatLoader

from burla_provider.database.connection_limit import LOCK_CLASS, take_slot
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import ProcessRange
from tests.postgres.worker.conftest import ROWS, ranges

LEFT = {
    "temporary table": ("CREATE TEMP TABLE stage AS SELECT 1 AS n", "to_regclass('pg_temp.stage')::text"),
    "SET": ("SET work_mem = '77kB'", "current_setting('work_mem')"),
    "SET LOCAL": ("SET LOCAL work_mem = '77kB'", "current_setting('work_mem')"),
    "set_config": ("SELECT set_config('TimeZone', 'Asia/Tokyo', false)", "current_setting('TimeZone')"),
    "search_path": ("SET search_path = pg_catalog", "current_setting('search_path')"),
    "role": ("SET ROLE pg_read_all_data", "current_user::text"),
    "session authorization": ("SET SESSION AUTHORIZATION pg_read_all_data", "session_user::text"),
    "prepared statement": ("PREPARE p AS SELECT 1", "(SELECT count(*) FROM pg_prepared_statements WHERE name = 'p')"),
    "LISTEN": ("LISTEN somebody", "(SELECT count(*) FROM pg_listening_channels())"),
    "cursor": ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "(SELECT count(*) FROM pg_cursors WHERE name = 'c')"),
    "advisory lock": (
        "SELECT pg_advisory_lock(7)",
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        f" AND classid <> {LOCK_CLASS})",
    ),
}
NOT_IN_A_SNAPSHOT = {"temporary table"}
"""Statements that a read-only transaction rejects."""


@pytest.mark.parametrize("in_snapshot", [False, True], ids=["own transactions", "snapshot"])
@pytest.mark.parametrize("left", LEFT)
def test_session_state_does_not_reach_the_next_range(worker, orders, held, left, in_snapshot):
    if in_snapshot and left in NOT_IN_A_SNAPSHOT:
        pytest.skip("refused by the server")
    leave, look = LEFT[left]

    def work(connection, key_range):
        query = f"SELECT pg_backend_pid(), {look}, current_setting('application_name')"
        pid, seen, name = connection.execute(query).fetchone()
        connection.execute(leave)
        return {"pid": pid, "seen": seen, "name": name}

    one = worker(ProcessRange(work), slots=1, snapshot=held.snapshot if in_snapshot else None)
    outcomes = [one(key_range) for key_range in ranges(3)]
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    assert len({(outcome.value["pid"], outcome.value["seen"]) for outcome in outcomes}) == 1
    assert [outcome.value["name"] for outcome in outcomes] == ["burla #0", "burla #1", "burla #2"]
    assert not take_slot(orders, 1), "the worker's own lock is gone"


@pytest.mark.parametrize("in_snapshot", [False, True], ids=["own transactions", "snapshot"])
def test_connection_state_does_not_reach_the_next_range(worker, held, in_snapshot):
    def work(connection, key_range):
        seen = repr(connection.execute("SELECT 1.5").fetchone()[0])
        for _ in range(10):  # often enough to be prepared
            connection.execute("SELECT count(*) FROM orders WHERE id > %s", [5])
        connection.adapters.register_loader("numeric", FloatLoader)
        connection.prepare_threshold = None
        connection.my_own = 1
        return {"seen": seen, "prepares": connection.prepare_threshold, "mine": hasattr(connection, "theirs")}

    one = worker(ProcessRange(work), snapshot=held.snapshot if in_snapshot else None)
    outcomes = [one(key_range) for key_range in ranges(3)]
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    assert {outcome.value["seen"] for outcome in outcomes} == {"Decimal('1.5')"}


def test_orphan_settings_survive_a_reset(worker, orders):
    if orders.info.server_version < 140000:
        pytest.skip("PostgreSQL 14 brought idle_session_timeout")

    def show(connection, key_range):
        query = "SELECT current_setting('idle_session_timeout'), current_setting('client_connection_check_interval')"
        return {"limits": list(connection.execute(query).fetchone())}

    one = worker(ProcessRange(show))
    assert [one(key_range).value["limits"] for key_range in ranges(2)] == [["10min", "10s"]] * 2


def test_a_temporary_table_holds_the_rows_of_its_own_range(worker, orders):
    def archive(connection, key_range):
        where = key_range.where.as_string(connection)
        connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS stage AS SELECT id FROM orders WHERE {where}")
        connection.execute("INSERT INTO archive SELECT id FROM stage")
        return {}

    orders.execute("CREATE TABLE archive (id bigint)")
    ledger = Ledger("public", "burla_ledger", "run")
    prepare_ledger(orders, ledger)
    one = worker(ProcessRange(archive), ledger=ledger)
    assert [one(key_range).failure for key_range in ranges(5)] == [None] * 5
    assert orders.execute("SELECT count(*), count(DISTINCT id) FROM archive").fetchone() == (ROWS, ROWS)


def test_a_slot_that_another_job_took_is_requested_again(worker, orders, database):
    taken = []

    def lose(connection, key_range):
        if not taken:
            connection.execute("SELECT pg_advisory_unlock_all()")
            with psycopg.connect(dsn, autocommit=True) as other:
                taken.append(other.execute("SELECT pg_try_advisory_lock(%s, 0)", [LOCK_CLASS]).fetchone()[0])
        return {"pid": connection.info.backend_pid}

    dsn = database
    one = worker(ProcessRange(lose), slots=1)
    assert [one(key_range).failure for key_range in ranges(3)] == [None] * 3
