"""Incremental runs that fail, overlap, are cleared, or have unusual keys: no row is lost or processed twice."""

from __future__ import annotations

import multiprocessing
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG, Asset

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.increment import find_column, find_increment
from burla_provider.worker.source import Source
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.marks import conninfo_of
from tests.support.task_runner import START, Airflow, TaskResult

pytestmark = needs_state_stores


class Stream:
    """A table that grows, a task that writes each of its rows to another one, and a file that makes it fail."""

    def __init__(self, airflow: Airflow, connection: psycopg.Connection[Any], stop_file: Path) -> None:
        self.airflow = airflow
        self.connection = connection
        self.stop_file = stop_file
        connection.execute("CREATE TABLE stream (id bigserial PRIMARY KEY); CREATE TABLE written (id bigint)")

    def add(self, rows: int) -> None:
        self.connection.execute("INSERT INTO stream SELECT FROM generate_series(1, %s)", [rows])

    def run(self, run_id: str, *, fail_from: int | None = None, cleared: int = 0, **options: Any) -> TaskResult:
        """Run the task once.

        :param fail_from: ranges that begin at this id or later fail.
        :param cleared: how often the run was cleared.
        """
        self.stop_file.write_text(str(fail_from or 2**63))
        world, operator = options.pop("world", self.airflow), self.operator(**options)
        return world.run(operator, run_id=run_id, try_number=cleared + 1, max_tries=cleared)

    def operator(self, **options: Any) -> BurlaPostgresOperator:
        path = str(self.stop_file)

        def write(connection: Any, key_range: Any) -> dict[str, Any]:
            from pathlib import Path

            from psycopg import sql

            if key_range.start_id >= int(Path(path).read_text()):
                raise RuntimeError("not yet")
            query = sql.SQL("INSERT INTO written SELECT id FROM stream WHERE {}").format(key_range.where)
            return {"row_count": connection.execute(query).rowcount}

        defaults = {
            "task_id": "t",
            "table": "stream",
            "postgres_conn_id": "orders_db",
            "key": "id",
            "process_range": write,
            "rows_per_range": 30,
            "range_retries": 0,
            "ledger": "public.burla_ledger",
            "incremental": True,
            "outlets": [Asset("written")],
        }
        return BurlaPostgresOperator(**{**defaults, **options})

    def written(self) -> tuple[int, int]:
        """Rows written, and how many of them are different ones."""
        row = self.connection.execute("SELECT count(*), count(DISTINCT id) FROM written").fetchone()
        assert row is not None
        return row


@pytest.fixture
def stream(airflow: Airflow, orders: Orders, tmp_path: Path) -> Stream:
    return Stream(airflow, orders.connection, tmp_path / "stop")


def test_the_next_run_continues_a_failed_run(stream: Stream) -> None:
    stream.add(90)
    assert stream.run("r1", fail_from=50).state == "failed"
    assert stream.written() == (60, 60)
    stream.add(10)
    assert stream.run("r2", fail_from=90).state == "failed"
    assert stream.written() == (90, 90)
    stream.add(5)
    third = stream.run("r3")
    assert third.value == {"row_count": 105}
    assert "The run r2 wrote a part of ... <= id < ...: this run continues it" in third.log
    assert stream.written() == (105, 105)
    assert stream.run("r4").value == {"row_count": 0}
    # The failed run is cleared, although nothing is missing any more.
    assert stream.run("r1", cleared=1).value == {"row_count": 0}
    assert stream.written() == (105, 105)


def test_a_retry_of_a_failed_run_has_the_same_window(stream: Stream) -> None:
    stream.add(90)
    assert stream.run("r1", fail_from=50).state == "failed"
    stream.add(10)
    assert stream.run("r1").value == {"row_count": 90}
    assert stream.run("r2").value == {"row_count": 10}
    assert stream.written() == (100, 100)


