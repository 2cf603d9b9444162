"""A job waits while the query of ``pause_while`` returns true, and then writes what is missing."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from burla_provider.task import pause
from burla_provider.worker.pause import PauseLock
from tests.airflow.conftest import Orders, add_database
from tests.airflow.test_transform import assert_written, in_place, labels, operator  # noqa: F401 (a fixture)
from tests.support.task_runner import HAS_STATE_STORES, Airflow, run_and_kill
from tests.support.waiting import wait_for

PAUSED = "SELECT paused FROM job_control"
HELD = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND application_name LIKE '% pause'
"""
HOLDER = HELD.replace("count(*)", "coalesce(max(pid), 0)")
"""The process id of the session that has the lock; 0: none has it."""
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.%' AND datname = current_database()"
)


def wait_behind(gate: str, number: int) -> None:
    """In a worker: be slow, and do not finish the last range before the test has opened the gate, a file."""
    import pathlib
    import time

    if number % 50 == 0:
        time.sleep(0.015)
    end = time.monotonic() + 240
    while number > 155_000 and not pathlib.Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.05)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
def pausing(gate: Path) -> Any:
    """A function that returns the task."""
    place = str(gate)

    def slowly(row: tuple[Any, ...]) -> tuple[Any, ...]:
        wait_behind(place, row[0])
        return row[0], row[1].upper(), row[2] * 2

    def make(**options: Any) -> Any:
        usual = {"write_mode": "insert", "ledger": "runs", "map_row": slowly, "ranges": 20, "pause_while": PAUSED}
        return operator(**{**usual, **options})

    return make


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pause, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(pause, "PauseLock", partial(PauseLock, seconds=0.2))


@pytest.fixture
def control(orders: Orders) -> psycopg.Connection[Any]:
    """The control table, which pauses nothing."""
    orders.connection.execute("CREATE TABLE job_control (paused boolean); INSERT INTO job_control VALUES (false)")
    return orders.connection


def ask(connection: psycopg.Connection[Any], query: str) -> int:
    [(value,)] = connection.execute(query).fetchall()
    return int(value)


class Switch:
    """Pauses a running job as soon as it has written rows."""

    def __init__(self, control: psycopg.Connection[Any], written: str, gate: Path) -> None:
        self.control = control
        self.gate = gate
        self.written = written
        self.while_paused: list[int] = []
        self.reports: list[Any] = []

    def has_written(self) -> bool:
        try:
            return ask(self.control, self.written) > 0
        except psycopg.errors.UndefinedTable:
            return False

    def pause(self) -> None:
        wait_for(self.has_written, 60)
        self.control.execute("UPDATE job_control SET paused = true")

    def pause_and_continue(self, airflow: Airflow) -> None:
        self.pause()
        wait_for(lambda: ask(self.control, HELD))
        self.gate.touch()
        self.while_paused.append(ask(self.control, self.written))
        # The report is stored every three seconds.
        since = time.time()
        wait_for(lambda: not HAS_STATE_STORES or airflow.state_store.get("burla_report", {}).get("updated", 0) > since)
        self.reports.append(airflow.state_store.get("burla_report"))
        self.while_paused.append(ask(self.control, self.written))
        self.control.execute("UPDATE job_control SET paused = false")


@pytest.fixture
def switch(control: psycopg.Connection[Any], gate: Path) -> Iterator[Any]:
    threads = []

    def start(written: str, method: str = "pause_and_continue", *arguments: Any) -> Switch:
        switch = Switch(control, written, gate)
        thread = threading.Thread(target=getattr(switch, method), args=arguments)
        thread.start()
        threads.append(thread)
        return switch

    yield start
    for thread in threads:
        thread.join()


def test_nothing_is_written_during_a_pause_and_every_row_after_it(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    switch: Any,
    pausing: Any,
) -> None:
    control = switch("SELECT count(*) FROM labels", "pause_and_continue", airflow)
    result = airflow.run(pausing())
    assert result.state == "success", result.error
    assert result.value["rows_inserted"] == 20_000
    assert_written(labels)
    first, second = control.while_paused
    assert 0 < first == second < 20_000
    assert f"Paused while this is true: {PAUSED}" in result.log
    assert "Continued after a pause of " in result.log
    if HAS_STATE_STORES:
        [report] = control.reports
        assert report["pause"]["query"] == PAUSED
        assert report["pause"]["since"] > report["began"]
        assert (report["status"]["state"], report["status"]["detail"]) == ("paused", PAUSED)
    final = result.xcoms["burla_report"]["pause"]
    assert final["since"] is None
    assert final["seconds"] > 0
    assert ask(labels, SESSIONS) == 0


