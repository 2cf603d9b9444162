"""Retries, with Airflow's real task runner: they process what is missing, and nothing twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms
from psycopg import sql

from burla_provider.hooks.burla import BurlaHook
from burla_provider.jobs.job import Engine
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges.planner import plan_table
from burla_provider.task import checkpoint, job_runner, monitor, reporter, table_plan
from burla_provider.task.fingerprint import fingerprint
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.marks import Marks, conninfo_of
from tests.support.postgres import PostgresServer, report_writes
from tests.support.task_runner import START, Airflow, TaskResult, run_and_kill
from tests.support.waiting import wait_for


@pytest.fixture
def marks(orders: Orders) -> Marks:
    return Marks(orders.connection)


def reader(marks: Marks, stop_file: Path) -> Any:
    """Return a function that inserts a row for its range, and fails for late ids as long as the file is there."""
    conninfo, path = marks.conninfo, str(stop_file)

    def read(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        import os

        import psycopg

        taken = list(rows)
        if taken[0][0] > 60_000 and os.path.exists(path):
            raise RuntimeError("not yet")
        with psycopg.connect(conninfo) as connection:
            connection.execute("INSERT INTO marks VALUES (%s)", [taken[0][0]])
        return {"total": sum(amount for _, amount in taken)}

    return read


def id_reader(stop_file: Path) -> Any:
    """Return a function that adds up ids, and fails for late ids as long as the file is there."""
    path = str(stop_file)

    def read(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        import os

        ids = [number for number, _ in rows]
        if ids[0] > 60_000 and os.path.exists(path):
            raise RuntimeError("not yet")
        return {"ids": sum(ids)}

    return read


def operator(function: Any, **options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 8, "key": "id"}
    return BurlaPostgresOperator(**{**defaults, "process_rows": function, "columns": ["id", "amount"], **options})


def fail_then_retry(
    airflow: Airflow, marks: Marks, tmp_path: Path, *, before_retry: Callable[[], Any] = int, **options: Any
) -> TaskResult:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    first = airflow.run(operator(function, **options), max_tries=1)
    assert first.state == "up_for_retry"
    stop_file.unlink()
    before_retry()
    return airflow.run(operator(function, **options), try_number=2, max_tries=1)


@needs_state_stores
def test_a_retry_processes_only_the_failed_ranges(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    result = fail_then_retry(airflow, marks, tmp_path)
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert set(marks.attempts().values()) == {1}
    assert "An earlier try has finished" in result.log


@needs_state_stores
def test_after_success_nothing_is_left_in_the_state_store(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    fail_then_retry(airflow, marks, tmp_path)
    assert airflow.state_store == {}


@needs_state_stores
@pytest.mark.parametrize("is_away", [False, True])
def test_a_retry_without_missing_ranges_reports_the_job_of_the_first_try(
    airflow: Airflow, orders: Orders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    take = airflow.send

    def refuse(msg: Any) -> Any:
        if is_away and type(msg).__name__ == "GetTaskStateStore" and msg.key == "burla_last_job":
            raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={}))
        return take(msg)

    monkeypatch.setattr(airflow, "send", refuse)  # a fake: the supervisor answers so when the API server is away
    stop_file = tmp_path / "stop"
    stop_file.touch()

    def combine(values: Any) -> dict[str, Any]:
        if stop_file.exists():
            raise RuntimeError("not yet")
        return {"ranges": len(list(values))}

    report_writes(orders.connection)
    task = operator(lambda rows: {"n": 1}, combine=combine)
    first = airflow.run(task, max_tries=1)
    assert first.state == "up_for_retry"
    stop_file.unlink()
    second = airflow.run(task, try_number=2, max_tries=1)
    assert second.value["ranges"] == 8
    if not is_away:
        jobs = [result.xcoms["burla_report"]["jobs"][0]["id"] for result in (first, second)]
        assert jobs[0] == jobs[1] != ""
    assert second.xcoms["burla_job_url"] == ""
    assert airflow.state_store == {}


def away_from_the_start_of_the_job(airflow: Airflow, monkeypatch: pytest.MonkeyPatch, refusals: float) -> list[Any]:
    """The API server takes no value from then on, until it has refused so many; what it refused.

    A fake: the supervisor answers so when the server is away, and this one has none that could be taken away.
    """
    refused: list[Any] = []
    take = airflow.send

    def refuse(msg: Any) -> Any:
        is_value = type(msg).__name__ in ("SetTaskStateStore", "DeleteTaskStateStore", "SetXCom")
        begins = is_value and msg.key in ("burla_last_job", "burla_job_url")
        if not is_value or not (refused or begins) or len(refused) >= refusals:
            return take(msg)
        refused.append(msg)
        raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"message": "away"}))

    monkeypatch.setattr(airflow, "send", refuse)
    monkeypatch.setattr(monitor, "REPORT_SECONDS", 0)
    monkeypatch.setattr(reporter, "REPORT_SECONDS", 0)
    return refused


def test_a_temporary_failure_of_the_api_server_does_not_end_a_job(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = away_from_the_start_of_the_job(airflow, monkeypatch, 5)
    result = airflow.run(operator(lambda rows: {"n": sum(1 for _ in rows)}))
    assert result.value == {"row_count": 20000, "n": 20000}, result.log
    assert len(refused) == 5
    assert result.log.count("Airflow could not store the state of the job") == 1
    assert result.xcoms["burla_job_url"] == ""
    assert result.xcoms["burla_report"]["status"]["state"] == "success"


@needs_state_stores
def test_ranges_that_end_while_the_api_server_is_away_are_not_processed_again(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "FLUSH_SECONDS", 0)
    refused = away_from_the_start_of_the_job(airflow, monkeypatch, 12)
    result = fail_then_retry(airflow, marks, tmp_path)
    assert result.value["row_count"] == 20000, result.log
    assert len(refused) == 12
    assert set(marks.attempts().values()) == {1}


def test_a_failure_of_the_api_server_does_not_hide_why_the_task_failed(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    away_from_the_start_of_the_job(airflow, monkeypatch, float("inf"))
    result = airflow.run(operator(lambda rows: 1 / 0))
    assert "ZeroDivisionError" in str(result.error)


def test_a_result_that_airflow_did_not_store_is_not_a_success(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    away_from_the_start_of_the_job(airflow, monkeypatch, float("inf"))
    result = airflow.run(operator(lambda rows: {"n": 1}), max_tries=1)
    assert result.state == "up_for_retry"


@needs_state_stores
def test_a_changed_table_is_read_again_in_one_snapshot(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function), max_tries=1)
    stop_file.unlink()
    with psycopg.connect(marks.conninfo) as other:  # its counts are reported when it ends
        other.execute("INSERT INTO orders VALUES (1, 0.01)")
    result = airflow.run(operator(function), try_number=2, max_tries=1)
    assert result.value["row_count"] == 20001
    assert "the table may have changed since" in result.log


@needs_state_stores
@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"where": "EXISTS (SELECT FROM rates WHERE rates.id = orders.id)"}, "sum(amount)"),
        ({"columns": {"id": "id", "x": "amount * (SELECT max(rate) FROM rates)"}}, "sum(amount * 7)"),
    ],
)
def test_a_changed_table_of_a_subselect_is_read_again_in_one_snapshot(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, options: dict[str, Any], total: str
) -> None:
    orders.connection.execute("CREATE TABLE rates AS SELECT id, 2 AS rate FROM orders")
    report_writes(orders.connection)

    def change() -> None:
        orders.connection.execute("UPDATE rates SET rate = 7; DELETE FROM rates WHERE id % 2 = 1")

    condition = "EXISTS (SELECT FROM rates WHERE rates.id = orders.id)" if "where" in options else "TRUE"
    result = fail_then_retry(airflow, marks, tmp_path, before_retry=change, **options)
    assert result.value == {"row_count": orders.ask("count(*)", condition), "total": str(orders.ask(total, condition))}


@needs_state_stores
def test_a_write_just_before_the_retry_that_is_not_counted_yet_is_noticed(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function), max_tries=1)
    stop_file.unlink()
    with psycopg.connect(marks.conninfo, autocommit=True) as writer:
        # It has just reported, so it reports the next write when it has been idle for ten seconds.
        report_writes(writer)
        writer.execute("SELECT 1")
        writer.execute("INSERT INTO orders VALUES (1, 0.01)")
        result = airflow.run(operator(function), try_number=2, max_tries=1)
    assert result.value["row_count"] == 20001
    assert result.value["total"] == str(orders.ask("sum(amount)"))
    assert "Waiting up to 90 s until the other sessions have reported their writes." in result.log
    assert "the table may have changed since (its write counters" in result.log


@needs_state_stores
def test_resume_true_continues_in_a_second_snapshot_and_logs_it(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function, resume=True), max_tries=1)
    stop_file.unlink()
    with psycopg.connect(marks.conninfo) as other:
        other.execute("INSERT INTO orders VALUES (999999, 0.01)")
    result = airflow.run(operator(function, resume=True), try_number=2, max_tries=1)
    assert result.value["snapshots"] == 2
    assert set(marks.attempts().values()) == {1}


@needs_state_stores
@pytest.mark.parametrize(
    ("change", "is_resumed"),
    [
        ("ANALYZE orders", True),
        ("VACUUM FULL orders", False),
        ("CLUSTER orders USING orders_pkey", False),
        ("UPDATE orders SET note = 'changed' WHERE id = 3", False),
    ],
)
def test_ranges_of_pages_continue_only_if_no_row_has_moved(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, change: str, is_resumed: bool
) -> None:
    def apply() -> None:
        orders.connection.execute(change)
        report_writes(orders.connection)

    result = fail_then_retry(airflow, marks, tmp_path, before_retry=apply, key=None)
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert "read only once" in result.log
    assert ("processing only what is missing" in result.log) == is_resumed
    assert ("its ranges are ranges of physical pages, and the table may have changed" in result.log) != is_resumed
    assert (set(marks.attempts().values()) == {1}) == is_resumed


@needs_state_stores
@pytest.mark.parametrize("split", ["auto", "pages"])
def test_ranges_of_pages_do_not_continue_without_a_snapshot(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, split: str
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function, key=None, split=split), max_tries=1)
    stop_file.unlink()
    with psycopg.connect(marks.conninfo) as other:
        other.execute("UPDATE orders SET note = 'moved' WHERE id < 3000")
    task = operator(function, key=None, split=split, consistency="none")
    result = airflow.run(task, try_number=2, max_tries=1)
    if split == "pages":
        assert "pages need a snapshot" in result.log
        return
    assert "physical pages, which can be read in a snapshot only" in result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}


@needs_state_stores
@pytest.mark.parametrize("has_key", [True, False])
def test_resume_true_splits_by_the_key_if_there_is_one(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, has_key: bool
) -> None:
    if not has_key:
        orders.connection.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    first = airflow.run(operator(function, key=None, resume=True), max_tries=1)
    note = "a retry starts from the beginning if the table was written since, also with resume=True"
    assert (note in first.log) != has_key
    stop_file.unlink()
    with psycopg.connect(marks.conninfo) as other:
        other.execute("INSERT INTO orders VALUES (999999, 0.01)")
    result = airflow.run(operator(function, key=None, resume=True), try_number=2, max_tries=1)
    assert (result.value.get("snapshots") == 2) == has_key
    assert has_key or result.value["row_count"] == 20001
    assert (set(marks.attempts().values()) == {1}) == has_key


def plan_by_key(connection: Any, facts: Any, request: Any) -> Any:
    """Plan as if the job needed the key."""
    return plan_table(connection, facts, replace(request, whole_query=None))


@needs_state_stores
def test_a_plan_by_key_of_an_earlier_version_is_continued(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(table_plan, "plan_table", plan_by_key)
        result = fail_then_retry(airflow, marks, tmp_path, before_retry=earlier.undo, key=None)
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert "key            id" in result.log
    assert set(marks.attempts().values()) == {1}


@needs_state_stores
def test_without_a_snapshot_a_retry_continues_although_the_table_changed(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    result = fail_then_retry(airflow, marks, tmp_path, consistency="none")
    assert result.state == "success"
    assert set(marks.attempts().values()) == {1}


@needs_state_stores
def test_resume_false_starts_from_the_beginning(airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path) -> None:
    result = fail_then_retry(airflow, marks, tmp_path, resume=False)
    assert result.state == "success"
    assert max(marks.attempts().values()) == 2
    assert "resume=False" in result.log


@needs_state_stores
def test_changed_code_starts_from_the_beginning_and_logs_it(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    airflow.run(operator(reader(marks, stop_file)), max_tries=1)

    def other(rows: Iterable[Any]) -> dict[str, Any]:
        return {"others": sum(1 for _ in rows)}

    result = airflow.run(operator(other), try_number=2, max_tries=1)
    assert result.value == {"row_count": 20000, "others": 20000}
    assert "its parameters have changed since" in result.log


@needs_state_stores
def test_a_changed_condition_starts_from_the_beginning(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function), max_tries=1)
    stop_file.unlink()
    result = airflow.run(operator(function, where="status = 'paid'"), try_number=2, max_tries=1)
    assert result.value["row_count"] == orders.ask("count(*)", "status = 'paid'")
    assert "its parameters have changed since" in result.log


@needs_state_stores
def test_a_connection_to_another_database_starts_from_the_beginning(
    airflow: Airflow, orders: Orders, marks: Marks, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function, consistency="none"), max_tries=1)
    stop_file.unlink()
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as right:
        right.execute("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric)")
        right.execute("INSERT INTO orders SELECT n, 1 FROM generate_series(1, 100000) AS n")
        airflow.connections["orders_db"].schema = right.info.dbname
        result = airflow.run(operator(function, consistency="none"), try_number=2, max_tries=1)
    assert result.value == {"row_count": 100_000, "total": "100000"}
    assert "its parameters have changed since" in result.log


@pytest.fixture
def tenants(orders: Orders) -> Iterator[Orders]:
    """Two roles that see a half of the table each, and one that sees what its setting says."""
    name = orders.connection.info.dbname
    orders.connection.execute(f"""
        CREATE ROLE even LOGIN PASSWORD 'even';
        CREATE ROLE odd LOGIN PASSWORD 'odd';
        CREATE ROLE one LOGIN PASSWORD 'one';
        GRANT SELECT, UPDATE ON orders TO even, odd, one;
        GRANT CREATE ON SCHEMA public TO even, odd, one;
        GRANT even, odd TO one;
        ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
        CREATE POLICY half ON orders USING (CASE current_user WHEN 'even' THEN id % 2 = 0 WHEN 'odd' THEN id % 2 = 1
                                            ELSE id % 2 = current_setting('shop.rest')::int END);
        ALTER ROLE one IN DATABASE {name} SET shop.rest = '0';
    """)
    yield orders
    orders.connection.execute("RESET ROLE; DROP OWNED BY even, odd, one; DROP ROLE one, even, odd")


def log_in(airflow: Airflow, user: str, **extra: str) -> None:
    connection = airflow.connections["orders_db"]
    connection.login = connection.password = user
    connection.extra = json.dumps(extra)


CHANGES = {
    "user": ({"user": "even"}, {"user": "odd"}, ""),
    "role": ({"user": "one", "options": "-c role=even"}, {"user": "one", "options": "-c role=odd"}, ""),
    "option": ({"user": "one", "options": "-c shop.rest=0"}, {"user": "one", "options": "-c shop.rest=1"}, ""),
    "setting of the role": ({"user": "one"}, {"user": "one"}, "ALTER ROLE one IN DATABASE {} SET shop.rest = '1'"),
}


@needs_state_stores
@pytest.mark.parametrize(("before", "after", "change"), CHANGES.values(), ids=CHANGES)
def test_another_login_that_sees_other_rows_starts_from_the_beginning(
    airflow: Airflow, tenants: Orders, tmp_path: Path, before: dict[str, str], after: dict[str, str], change: str
) -> None:
    path = tmp_path / "stop"
    path.touch()
    read = id_reader(path)

    log_in(airflow, **before)
    first = airflow.run(operator(read, consistency="none"), max_tries=1)
    assert first.state == "up_for_retry", first.log
    path.unlink()
    log_in(airflow, **after)
    if change:
        tenants.connection.execute(change.format(tenants.connection.info.dbname))
    result = airflow.run(operator(read, consistency="none"), try_number=2, max_tries=1)
    assert result.value == {
        "row_count": tenants.ask("count(*)", "id % 2 = 1"),
        "ids": tenants.ask("sum(id)::bigint", "id % 2 = 1"),
    }
    assert "its parameters have changed since" in result.log


@needs_state_stores
@pytest.mark.usefixtures("counted_writes")
def test_under_row_security_a_retry_reads_one_snapshot(airflow: Airflow, tenants: Orders, tmp_path: Path) -> None:
    tenants.connection.execute("""
        CREATE TABLE members (rest int, name text);
        INSERT INTO members VALUES (0, 'even');
        GRANT SELECT ON members TO even;
        GRANT pg_read_all_stats TO even;
        GRANT EXECUTE ON FUNCTION pg_control_system() TO even;
        DROP POLICY half ON orders;
        CREATE POLICY member ON orders USING (id % 2 IN (SELECT rest FROM members WHERE name = current_user));
    """)
    report_writes(tenants.connection)
    path = tmp_path / "stop"
    path.touch()
    read = id_reader(path)

    log_in(airflow, "even")
    first = airflow.run(operator(read), max_tries=1)
    assert first.state == "up_for_retry", first.log
    advice = "The next try processes all 8 ranges again, because the server does not count all writes"
    assert advice in json.dumps(first.xcoms["burla_report"])
    path.unlink()
    tenants.connection.execute("INSERT INTO members VALUES (1, 'even')")
    report_writes(tenants.connection)
    result = airflow.run(operator(read), try_number=2, max_tries=1)
    assert result.value == {"row_count": tenants.ask("count(*)"), "ids": tenants.ask("sum(id)::bigint")}
    assert "the table may have changed since (the server does not count all writes" in result.log


def test_another_login_that_sees_other_rows_is_refused_by_a_ledger(
    airflow: Airflow, tenants: Orders, tmp_path: Path
) -> None:
    path = str(tmp_path / "stop")
    Path(path).touch()

    def write(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        import os

        if key_range.index > 2 and os.path.exists(path):
            raise RuntimeError("not yet")
        return {"row_count": 0}

    log_in(airflow, "even")
    assert airflow.run(write_once(process_range=write, combine=None), max_tries=1).state == "up_for_retry"
    Path(path).unlink()
    tenants.connection.execute("GRANT even TO odd")  # it may write the ledger
    log_in(airflow, "odd")
    result = airflow.run(write_once(process_range=write, combine=None), try_number=2, max_tries=1)
    assert "(under row security) login changed since this run's first try" in str(result.error)


@needs_state_stores
def test_a_cleared_task_starts_from_the_beginning(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    airflow.run(operator(function), max_tries=0)
    stop_file.unlink()
    # Clearing lets the task take more tries than it had.
    result = airflow.run(operator(function), try_number=2, max_tries=1)
    assert result.state == "success"
    assert max(marks.attempts().values()) == 2
    assert "the task was cleared since" in result.log


@needs_state_stores
def test_a_task_killed_with_sigkill_is_resumed_by_its_retry(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    slow = marks.slow(0.4)
    # What the fixture has written is counted before the first try looks, not only when its session says so.
    report_writes(orders.connection)
    task = operator(slow, ranges=30, max_parallelism=2)
    run_and_kill(airflow, task, signal.SIGKILL, when=lambda: "burla_checkpoint_outcomes_00000" in airflow.state_store)
    at_work = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%'"
    wait_for(lambda: orders.connection.execute(at_work).fetchone() == (0,))  # the client notices, and its workers go
    done_before = marks.attempts()
    assert 0 < len(done_before) < 20
    result = airflow.run(operator(slow, ranges=30, max_parallelism=2), try_number=2, max_tries=1)
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    worked = marks.attempts()
    assert len(worked) >= 30
    # What was under way, or answered in the last seconds before the kill, is worked again; the rest is not.
    kept = result.xcoms["burla_report"]["resumed"]
    assert kept > 0, result.log
    assert sum(worked.values()) - sum(done_before.values()) == 30 - kept


def test_a_retry_writes_once_and_a_cleared_task_writes_again(airflow: Airflow, orders: Orders, tmp_path: Path) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    path = str(stop_file)

    def raise_amounts(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        import os

        from psycopg import sql

        query = sql.SQL("UPDATE orders SET amount = amount + 1 WHERE {}").format(key_range.where)
        changed = connection.execute(query).rowcount
        if key_range.index > 4 and os.path.exists(path):
            raise RuntimeError("not yet")
        return {"row_count": changed}

    def write() -> BurlaPostgresOperator:
        return BurlaPostgresOperator(
            task_id="t",
            table="orders",
            postgres_conn_id="orders_db",
            key="id",
            ranges=8,
            process_range=raise_amounts,
            ledger="public.burla_ledger",
        )

    before = orders.ask("sum(amount)")
    assert airflow.run(write(), max_tries=1).state == "up_for_retry"
    stop_file.unlink()
    result = airflow.run(write(), try_number=2, max_tries=1)
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000}
    assert orders.ask("sum(amount)") == before + 20000
    assert "The ledger has" in result.log
    cleared = airflow.run(write(), try_number=3, max_tries=3)
    assert orders.ask("sum(amount)") == before + 40000
    assert "The task was cleared, which starts a new run: 8 ranges that were already written" in cleared.log


def add_one(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE orders SET amount = amount + 1 WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).rowcount, "keys": [key_range.idempotency_key]}


def write_once(**options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 4}
    combine = {"combine": lambda values: {"keys": sorted(key for value in values for key in value["keys"])}}
    return BurlaPostgresOperator(
        **{**defaults, "process_range": add_one, "ledger": "public.burla_ledger", **combine, **options}
    )


def test_a_dag_run_that_was_deleted_and_recreated_writes_again(airflow: Airflow, orders: Orders) -> None:
    before = orders.ask("sum(amount)")
    first = airflow.run(write_once())
    again = airflow.run(write_once(), run_started=START + timedelta(hours=1))
    assert again.state == "success", again.log
    assert orders.ask("sum(amount)") == before + 40000
    assert "The DAG run was created again, which starts a new run: 4 ranges that were already written" in again.log
    assert not set(first.value["keys"]) & set(again.value["keys"])
    # A retry of the new run is one: clearing, retries and the deletion are told apart.
    retry = airflow.run(write_once(), run_started=START + timedelta(hours=1), try_number=2, max_tries=0)
    assert orders.ask("sum(amount)") == before + 40000
    assert retry.value == again.value


def test_a_run_continues_after_an_upgrade_of_the_provider(airflow: Airflow, orders: Orders) -> None:
    before = orders.ask("sum(amount)")
    airflow.run(write_once(), max_tries=1)
    # Keys had no start of the DAG run. Of the old run of a DAG run that was made again they are as before.
    orders.connection.execute("UPDATE burla_ledger SET run_key = regexp_replace(run_key, '/[^/]*$', '')")
    airflow.run(write_once(), try_number=2, max_tries=1)
    assert orders.ask("sum(amount)") == before + 20000
    made_again = datetime.now(UTC) + timedelta(minutes=1)
    airflow.run(write_once(), try_number=2, max_tries=1, run_started=made_again)
    assert orders.ask("sum(amount)") == before + 40000


@pytest.mark.parametrize(
    ("options", "window", "split"),
    [
        (
            {"start_id": "{{ 3 }}", "end_id": "{{ '' }}", "ranges": "{{ 4 }}"},
            "('id', '3', '', None, None, None)",
            "('auto', None, '4')",
        ),
        (
            {"key": "", "lower": "", "ranges": None, "rows_per_range": Decimal(9000)},
            "('', None, None, '', None, '')",
            "('auto', Decimal('9000'), None)",
        ),
    ],
)
def test_a_run_with_templates_continues_after_an_upgrade(
    airflow: Airflow, orders: Orders, options: dict[str, Any], window: str, split: str
) -> None:
    airflow.run(write_once(**options))
    [(record,)] = orders.connection.execute("SELECT result FROM burla_ledger WHERE range_index = -1").fetchall()
    # Written out, because ledgers store it: a retry with another fingerprint is refused.
    source = "Source(schema='public', table='orders', columns=(), where=None, partitioned=False)"
    assert record[0] == fingerprint("orders_db", source, window, split, None)


def test_every_pass_of_a_loop_writes(airflow: Airflow, orders: Orders) -> None:
    # The loops are made up by Airflow 3.4's documentation: it cannot be installed here.
    loops = [SimpleNamespace(index=index, region_id="8c1e0e1e-0000-7000-8000-000000000000") for index in (1, 2)]
    before = orders.ask("sum(amount)")
    for loop in loops:
        result = airflow.run(write_once(results_table="public.results"), loop=loop)
        assert result.state == "success", result.log
        assert result.xcoms["burla_report"]["title"] == f"public.orders (pass {loop.index})"
    assert orders.ask("sum(amount)") == before + 40000
    runs = orders.connection.execute("SELECT count(DISTINCT run), count(*) FROM results").fetchone()
    assert runs == (2, 8)
    airflow.run(write_once(), loop=loops[1], try_number=2)
    assert orders.ask("sum(amount)") == before + 40000


@needs_state_stores
def test_a_checkpoint_of_another_pass_is_not_used(
    airflow: Airflow, orders: Orders, marks: Marks, tmp_path: Path
) -> None:
    stop_file = tmp_path / "stop"
    stop_file.touch()
    function = reader(marks, stop_file)
    loops = [SimpleNamespace(index=index, region_id="made up") for index in (1, 2)]
    airflow.run(operator(function, consistency="none"), max_tries=1, loop=loops[0])
    stop_file.unlink()
    result = airflow.run(operator(function, consistency="none"), max_tries=1, loop=loops[1])
    assert result.value["row_count"] == 20000
    assert max(marks.attempts().values()) == 2


@pytest.mark.parametrize("options", [{"ledger": "public.burla_ledger"}, {"incremental": True, "ledger": None}])
def test_writes_in_a_loop_with_an_unknown_pass_are_refused(
    airflow: Airflow, orders: Orders, options: dict[str, Any]
) -> None:
    # Made up: a loop that does not say where it is.
    result = airflow.run(write_once(**options), max_tries=1, loop=SimpleNamespace(max_iterations=3))
    assert result.state == "failed"
    assert "the task is in a loop, and this version of Airflow does not report the pass" in str(result.error)


@needs_state_stores
def test_a_map_resumes_its_missing_inputs(airflow: Airflow, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def touch(number: int) -> int:
        import os
        import pathlib

        if number % 2 and os.path.exists(f"{folder}/stop"):
            raise RuntimeError("not yet")
        path = pathlib.Path(folder, f"{number}")
        assert not path.exists()
        path.touch()
        return number

    (tmp_path / "stop").touch()
    first = airflow.run(BurlaMapOperator(task_id="t", python_callable=touch, inputs=list(range(10))), max_tries=1)
    assert first.state == "up_for_retry"
    (tmp_path / "stop").unlink()
    task = BurlaMapOperator(task_id="t", python_callable=touch, inputs=list(range(10)))
    assert airflow.run(task, try_number=2, max_tries=1).value == list(range(10))


MAP_CHANGES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({"requirements": ["tenacity>=8"]}, {"requirements": ["tenacity>=8"]}, False),
    ({"requirements": ["tenacity>=8"]}, {"requirements": ["tenacity"]}, True),
    ({"image": "one"}, {"image": "two"}, True),
    ({"op_kwargs": {"rate": 1}}, {"op_kwargs": {"rate": 2}}, True),
    ({"collect": False}, {"collect": True}, True),
    ({"max_parallelism": 1}, {"max_parallelism": 2, "func_cpu": 2, "func_ram": 2, "job_retries": 1}, False),
]


@needs_state_stores
@pytest.mark.parametrize(("before", "after", "restarts"), MAP_CHANGES)
def test_a_map_starts_from_the_beginning_if_its_results_may_differ(
    airflow: Airflow, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], restarts: bool
) -> None:
    stop_file = str(tmp_path / "stop")

    def multiply(number: int, rate: int = 1) -> int:
        import os

        if number == 7 and os.path.exists(stop_file):
            raise RuntimeError("not yet")
        return number * rate

    Path(stop_file).touch()
    options = {"task_id": "t", "python_callable": multiply, "inputs": list(range(10))}
    first = airflow.run(BurlaMapOperator(**options, **before), max_tries=1)
    assert first.state == "up_for_retry", first.log
    Path(stop_file).unlink()
    result = airflow.run(BurlaMapOperator(**options, **after), try_number=2, max_tries=1)
    rate = after.get("op_kwargs", {}).get("rate", 1)
    assert result.value == [number * rate for number in range(10)]
    assert ("this try starts from the beginning: its parameters have changed" in result.log) is restarts


def one() -> int:
    return 1


def two() -> int:
    return 2


TABLE_CHANGES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, False),
    ({"requirements": ["tenacity>=8"]}, {"requirements": ["tenacity"]}, True),
    ({"image": "one"}, {"image": "two"}, True),
    ({"init": {"rate": one}}, {"init": {"rate": two}}, True),
    ({"op_kwargs": {"rate": 1}}, {"op_kwargs": {"rate": True}}, True),
    ({"row_format": "tuple"}, {"row_format": "dict"}, True),
    ({"batch_format": "arrow"}, {"batch_format": "pandas"}, True),
    ({"batch_format": "arrow", "batch_size": 10}, {"batch_format": "arrow", "batch_size": 20}, True),
    ({"range_retries": 1, "trial_ranges": 1}, {"range_retries": 2, "func_cpu": 2, "isolate_failures": True}, False),
]


@needs_state_stores
@pytest.mark.usefixtures("counted_writes")
@pytest.mark.parametrize(("before", "after", "restarts"), TABLE_CHANGES)
def test_a_table_starts_from_the_beginning_if_its_results_may_differ(
    airflow: Airflow, orders: Orders, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], restarts: bool
) -> None:
    stop_file = str(tmp_path / "stop")

    def read(rows: Iterable[Any], key_range: Any, rate: int = 1) -> dict[str, Any]:
        import os

        if key_range.index == 3 and os.path.exists(stop_file):
            raise RuntimeError("not yet")
        return {"items": len(list(rows)) * rate}

    report_writes(orders.connection)
    Path(stop_file).touch()
    first = airflow.run(operator(read, **before), max_tries=1)
    assert first.state == "up_for_retry", first.log
    Path(stop_file).unlink()
    result = airflow.run(operator(read, **after), try_number=2, max_tries=1)
    assert result.value == airflow.run(operator(read, **after), run_id="other").value
    assert ("this try starts from the beginning: its parameters have changed" in result.log) is restarts


def test_another_python_of_the_task_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    config = BurlaMapOperator(task_id="t", python_callable=abs, inputs=[1]).make_config()
    runner = job_runner.JobRunner(config, {}, BurlaHook("c"), None, None)
    monkeypatch.setattr(BurlaHook, "engine", Engine("local"))
    before = runner.environment
    assert runner.environment == before
    monkeypatch.setattr(job_runner, "sys", SimpleNamespace(version_info=(3, 99, 0)))
    assert runner.environment != before


def new_orders(orders: Orders, count: int) -> None:
    orders.connection.execute(
        "INSERT INTO orders SELECT (SELECT max(id) FROM orders) + n, 1 FROM generate_series(1, %s) AS n", [count]
    )


def print_in_indian_style(orders: Orders) -> None:
    """IST is India's time to whoever prints it, and Israel's to whoever reads it."""
    info = orders.connection.info
    for name, value in {"datestyle": "SQL, DMY", "timezone": "Asia/Kolkata"}.items():
        statement = sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} = {}")
        identifiers = [sql.Identifier(text) for text in (info.user, info.dbname, name)]
        orders.connection.execute(statement.format(*identifiers, sql.Literal(value)))


def increment(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(
        **{
            "task_id": "t",
            "table": "orders",
            "postgres_conn_id": "orders_db",
            "key": "id",
            "totals": {"total": "sum(amount)"},
            "incremental": True,
            "outlets": [Asset("order_totals")],
            **options,
        }
    )


@needs_state_stores
def test_increments_count_every_row_once_over_many_runs(airflow: Airflow, orders: Orders) -> None:
    counted = [airflow.run(increment(), run_id="r0").value["row_count"]]
    for number, added in enumerate([5, 0, 300], start=1):
        new_orders(orders, added)
        counted.append(airflow.run(increment(), run_id=f"r{number}").value["row_count"])
    assert counted == [20000, 5, 0, 300]


@needs_state_stores
def test_a_failed_run_does_not_advance_the_watermark(airflow: Airflow, orders: Orders) -> None:
    airflow.run(increment(), run_id="r0")
    new_orders(orders, 7)
    failing = increment(totals={"total": "sum(1 / (id - id))"})
    assert airflow.run(failing, run_id="r1").state == "failed"
    assert airflow.run(increment(), run_id="r2").value["row_count"] == 7


@needs_state_stores
def test_a_run_with_its_own_window_does_not_advance_the_watermark(airflow: Airflow, orders: Orders) -> None:
    airflow.run(increment(), run_id="r0")
    assert airflow.run(increment(start_id=3, end_id=30), run_id="backfill").value["row_count"] == 10
    new_orders(orders, 2)
    assert airflow.run(increment(), run_id="r1").value["row_count"] == 2


@needs_state_stores
def test_a_lag_leaves_the_last_ids_to_the_next_run(airflow: Airflow, orders: Orders) -> None:
    last = orders.ask("max(id)")
    first = airflow.run(increment(lag=100), run_id="r0").value["row_count"]
    assert first == orders.ask("count(*)", f"id <= {last - 100}")
    # A transaction that took its id early commits late.
    orders.connection.execute("INSERT INTO orders VALUES (%s, 1)", [last - 50])
    second = airflow.run(increment(lag=0), run_id="r1").value["row_count"]
    assert first + second == orders.ask("count(*)")


@needs_state_stores
def test_ids_that_are_committed_out_of_order_within_the_lag_are_counted_once(airflow: Airflow, orders: Orders) -> None:
    last = orders.ask("max(id)")
    with psycopg.connect(conninfo_of(orders.connection)) as early:
        early.execute("INSERT INTO orders SELECT %s + n, 1 FROM generate_series(1, 5) AS n", [last])
        orders.connection.execute("INSERT INTO orders SELECT %s + n, 1 FROM generate_series(6, 9) AS n", [last])
        counted = [airflow.run(increment(lag=20), run_id="r0").value["row_count"]]
    counted.append(airflow.run(increment(lag=0), run_id="r1").value["row_count"])
    assert sum(counted) == orders.ask("count(*)") == 20009


@needs_state_stores
def test_timestamps_that_are_committed_out_of_order_within_the_lag_are_counted_once(
    airflow: Airflow, orders: Orders
) -> None:
    orders.connection.execute("CREATE TABLE events (happened timestamptz NOT NULL)")
    insert = "INSERT INTO events SELECT now() - make_interval(secs => %s) FROM generate_series(1, 10)"
    orders.connection.execute(insert, [120])
    events = {"table": "events", "key": "happened", "totals": {"n": "count(*)"}}
    with psycopg.connect(conninfo_of(orders.connection)) as early:
        early.execute(insert, [30])
        orders.connection.execute(insert, [20])
        first = airflow.run(increment(**events, lag=timedelta(minutes=1)), run_id="r0").value["row_count"]
    second = airflow.run(increment(**events, lag=timedelta(0)), run_id="r1").value["row_count"]
    assert (first, second) == (10, 20)


@needs_state_stores
@pytest.mark.parametrize("consistency", ["snapshot", "none"])
def test_no_row_is_skipped_with_any_date_style_of_the_role(airflow: Airflow, orders: Orders, consistency: str) -> None:
    print_in_indian_style(orders)
    orders.connection.execute("CREATE TABLE events AS SELECT now() AS happened FROM generate_series(1, 10)")
    events = increment(table="events", key="happened", totals={"n": "count(*)"}, consistency=consistency)
    assert airflow.run(events, run_id="r0").value["row_count"] == 10
    orders.connection.execute("INSERT INTO events SELECT now() FROM generate_series(1, 5)")
    assert airflow.run(events, run_id="r1").value["row_count"] == 5


@needs_state_stores
def test_tables_with_the_same_name_in_two_schemas_have_separate_watermarks(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE SCHEMA archive")
    orders.connection.execute("CREATE TABLE archive.orders AS SELECT * FROM orders WHERE id <= 300")
    orders.connection.execute("ALTER TABLE archive.orders ADD PRIMARY KEY (id)")
    counted = [airflow.run(increment(table=f"{schema}.orders")).value["row_count"] for schema in ("public", "archive")]
    assert counted == [20000, orders.ask("count(*)", "id <= 300")]


@needs_state_stores
def test_conditions_of_a_mapped_task_have_separate_watermarks(airflow: Airflow, orders: Orders) -> None:
    tasks = [increment(where=f"id % 2 = {rest}") for rest in (0, 1)]
    counted = [airflow.run(task, map_index=number).value["row_count"] for number, task in enumerate(tasks)]
    assert sum(counted) == 20000
    assert 0 not in counted


@needs_state_stores
def test_a_condition_can_differ_between_runs(airflow: Airflow, orders: Orders) -> None:
    airflow.run(increment(where="'2026-11-20' < '2027-01-01'"), run_id="r0")
    new_orders(orders, 4)
    assert airflow.run(increment(where="'2026-11-21' < '2027-01-01'"), run_id="r1").value["row_count"] == 4


@needs_state_stores
def test_a_try_after_the_watermark_has_advanced_processes_the_same_rows(airflow: Airflow, orders: Orders) -> None:
    # As when the result was lost on its way, or when somebody clears the last run.
    airflow.run(increment(), run_id="r0")
    new_orders(orders, 5)
    airflow.run(increment(), run_id="r1")
    assert airflow.run(increment(), run_id="r1", try_number=2, max_tries=1).value["row_count"] == 5
    new_orders(orders, 3)
    assert airflow.run(increment(), run_id="r2").value["row_count"] == 3


@needs_state_stores
def test_the_first_run_can_be_cleared_too(airflow: Airflow, orders: Orders) -> None:
    for _ in range(2):
        assert airflow.run(increment(), run_id="r0").value["row_count"] == 20000


@needs_state_stores
def test_one_of_two_runs_at_the_same_time_succeeds(airflow: Airflow, orders: Orders) -> None:
    def run_another(values: list[dict[str, Any]]) -> dict[str, Any]:
        # The end of the slower one, while which the faster one has ended.
        airflow.asset_store.update(others)
        return {}

    fast = increment(totals=None, process_rows=lambda rows: {"n": 1}, columns=["id"])
    airflow.run(fast, run_id="r1")
    others = dict(airflow.asset_store)
    airflow.asset_store.clear()
    slow = increment(totals=None, process_rows=lambda rows: {"n": 1}, columns=["id"], combine=run_another)
    result = airflow.run(slow, run_id="r0", max_tries=1)
    assert result.state == "up_for_retry"
    assert result.value is None
    assert "Set max_active_tis_per_dag=1 on the task." in str(result.error)
    assert airflow.asset_store == others
    assert airflow.run(fast, run_id="r0", try_number=2, max_tries=1).value == {"row_count": 0}


@needs_state_stores
def test_mapped_instances_that_would_share_a_watermark_are_refused(airflow: Airflow, orders: Orders) -> None:
    airflow.run(increment(), map_index=0)
    assert "Map it over table" in str(airflow.run(increment(), map_index=1).error)


@needs_state_stores
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "UTC"])
@pytest.mark.parametrize("kept", ["UTC", "here"])
def test_timestamps_without_time_zone_can_be_utc_or_in_the_zone_of_the_server(
    airflow: Airflow, orders: Orders, zone: str, kept: str
) -> None:
    orders.connection.execute(f"SET TIME ZONE '{zone}'")
    name = orders.connection.info.dbname
    orders.connection.execute(sql.SQL("ALTER DATABASE {} SET TimeZone = {}").format(sql.Identifier(name), zone))
    orders.connection.execute("CREATE TABLE events (happened timestamp NOT NULL)")
    moment = "now() AT TIME ZONE 'UTC'" if kept == "UTC" else "now()::timestamp"
    insert = f"INSERT INTO events SELECT {moment} - interval '%s seconds' FROM generate_series(1, 10)"
    events = {"table": "events", "key": "happened", "totals": {"n": "count(*)"}}
    orders.connection.execute(insert % 86400)
    assert airflow.run(increment(**events), run_id="r0").value["row_count"] == 10
    # Whatever comes from now on has a greater moment than the mark, whichever clock it is by.
    [(mark,)] = [(value["end"],) for value in airflow.asset_store.values()]
    assert orders.connection.execute(f"SELECT %s::timestamp <= {moment}", [mark]).fetchone() == (True,)


@needs_state_stores
def test_a_key_that_can_decrease_is_refused(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(increment(key="status"))
    assert "incremental" in str(result.error)


def test_the_results_table_has_a_row_per_range_and_is_replaced(airflow: Airflow, orders: Orders) -> None:
    task = {"incremental": False, "outlets": [], "results_table": "public.results", "ranges": 6}
    for _ in range(2):
        assert airflow.run(increment(**task)).state == "success"
    rows = orders.connection.execute(
        "SELECT count(*), sum(row_count), sum((result->>'total')::numeric) FROM results"
    ).fetchone()
    assert rows == (6, 20000, orders.ask("sum(amount)"))


def test_a_limit_of_the_role_leaves_a_connection_for_writing_the_results(airflow: Airflow, orders: Orders) -> None:
    connection = orders.connection
    connection.execute("""
        DROP ROLE IF EXISTS limited;
        CREATE ROLE limited LOGIN PASSWORD 'limited';
        ALTER ROLE limited CONNECTION LIMIT 3;
        GRANT SELECT ON orders TO limited;
        GRANT CREATE ON SCHEMA public TO limited;
    """)
    airflow.connections["orders_db"].login = airflow.connections["orders_db"].password = "limited"
    options = {"incremental": False, "outlets": [], "max_parallelism": 8}
    try:
        with_table = airflow.run(increment(**options, results_table="public.results"))
        without = airflow.run(increment(**options))
    finally:
        connection.execute("DROP OWNED BY limited; DROP ROLE limited")
    assert with_table.value == without.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert "role 1 (3 - 1 in use - 1 for the task)" in with_table.log
    assert "role 2 (3 - 1 in use)" in without.log