def test_clearing_a_failed_run_writes_again_and_logs_it(stream: Stream) -> None:
    stream.add(90)
    assert stream.run("r1", fail_from=50).state == "failed"
    result = stream.run("r1", cleared=1)
    assert result.value == {"row_count": 90}
    assert "The task was cleared, which starts a new run: 2 ranges that were already written" in result.log
    assert stream.written() == (150, 90)
    assert stream.run("r2").value == {"row_count": 0}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("", {"where": "id > 0"}, "condition, split, target or .* changed since"),
        ("DROP TABLE burla_ledger", {}, "no longer has the plan"),
        ("", {"ledger": "public.others"}, "Name this ledger, or clear the task"),
        ("", {"ledger": None, "consistency": "none"}, "Name this ledger, or clear the task"),
    ],
)
def test_a_run_that_cannot_continue_is_refused_until_the_task_is_cleared(
    stream: Stream, change: str, options: dict[str, Any], message: str
) -> None:
    stream.add(90)
    assert stream.run("r1", fail_from=50).state == "failed"
    if change:
        stream.connection.execute(change)
    refused = stream.run("r2", **options)
    assert refused.state == "failed"
    assert re.search(message, str(refused.error))
    assert stream.written() == (60, 60)
    assert stream.run("r2", cleared=1, **options).value == {"row_count": 90}
    assert stream.written() == (150, 90)
    assert stream.run("r3", **options).value == {"row_count": 0}


def test_two_runs_that_write_at_the_same_time_write_each_row_once(stream: Stream) -> None:
    faster = replace(stream.airflow, xcoms={}, state_store={}, messages=[])
    second: list[TaskResult] = []

    def run_another(values: list[dict[str, Any]]) -> dict[str, Any]:
        # The first run has written all ranges, and has not moved the watermark.
        stream.add(10)
        second.append(stream.run("r2", world=faster))
        return {}

    stream.add(90)
    stream.airflow.connections["orders_db"].password = stream.connection.info.password
    first = stream.run("r1", combine=run_another)
    assert [result.value for result in second] == [{"row_count": 100}]
    assert first.state == "failed"
    assert "The result of this run is discarded; a retry processes what is new." in str(first.error)
    assert stream.run("r1").value == {"row_count": 0}
    assert stream.written() == (100, 100)


def test_two_runs_that_start_at_the_same_time_write_each_row_once(stream: Stream) -> None:
    class Late(Airflow):
        """Between this run's look at the watermark and its own first step, another run begins, and fails."""

        def _on_GetAssetStateStoreByName(self, msg: Any) -> Any:
            answer = super()._on_GetAssetStateStoreByName(msg)
            if not others:
                world = replace(stream.airflow, xcoms={}, state_store={}, messages=[])
                others.append(stream.run("r2", fail_from=50, world=world))
            return answer

    others: list[TaskResult] = []
    late = Late(connections=stream.airflow.connections, asset_store=stream.airflow.asset_store)
    stream.add(90)
    result = stream.run("r1", world=late)
    assert others[0].state == "failed"
    assert "another run of this task processed the same rows" in str(result.error)
    assert stream.run("r1", world=late).value == {"row_count": 90}
    assert stream.written() == (90, 90)


class Meeting(Airflow):
    """Its tasks wait for each other wherever they look at the watermark."""

    barrier: Any = None

    def _on_GetAssetStateStoreByName(self, msg: Any) -> Any:
        answer = super()._on_GetAssetStateStoreByName(msg)
        with suppress(threading.BrokenBarrierError):  # if the other one cannot come
            self.barrier.wait(timeout=5)
        return answer


def test_two_processes_that_start_at_the_same_time_write_each_row_once(stream: Stream) -> None:
    stream.add(90)
    with multiprocessing.Manager() as manager:
        world = Meeting(connections=stream.airflow.connections, asset_store=manager.dict())
        world.barrier = multiprocessing.Barrier(2)
        fork = multiprocessing.get_context("fork")
        processes = [fork.Process(target=stream.run, args=(run_id,), kwargs={"world": world}) for run_id in "ab"]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        stream.airflow.asset_store.update(world.asset_store)
    # One of them has failed before it wrote anything.
    assert stream.written() == (90, 90)
    assert stream.run("c").value == {"row_count": 0}


READ = {"ledger": None, "process_range": None, "totals": {"last": "max(id)"}}