def test_an_update_in_place_is_paused(airflow: Airflow, control: Any, switch: Any, gate: Path) -> None:
    place = str(gate)

    def label(row: tuple[Any, ...]) -> tuple[Any, ...]:
        wait_behind(place, row[0])
        return (f"new {row[0]}",)

    # A transaction that reads is idle during a pause.
    control.execute("ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '2s'")
    try:
        switched = switch("SELECT count(*) FROM orders WHERE note LIKE 'new %'", "pause_and_continue", airflow)
        result = airflow.run(in_place(map_row=label, ranges=20, pause_while=PAUSED))
    finally:
        control.execute("ALTER ROLE CURRENT_USER RESET idle_in_transaction_session_timeout")
    assert result.state == "success", result.error
    assert result.value["rows_updated"] == 20_000
    assert switched.while_paused[0] == switched.while_paused[1] < 20_000
    assert ask(control, "SELECT count(*) FROM orders WHERE note = 'new ' || id") == 20_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_is_killed_in_a_pause_leaves_nothing(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    switch: Any,
    pausing: Any,
    gate: Path,
    number: signal.Signals,
) -> None:
    switch("SELECT count(*) FROM labels", "pause")
    run_and_kill(airflow, pausing(), number, when=lambda: ask(control, HELD))
    wait_for(lambda: ask(control, HELD) == 0)
    wait_for(lambda: ask(control, SESSIONS) == 0)
    assert 0 < ask(labels, "SELECT count(*) FROM labels") < 20_000
    gate.touch()
    control.execute("UPDATE job_control SET paused = false")
    result = airflow.run(pausing(), try_number=2, max_tries=1)
    assert result.value["rows_inserted"] == 20_000
    assert_written(labels)


def test_after_a_long_pause_the_task_reschedules_itself(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    switch: Any,
    pausing: Any,
    gate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pause, "MAX_PAUSE_SECONDS", 0.5)
    switch("SELECT count(*) FROM labels", "pause")
    result = airflow.run(pausing(), max_tries=0)
    assert result.state == "up_for_reschedule", result.error
    assert "the job ends, and the task continues later" in result.log
    assert result.xcoms["burla_report"]["status"]["state"] == "rescheduled"
    wait_for(lambda: ask(control, SESSIONS) == 0)
    gate.touch()
    control.execute("UPDATE job_control SET paused = false")
    written = ask(labels, "SELECT count(*) FROM labels")
    assert 0 < written < 20_000
    # The same try: no retry is used up.
    result = airflow.run(pausing(), max_tries=0)
    assert result.value == {"row_count": 20_000, "rows_inserted": 20_000, "rows_filtered": 0, "snapshots": 2}
    assert_written(labels)


def test_a_job_does_not_start_in_a_pause(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    pausing: Any,
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(pause, "START_SECONDS", 0.3)
    control.execute("UPDATE job_control SET paused = true")
    result = airflow.run(pausing(retries=0))
    assert result.state == "up_for_reschedule"
    assert f"The job does not start while this is true: {PAUSED}" in result.log
    assert ask(control, SESSIONS) == 0
    assert ask(labels, "SELECT count(*) FROM labels") == 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT NULL::boolean", "the query returned NULL instead of true or false: SELECT NULL::boolean. Let it"),
        ("SELECT true WHERE false", "the query returned no row instead of true or false"),
        ("SELECT 1", "the query returned 1 instead of true or false"),
        ("SET work_mem = '1MB'", "the query returned no row instead of true or false"),
        ("SELECT paused FROM nothing", 'the query failed: relation "nothing" does not exist'),
        (
            "DELETE FROM job_control RETURNING true",
            "the query failed: cannot execute DELETE in a read-only transaction",
        ),
        ("SELECT '50%' LIKE '%d", "the query failed: unterminated quoted string"),
    ],
)
def test_a_query_that_does_not_answer_is_refused_before_a_worker_starts(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    pausing: Any,
    query: str,
    message: str,
) -> None:
    result = airflow.run(pausing(pause_while=query, retries=2), max_tries=2)
    assert result.state == "failed"
    assert str(result.error).startswith(f"pause_while: {message}")
    assert ask(labels, "SELECT count(*) FROM labels") == 0


