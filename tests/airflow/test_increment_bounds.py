"""Where the windows of incremental runs begin and end: no row is skipped without a message."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk import Asset

from burla_provider.exceptions import ConcurrentRunError
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task import watermark
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.marks import conninfo_of
from tests.support.task_runner import START, Airflow, TaskResult

pytestmark = needs_state_stores

HOUR = timedelta(hours=1)


def count(airflow: Airflow, run_id: str, *, run: Any = None, **options: Any) -> TaskResult:
    usual = {"task_id": "t", "postgres_conn_id": "orders_db", "table": "events", "totals": {"n": "count(*)"}}
    task = BurlaPostgresOperator(**{**usual, "incremental": True, "outlets": [Asset("counted")], **options})
    return airflow.run(task, run_id=run_id, **(run or {}))


def counted(airflow: Airflow, run_id: str, **options: Any) -> int:
    result = count(airflow, run_id, **options)
    assert result.state == "success", result.log
    return int(result.value["n"])


def write_local_time(connection: psycopg.Connection[Any], zone: str | None = None) -> None:
    """Add rows in a session as an application has it: with the zone of the database, or its own."""
    with psycopg.connect(conninfo_of(connection), autocommit=True) as application:
        if zone:
            application.execute("SELECT set_config('timezone', %s, false)", [zone])
        application.execute("INSERT INTO events (at) SELECT clock_timestamp()::timestamp FROM generate_series(1, 10)")


@pytest.mark.parametrize(("default", "writer"), [("America/New_York", None), ("UTC", "America/New_York")])
def test_rows_in_the_zone_of_another_session_are_not_skipped(
    airflow: Airflow, orders: Orders, default: str, writer: str | None
) -> None:
    connection = orders.connection
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET timezone = '{default}'")
    connection.execute("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamp NOT NULL)")
    airflow.connections["orders_db"].extra = '{"options": "-c timezone=UTC"}'
    for run_id in "abc":
        write_local_time(connection, writer)
        assert counted(airflow, run_id, key="at") == 10
    result = count(airflow, "d", key="at")
    assert result.value["n"] == 0
    assert "the TimeZone of the server is unknown" not in result.log


def test_a_warning_says_that_the_zone_of_the_server_is_unknown(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamp, day date)")
    write_local_time(orders.connection)
    warning = "the TimeZone of the server is unknown, because this session has its own (Asia/Kolkata, source: client)"
    assert warning not in count(airflow, "a", key="at").log
    airflow.connections["orders_db"].extra = '{"options": "-c timezone=Asia/Kolkata"}'
    assert f"at has no time zone, and {warning}" in count(airflow, "b", key="at").log
    assert f"day has no time zone, and {warning}" in count(airflow, "c", key="day").log
    assert warning not in count(airflow, "d", key="id").log


@pytest.mark.parametrize("kind", ["reading", "writing"])
def test_the_watermark_is_not_locked_while_rows_are_processed(airflow: Airflow, orders: Orders, kind: str) -> None:
    connection = orders.connection
    connection.execute("CREATE TABLE copies (id bigint PRIMARY KEY, status text)")
    conninfo = conninfo_of(connection)

    def check(row: Any) -> Any:
        import psycopg

        # A lock of one bigint has objsubid 1.
        query = """
            SELECT count(*) FROM pg_locks JOIN pg_database AS d ON d.oid = database
            WHERE locktype = 'advisory' AND objsubid = 1 AND datname = current_database()
        """
        with psycopg.connect(conninfo) as connection:
            if connection.execute(query).fetchone() != (0,):
                raise RuntimeError("the watermark is locked")
        return row

    def check_rows(rows: Any) -> dict[str, Any]:
        return {"n": len([check(row) for row in rows])}

    usual: dict[str, Any] = {"postgres_conn_id": "orders_db", "table": "orders", "key": "id", "where": "id < 100"}
    usual |= {"incremental": True, "start": 1, "outlets": [Asset("copies")], "columns": ["id", "status"], "ranges": 2}
    if kind == "reading":
        task: Any = BurlaPostgresOperator(task_id="t", process_rows=check_rows, **usual)
    else:
        options = {"target_table": "copies", "write_mode": "upsert", "map_row": check, "ledger": "public.ledger"}
        task = BurlaPostgresTransformOperator(task_id="t", **usual, **options)
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert result.value["row_count"] == 33


@pytest.mark.parametrize("consistency", ["snapshot", "none"])
def test_a_watermark_that_stays_locked_is_another_run(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch, consistency: str
) -> None:
    monkeypatch.setitem(watermark._LOCK_SETTINGS, "lock_timeout", "100ms")
    orders.connection.execute("CREATE TABLE events (id bigint PRIMARY KEY); INSERT INTO events VALUES (1)")
    options = {"key": "id", "consistency": consistency}
    assert counted(airflow, "a", **options) == 1
    [(_, key)] = airflow.asset_store
    orders.connection.execute("INSERT INTO events VALUES (2)")
    orders.connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [key])
    assert isinstance(count(airflow, "b", **options).error, ConcurrentRunError)
    orders.connection.execute("SELECT pg_advisory_unlock_all()")
    assert counted(airflow, "b", **options) == 1


@pytest.mark.parametrize("ledger", [None, "public.ledger"])
def test_a_run_starts_where_the_first_one_that_failed_did(
    airflow: Airflow, orders: Orders, tmp_path: Path, ledger: str | None
) -> None:
    connection = orders.connection
    connection.execute("CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz)")
    connection.execute(
        "INSERT INTO events (at) SELECT %s + n * interval '20 min' FROM generate_series(0, 5) n", [START]
    )
    stop = tmp_path / "stop"
    path = str(stop)

    def process(connection: Any, key_range: Any) -> dict[str, Any]:
        from pathlib import Path

        if Path(path).exists():
            raise RuntimeError("not yet")
        query = f"SELECT count(*) FROM events WHERE {key_range.where.as_string(connection)}"
        return {"row_count": connection.execute(query).fetchone()[0]}

    options = {"key": "at", "start": "{{ data_interval_start }}", "totals": None, "process_range": process}
    options |= {"ledger": ledger, "range_retries": 0}

    def run(run_id: str, hour: int, **more: Any) -> TaskResult:
        interval = (START + hour * HOUR, START + (hour + 1) * HOUR)
        return count(airflow, run_id, run={"data_interval": interval}, **{**options, **more})

    # A plan is not a run.
    assert run("plan", -1, plan_only=True).state == "success"
    assert airflow.asset_store == {}
    stop.touch()
    assert run("a", 0).state == "failed"
    assert run("b", 1).state == "failed"
    stop.unlink()
    result = run("c", 2)
    assert result.value == {"row_count": 6}
    if not ledger:
        assert "an earlier run began at 2026-11-20 00:00:00+00:00, and no run has succeeded yet" in result.log
    assert run("d", 3).value["row_count"] == 0


def test_a_run_that_finds_nothing_fixes_the_start(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE events (id bigint PRIMARY KEY)")
    assert counted(airflow, "a", key="id", start=10) == 0
    orders.connection.execute("INSERT INTO events SELECT generate_series(1, 30)")
    assert counted(airflow, "b", key="id", start=20) == 21


def test_the_start_may_be_corrected_to_an_earlier_one(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE events (id bigint PRIMARY KEY)")
    assert counted(airflow, "a", key="id", start=20) == 0
    for start in ("the first", "15.5", 2**63):
        refused = count(airflow, "b", key="id", start=start)
        assert re.match("start: (invalid input syntax|value .* is out of range) for type bigint", str(refused.error))
    orders.connection.execute("INSERT INTO events SELECT generate_series(1, 30)")
    assert counted(airflow, "c", key="id", start=9) == 22


def test_a_start_that_is_refused_is_not_where_later_runs_begin(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute(
        "CREATE TABLE events AS SELECT date '2026-01-01' + n AS day FROM generate_series(0, 9) AS n"
    )
    for start, problem in (("2026-01-02T23:00:00+00:00", "has a time of day"), ("yesterday", "has another value")):
        refused = count(airflow, "a", key="day", start=start)
        assert re.match(f"start: .*{problem}", str(refused.error))
    assert counted(airflow, "a", key="day", start="2026-01-03") == 8


def test_the_rows_of_the_maximum_are_left_unless_it_is_unique(airflow: Airflow, orders: Orders) -> None:
    connection = orders.connection
    connection.execute("CREATE TABLE events (order_id bigint, line int, PRIMARY KEY (order_id, line))")
    connection.execute("INSERT INTO events VALUES (1, 1), (1, 2), (2, 1)")
    first = count(airflow, "a", key="order_id")
    assert first.value["n"] == 2
    assert "No unique index is on order_id alone: the rows with its maximum are left to the next run" in first.log
    connection.execute("INSERT INTO events VALUES (2, 2), (3, 1)")
    assert counted(airflow, "b", key="order_id") == 2
    assert counted(airflow, "c", key="order_id") == 0
    assert counted(airflow, "d", key="order_id", lag=0) == 1


def test_the_rows_of_the_maximum_are_left_if_children_may_get_more(airflow: Airflow, orders: Orders) -> None:
    connection = orders.connection
    connection.execute("CREATE TABLE events (id bigint PRIMARY KEY); CREATE TABLE child () INHERITS (events)")
    connection.execute("INSERT INTO events VALUES (1), (2), (3)")
    assert counted(airflow, "a", key="id") == 2
    connection.execute("INSERT INTO child VALUES (3), (4)")
    assert counted(airflow, "b", key="id") == 2


def test_the_maximum_of_a_unique_key_is_processed(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE events (id bigint UNIQUE); INSERT INTO events VALUES (1), (2)")
    result = count(airflow, "a", key="id")
    assert result.value["n"] == 2
    assert "left to the next run" not in result.log


def test_a_mapped_task_says_that_a_new_condition_begins_at_the_first_key(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE events (id bigint PRIMARY KEY); INSERT INTO events VALUES (1), (2)")
    warning = "No run with this condition has succeeded yet, so this run begins at the first key."
    mapped = {"run": {"map_index": 0}}
    for run_id, where, is_new in [("a", "id > 0", True), ("b", "id > 0", False), ("c", "id > 1", True)]:
        result = count(airflow, run_id, key="id", where=where, **mapped)
        assert result.state == "success"
        assert (warning in result.log) is is_new
    # Otherwise a task has one watermark.
    for run_id, where in [("d", "id > 0"), ("e", "id > 1")]:
        assert warning not in count(airflow, run_id, key="id", where=where).log