@pytest.mark.parametrize("kind", [READ, {}], ids=["reading", "writing"])
def test_a_run_that_is_cleared_repeats_its_own_window(stream: Stream, kind: dict[str, Any]) -> None:
    sizes = {"a": 100, "b": 0, "c": 40, "d": 60}
    for run_id, rows in sizes.items():
        stream.add(rows)
        assert stream.run(run_id, **kind).value["row_count"] == rows
    mark = dict(stream.airflow.asset_store)
    stream.add(7)
    for run_id in ["c", "a", "b", "d"]:
        result = stream.run(run_id, cleared=1, **kind)
        assert result.value["row_count"] == sizes[run_id]
        assert "This run repeats its window" in result.log
    # Cleared once more, after a try that failed.
    assert stream.run("c", cleared=2, fail_from=130, **kind).state == ("success" if kind else "failed")
    assert stream.run("c", cleared=2, **kind).value["row_count"] == sizes["c"]
    assert stream.airflow.asset_store == mark
    assert stream.run("e", **kind).value["row_count"] == 7
    if not kind:
        assert stream.written() == (200 + 200 + 40 + 7, 207)


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_a_cleared_run_repeats_its_window_if_its_retries_are_changed_between_two_tries(
    stream: Stream, retries: int
) -> None:
    def run(try_number: int, max_tries: int, retries: int, fail_from: int = 2**63) -> TaskResult:
        stream.stop_file.write_text(str(fail_from))
        operator = stream.operator(retries=retries)
        return stream.airflow.run(operator, run_id="r1", try_number=try_number, max_tries=max_tries)

    stream.add(90)
    assert run(1, 1, retries=1).value == {"row_count": 90}
    stream.add(7)
    assert run(2, 2, retries=1, fail_from=50).state == "up_for_retry"  # cleared
    assert run(3, 2, retries).value == {"row_count": 90}
    assert stream.written() == (180, 90)
    assert stream.run("r2").value == {"row_count": 7}


def test_a_cleared_run_without_a_stored_window_logs_it(stream: Stream) -> None:
    for run_id in "ab":
        stream.add(50)
        stream.run(run_id, **READ)
    stream.airflow.other_state_stores.clear()  # [state_store] clear_on_success, or another administrator
    stream.add(3)
    result = stream.run("a", cleared=1, **READ)
    assert result.value["row_count"] == 3
    assert "This run was cleared, and its window is unknown" in result.log


@pytest.mark.parametrize("fail_from", [50, None])
def test_the_retry_of_a_recreated_dag_run_repeats_nothing(stream: Stream, fail_from: int | None) -> None:
    world = stream.airflow

    def run(try_number: int, started: datetime) -> TaskResult:
        operator = stream.operator(retries=1)
        return world.run(operator, run_id="r1", try_number=try_number, max_tries=1, run_started=started)

    stream.add(90)
    stream.stop_file.write_text(str(fail_from or 2**63))
    assert run(1, START).state == ("up_for_retry" if fail_from else "success")
    stream.add(10)
    stream.stop_file.write_text(str(2**63))
    world.state_store.clear()
    database = world.connections.pop("orders_db")
    assert run(1, START + timedelta(hours=1)).state == "up_for_retry"
    world.connections["orders_db"] = database
    result = run(2, START + timedelta(hours=1))
    assert result.value == {"row_count": 100 if fail_from else 10}
    assert "Clearing" not in result.log
    assert stream.written() == (100, 100)


def test_rows_that_no_run_processes_are_logged(stream: Stream) -> None:
    stream.connection.execute("""
        CREATE TABLE loose (id bigint UNIQUE);
        INSERT INTO loose SELECT generate_series(1, 50);
    """)
    warning = "There are rows whose id is NULL: no incremental run processes them."
    assert warning not in stream.run("a", table="loose", **READ).log
    stream.connection.execute("INSERT INTO loose VALUES (NULL), (51)")
    second = stream.run("b", table="loose", **READ)
    assert second.value["row_count"] == 1
    assert warning in second.log
    stream.connection.execute("TRUNCATE loose; INSERT INTO loose SELECT generate_series(1, 20)")
    third = stream.run("c", table="loose", **READ)
    assert third.value["row_count"] == 0
    assert "The maximum of id is 20, but the last success ended at 52" in third.log
    [(_, key)] = stream.airflow.asset_store
    assert f"delete the key {key!r}" in third.log
    del stream.airflow.asset_store["written", key]
    assert stream.run("d", table="loose", **READ).value["row_count"] == 20


@pytest.mark.parametrize(("kind", "maximum"), [("smallint", 2**15 - 1), ("integer", 2**31 - 1), ("bigint", 2**63 - 1)])
@pytest.mark.parametrize("work", [READ, {}], ids=["reading", "writing"])
def test_an_id_can_be_the_maximum_of_its_type(stream: Stream, kind: str, maximum: int, work: dict[str, Any]) -> None:
    stream.connection.execute(f"ALTER TABLE stream ALTER id TYPE {kind}")
    stream.add(20)
    assert stream.run("a", **work).value["row_count"] == 20
    stream.connection.execute("INSERT INTO stream VALUES (%s), (%s)", [maximum, maximum - 1])
    assert stream.run("b", **work).value["row_count"] == 2
    assert stream.run("c", **work).value["row_count"] == 0
    assert stream.run("b", cleared=1, **work).value["row_count"] == 2