def test_a_query_that_is_too_slow_before_the_job_starts_is_tried_again(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    pausing: Any,
    monkeypatch: Any,
) -> None:
    monkeypatch.setitem(pause._ASK_SETTINGS, "statement_timeout", "100ms")
    result = airflow.run(pausing(pause_while="SELECT pg_sleep(5) IS NULL"), max_tries=2)
    assert result.state == "up_for_retry"
    assert str(result.error).endswith("statement timeout. Make the query faster, or the server reachable.")


def test_a_percent_sign_is_not_a_placeholder(airflow: Airflow, labels: Any) -> None:  # noqa: F811
    assert airflow.run(operator(pause_while="SELECT 'on%' LIKE 'off%'")).state == "success"


def test_a_query_that_fails_while_the_job_runs_leaves_a_retry(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    pausing: Any,
    gate: Path,
) -> None:
    def drop() -> None:
        wait_for(lambda: ask(control, "SELECT count(*) FROM labels"))
        control.execute("DELETE FROM job_control")

    thread = threading.Thread(target=drop)
    thread.start()
    result = airflow.run(pausing(retries=1), max_tries=1)
    thread.join()
    assert result.state == "up_for_retry"
    assert str(result.error).startswith("pause_while: the query returned no row instead of true or false")
    gate.touch()
    control.execute("INSERT INTO job_control VALUES (false)")
    result = airflow.run(pausing(retries=1), try_number=2, max_tries=1)
    assert result.value["rows_inserted"] == 20_000
    assert_written(labels)


def test_a_session_that_is_lost_is_opened_again(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    control: Any,
    pausing: Any,
    gate: Path,
) -> None:
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.% pause%'"
    )

    def lose_both() -> None:
        switched.pause()
        wait_for(lambda: ask(control, HELD))
        holder = ask(control, HOLDER)
        assert ask(control, end) == 2
        wait_for(lambda: ask(control, HOLDER) not in (0, holder))
        switched.gate.touch()
        control.execute("UPDATE job_control SET paused = false")

    switched = Switch(control, "SELECT count(*) FROM labels", gate)
    thread = threading.Thread(target=lose_both)
    thread.start()
    result = airflow.run(pausing())
    thread.join()
    assert result.value["rows_inserted"] == 20_000
    assert "the query failed (attempt 1 of 6)" in result.log
    assert_written(labels)


def test_the_query_can_run_in_another_database(airflow: Airflow, labels: Any, postgres_server: Any) -> None:  # noqa: F811
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("CREATE TABLE only_here (paused boolean); INSERT INTO only_here VALUES (false)")
        add_database(airflow, "control_db", other.info)
        assert airflow.run(operator(pause_while="TABLE only_here", pause_conn_id="control_db")).state == "success"


@pytest.mark.parametrize(
    ("options", "parameter"), [({"pause_conn_id": "control_db"}, "pause_conn_id"), ({}, "postgres_conn_id")]
)
def test_a_rejected_login_names_the_parameter_of_its_connection(
    airflow: Airflow,
    labels: Any,  # noqa: F811
    options: dict[str, Any],
    parameter: str,
) -> None:
    add_database(airflow, "control_db", labels.info)
    conn_id = options.get("pause_conn_id", "orders_db")
    airflow.connections[conn_id].password = "wrong"
    result = airflow.run(operator(pause_while="SELECT false", **options))
    assert str(result.error).startswith(f"{parameter}: the login with the connection {conn_id!r} was rejected")


def test_the_error_for_a_role_that_sees_null_names_the_grant(airflow: Airflow, labels: Any, control: Any) -> None:  # noqa: F811
    control.execute("CREATE ROLE reader LOGIN PASSWORD 'pw'")
    try:
        add_database(airflow, "control_db", control.info)
        airflow.connections["control_db"].login, airflow.connections["control_db"].password = "reader", "pw"
        # Another role's session: as the lag of a standby, its state is NULL.
        query = f"SELECT state = 'active' FROM pg_stat_activity WHERE pid = {control.info.backend_pid}"
        result = airflow.run(operator(pause_while=query, pause_conn_id="control_db"))
        assert result.state == "failed"
        assert 'GRANT pg_monitor TO "reader";' in str(result.error)
        control.execute("GRANT pg_monitor TO reader")
        assert airflow.run(operator(pause_while=query, pause_conn_id="control_db")).state == "success"
    finally:
        control.execute("DROP ROLE reader")