MOMENTS = ["timestamp", "timestamptz"]


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("digits", [0, 1, 3, 5, 6])
@pytest.mark.parametrize("is_domain", [False, True])
def test_a_window_never_ends_above_a_value_of_a_later_row(
    orders: Orders, kind: str, digits: int, is_domain: bool
) -> None:
    connection = orders.connection
    column_type = f"{kind}({digits})"
    if is_domain:
        connection.execute(f"CREATE DOMAIN inner_moment AS {column_type}; CREATE DOMAIN moment AS inner_moment")
        column_type = "moment"
    connection.execute(f"CREATE TABLE events (happened {column_type}); INSERT INTO events VALUES ('infinity')")
    column = find_column(read_facts(PlannerConnection(connection), "events"), "happened")
    for _ in range(40):
        with connection.transaction():
            # Just below the clock.
            connection.execute(
                f"INSERT INTO events SELECT now() - n * interval '1s' / 10 ^ {digits} FROM generate_series(1, 2) AS n"
            )
            increment = find_increment(connection, Source("public", "events"), column, None, None)
            assert increment is not None
            # In this transaction the clock stands still: a row of now is the first that comes later.
            rounded, cut_off, behind = connection.execute(
                f"""
                SELECT now()::{kind}({digits}) >= upper, trunc(extract(epoch FROM now()), {digits})
                    >= extract(epoch FROM upper), now() - upper <= interval '1 second' / 10 ^ {digits}
                FROM (SELECT %s::{kind} AS upper) AS increment
                """,
                [increment.upper],
            ).fetchone() or (None, None, None)
        assert (rounded, cut_off, behind) == (True, True, True)
        time.sleep(0.013)


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_steady_writer_of_whole_seconds_loses_no_row(stream: Stream, kind: str) -> None:
    stream.connection.execute(f"CREATE TABLE events (happened {kind}(0) NOT NULL DEFAULT now(), id bigserial)")
    is_over = threading.Event()
    writer = threading.Thread(target=write_events, args=(conninfo_of(stream.connection), is_over.is_set))
    writer.start()
    options = {**READ, "table": "events", "key": "happened", "lag": timedelta(milliseconds=100)}
    counted: list[int] = []
    try:
        # A window ends at a whole second, so a run that is faster than a second may find no new one.
        while sum(count > 0 for count in counted) < 3 and len(counted) < 100:
            counted.append(stream.run(f"r{len(counted)}", **options).value["row_count"])
    finally:
        is_over.set()
        writer.join()
    assert sum(count > 0 for count in counted) == 3
    stream.connection.execute("SELECT pg_sleep(2)")
    counted.append(stream.run("last", **options).value["row_count"])
    assert stream.connection.execute("SELECT count(*) FROM events").fetchone() == (sum(counted),)


def write_events(conninfo: str, is_over: Callable[[], bool]) -> None:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while not is_over():
            connection.execute("INSERT INTO events DEFAULT VALUES")
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("options", "default_args", "limit"),
    [
        ({"incremental": True}, {}, 1),
        ({}, {}, None),
        ({"incremental": True, "max_active_tis_per_dag": 3}, {}, 3),
        ({"incremental": True}, {"max_active_tis_per_dag": 3}, 3),
        ({}, {"incremental": True}, 1),
    ],
)
def test_runs_of_an_incremental_task_wait_for_each_other(
    options: dict[str, Any], default_args: dict[str, Any], limit: int | None
) -> None:
    with DAG("d", schedule=None, default_args=default_args):
        task = BurlaPostgresOperator(task_id="t", table="orders", key="id", totals={"n": "count(*)"}, **options)
    assert task.max_active_tis_per_dag == limit


def test_instances_of_a_mapped_incremental_task_run_in_parallel() -> None:
    with DAG("d", schedule=None):
        partial = BurlaPostgresOperator.partial(task_id="t", key="id", totals={"n": "count(*)"}, incremental=True)
        task = partial.expand(table=["orders", "invoices"])
    assert task.max_active_tis_per_dag is None
