"""The status of a task on its page: every state and every ending, with its reason, and where the time went."""

from __future__ import annotations

import datetime
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from airflow.exceptions import AirflowException
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time import comms

from burla_provider.hooks.burla import BurlaHook
from burla_provider.jobs.job import ItemBegan, Job, JobEvent, JobWaiting, Tick
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task import monitor
from burla_provider.task.in_flight import InFlight
from burla_provider.task.reporter import REPORT_SECONDS
from tests.airflow.conftest import Orders, add_database, needs_state_stores
from tests.airflow.time_out import time_out_when_alone
from tests.support.in_process_engine import InProcessEngine
from tests.support.task_runner import HAS_STATE_STORES, Airflow, TaskResult, run_and_kill
from tests.support.waiting import wait_for

SECRET = "correct-horse"


def operator(**options: Any) -> BurlaPostgresOperator:
    work = {} if {"process_rows", "process_range"} & options.keys() else {"totals": {"total": "sum(amount)"}}
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 6}
    return BurlaPostgresOperator(**{**defaults, **work, **options})


def add_one(number: int) -> int:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number + 1


def fail_below_10000(rows: Any) -> dict[str, Any]:
    if any(row[0] < 10_000 for row in rows):
        raise ValueError("a small id")
    return {"n": 1}


def report_of(result: TaskResult) -> Any:
    return result.xcoms["burla_report"]


def states(airflow: Airflow) -> list[str]:
    """The states that the page has shown, in their order."""
    shown = [value["status"]["state"] for value in stored(airflow)[:-1]]  # without the final one
    return [state for number, state in enumerate(shown) if shown[number - 1 : number] != [state]]


# Endings


def test_a_success_has_its_result_and_no_advice(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(verify="count"), max_tries=2)
    report = report_of(result)
    assert (report["status"]["state"], report["status"]["detail"]) == ("success", ""), result.log
    assert report["result"] == {
        "values": [["row_count", "20,000"], ["total", str(orders.ask("sum(amount)"))]],
        "complete": True,
        "verified": "count(*) gives 20,000 rows too, in the same snapshot.",
        "more": 0,
    }
    assert (report["advice"], report["retry"], report["tries"]) == ([], None, [])
    assert report["try"] == {"number": 1, "count": 3}
    assert report["seconds_left"] is None
    assert airflow.state_store == {}


def test_the_plan_is_the_page_of_a_task_that_only_plans(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(plan_only=True))
    report = report_of(result)
    assert report["status"]["state"] == "planned"
    assert report["plan"] == result.value
    assert report["total"] == result.value["ranges"]
    assert (report["jobs"], report["result"]) == ([], None)


def test_tolerated_failures_are_not_shown_as_a_plain_success(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(process_rows=fail_below_10000, columns=["id"], tolerated_failures=5))
    assert result.state == "success"
    report = report_of(result)
    failed = report["failed"]
    detail = f"{failed} of {report['total']} ranges failed and are not in the result (tolerated_failures=5)"
    assert (report["status"]["state"], report["status"]["detail"]) == ("incomplete", detail)
    assert f"The result is incomplete: {detail}." in result.log
    assert report["result"]["complete"] is False
    assert "does not retry a task that has succeeded" in report["advice"][0]


def test_tolerated_inputs_have_the_result_none(airflow: Airflow) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=add_one, inputs=[1, -1], tolerated_failures=1)
    report = report_of(airflow.run(task))
    assert report["status"]["state"] == "incomplete"
    assert report["status"]["detail"] == "1 of 2 inputs failed and have the result None (tolerated_failures=1)"
    assert report["result"]["values"] == [["input 0 (1)", "2"], ["input 1 (-1)", "null"]]


@contextmanager
def closed_port() -> Iterator[int]:
    """A port of this machine at which no process listens, or can begin to."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield int(server.getsockname()[1])


@contextmanager
def dead_database(airflow: Airflow) -> Iterator[None]:
    with closed_port() as port:
        airflow.connections["orders_db"].host, airflow.connections["orders_db"].port = "127.0.0.1", port
        yield


@contextmanager
def wrong_burla_connection(airflow: Airflow) -> Iterator[None]:
    airflow.add_connection("burla_default", "burla", extra={"engine": "lokal"})
    yield


def nothing(airflow: Airflow) -> Any:
    return nullcontext()


@pytest.mark.parametrize(
    ("prepare", "options", "detail", "is_permanent"),
    [
        pytest.param(nothing, {"table": "ordes"}, 'table: "ordes" not found in database', True, id="no table"),
        pytest.param(nothing, {"where": "amont > 1"}, "where: the server rejects 'amont > 1'", True, id="no column"),
        pytest.param(nothing, {"ranges": "{{ 'many' }}"}, "ranges: must be ", True, id="parameter"),
        pytest.param(wrong_burla_connection, {}, "unknown engine 'lokal'", True, id="wrong Burla connection"),
        pytest.param(dead_database, {}, "OperationalError: ", False, id="no database"),
    ],
)
def test_a_failure_before_the_first_range_has_its_reason(
    airflow: Airflow, orders: Orders, prepare: Any, options: Any, detail: str, is_permanent: bool
) -> None:
    with prepare(airflow):
        result = airflow.run(operator(**options), max_tries=2)
    assert result.state == ("failed" if is_permanent else "up_for_retry"), result.log
    report = report_of(result)
    assert report["status"]["state"] == "failed"
    assert detail in report["status"]["detail"]
    assert (report["retry"] is None) == is_permanent
    assert report["advice"][0].startswith("Airflow does not retry" if is_permanent else "The next try starts from the")
    assert report["phases"][0]["name"] == "starting"


def test_a_cluster_that_is_not_reached_has_its_reason(airflow: Airflow) -> None:
    with closed_port() as port:
        host = f"http://127.0.0.1:{port}"
        airflow.add_connection("burla_default", "burla", host=host, login="nobody@example.com", password=SECRET)
        result = airflow.run(BurlaMapOperator(task_id="t", python_callable=add_one, inputs=[1]), max_tries=2)
    assert result.state == "up_for_retry"
    report = report_of(result)
    assert f"127.0.0.1:{port}" in report["status"]["detail"]
    assert dict(report["places"])["Cluster"] == "127.0.0.1"
    assert report["retry"] == {"seconds": 300, "remaining": None}  # the inputs are not read yet
    assert SECRET not in json.dumps(report)


def test_a_rejected_login_has_its_reason_and_no_password(airflow: Airflow, orders: Orders) -> None:
    airflow.connections["orders_db"].login, airflow.connections["orders_db"].password = "nobody_at_all", SECRET
    result = airflow.run(operator())
    assert result.state == "failed"
    assert "nobody_at_all" in report_of(result)["status"]["detail"]
    assert SECRET not in json.dumps(report_of(result))


def test_failed_ranges_say_what_a_retry_processes(airflow: Airflow, orders: Orders) -> None:
    retry_delay = datetime.timedelta(minutes=7)
    task = operator(process_rows=fail_below_10000, columns=["id"], retry_delay=retry_delay)
    report = report_of(airflow.run(task, max_tries=1))
    assert report["status"]["state"] == "failed"
    assert report["status"]["detail"].startswith(f"{report['failed']} of {report['total']} ")
    missing = report["failed"] if HAS_STATE_STORES else report["total"]
    assert report["retry"] == {"seconds": 420, "remaining": missing}
    assert report["advice"][1] == "Clearing the task starts from the beginning."
    if HAS_STATE_STORES:
        assert f"only the {report['failed']} missing range" in report["advice"][0]


@needs_state_stores
def test_a_failure_of_combine_says_that_no_range_is_processed_again(airflow: Airflow, orders: Orders) -> None:
    def combine(results: Any) -> Any:
        raise ValueError("not yet")

    task = operator(process_rows=lambda rows: {"n": 1}, combine=combine, columns=["id"], resume=True)
    report = report_of(airflow.run(task, max_tries=1))
    sentence = "The next try processes no range again: Airflow's task state store has all of them."
    assert report["advice"][0] == sentence


def test_a_last_try_says_that_no_retry_is_left(airflow: Airflow, orders: Orders) -> None:
    report = report_of(airflow.run(operator(process_rows=fail_below_10000, columns=["id"]), max_tries=0))
    assert report["retry"] is None
    assert report["advice"] == ["No retry is left.", "Clearing the task starts from the beginning."]


def test_a_ledger_says_that_clearing_writes_again(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE labels (id bigint, note text)")

    def label(row: Any) -> Any:
        if row[0] == 3:
            raise ValueError("the first row")
        return row

    task = BurlaPostgresTransformOperator(
        task_id="t",
        table="orders",
        postgres_conn_id="orders_db",
        columns=["id", "note"],
        map_row=label,
        target_table="labels",
        write_mode="insert",
        ledger="public.runs",
        ranges=5,
    )
    report = report_of(airflow.run(task, max_tries=1))
    assert report["retry"]["remaining"] == report["failed"] == 1
    assert report["advice"] == [
        "The next try processes only the 1 missing range: the ledger public.runs has the others.",
        "Clearing the task starts a new run, which writes all ranges again.",
    ]
    places = dict(report["places"])
    assert places["Target"] == "public.labels (insert)"
    assert places["Ledger"] == "public.runs"
    assert places["Sessions"].startswith("test_dag.t.scheduled__2026-11 in pg_stat_activity")


@pytest.mark.parametrize(
    "options", [{"retry_exponential_backoff": True}, {"retry_delay": datetime.timedelta(0)}], ids=["backoff", "at once"]
)
def test_the_time_of_a_retry_is_known_only_without_backoff(airflow: Airflow, options: Any) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=add_one, inputs=[-1, 1], resume=False, **options)
    report = report_of(airflow.run(task, max_tries=1))
    assert report["retry"] == {"seconds": 0 if "retry_delay" in options else None, "remaining": 2}
    assert report["advice"][0] == "The next try processes all 2 inputs again, because of resume=False."


def test_an_airflow_exception_of_the_user_has_its_reason(airflow: Airflow) -> None:
    def inputs() -> Any:
        raise AirflowException("no files today")

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=add_one, inputs=inputs))
    assert report_of(result)["status"]["detail"] == "no files today"


def test_a_timeout_has_its_reason(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    time_out_when_alone(monkeypatch, 0, others=0)
    task = BurlaMapOperator(
        task_id="t",
        python_callable=time.sleep,
        inputs=[300],
        execution_timeout=datetime.timedelta(minutes=5),
    )
    result = airflow.run(task)
    assert result.state == "failed"
    status = report_of(result)["status"]
    unfinished = r"Not finished: input 0 \(300\) on \S+ for \d+ s\."
    assert status["state"] == "failed"
    assert re.fullmatch(rf"The task took longer than its execution_timeout\. {unfinished}", status["detail"])


def test_a_range_that_hangs_until_the_timeout_has_its_name_and_advice(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_out_when_alone(monkeypatch, 2, others=5)

    def hang(connection: Any, key_range: Any) -> Any:
        import time

        time.sleep(300 if key_range.index == 2 else 0)
        return {"n": 1}

    task = operator(process_range=hang, execution_timeout=datetime.timedelta(minutes=5))
    report = report_of(airflow.run(task, max_tries=1))
    assert re.search(r"Not finished: range 2 \(.* <= id < .*\) on \S+ for \d+ s", report["status"]["detail"])
    assert "Set range_timeout" in report["advice"][-1]


@needs_state_stores
def test_a_killed_task_leaves_its_reason_for_the_next_try(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, stop = tmp_path / "begun", tmp_path / "stop"
    begin = InFlight.begin

    def note_begin(self: InFlight, event: ItemBegan) -> None:
        begin(self, event)
        begun.touch()

    monkeypatch.setattr(InFlight, "begin", note_begin)

    def sleep_once(number: int) -> int:
        while not stop.exists():
            time.sleep(0.1)
        return number

    task = BurlaMapOperator(task_id="t", python_callable=sleep_once, inputs=[1])
    run_and_kill(airflow, task, signal.SIGTERM, when=begun.exists)
    [first] = airflow.state_store["burla_tries"]
    assert (first["number"], first["state"], first["done"]) == (1, "failed", 0)
    stopped = "The task was stopped: marked failed, cleared, or out of time. Not finished: input 0 (1) on "
    assert first["detail"].startswith(stopped)
    stop.touch()
    result = airflow.run(task, try_number=2, max_tries=1)
    assert report_of(result)["tries"] == [first]
    assert report_of(result)["try"] == {"number": 2, "count": 2}
    assert airflow.state_store == {}


@needs_state_stores
def test_a_try_whose_process_was_killed_is_listed(airflow: Airflow, tmp_path: Path) -> None:
    started, stop = tmp_path / "started", tmp_path / "stop"

    def sleep_once(number: int) -> int:
        started.touch()
        while not stop.exists():
            time.sleep(0.1)
        return number

    task = BurlaMapOperator(task_id="t", python_callable=sleep_once, inputs=[1])
    run_and_kill(airflow, task, signal.SIGKILL, when=started.exists)
    stop.touch()
    [first] = report_of(airflow.run(task, try_number=2, max_tries=1))["tries"]
    assert (first["number"], first["state"], first["detail"]) == (1, "failed", "The process of the try was killed.")


@needs_state_stores
@pytest.mark.parametrize("is_away", [False, True])
def test_a_skipped_task_leaves_no_report(airflow: Airflow, monkeypatch: pytest.MonkeyPatch, is_away: bool) -> None:
    from airflow.providers.common.compat.sdk import AirflowSkipException

    take = airflow.send

    def refuse(msg: Any) -> Any:
        if is_away and type(msg).__name__ == "DeleteTaskStateStore":
            raise AirflowRuntimeError(comms.ErrorResponse(error=comms.ErrorType.API_SERVER_ERROR, detail={}))
        return take(msg)

    def inputs() -> Any:
        raise AirflowSkipException

    monkeypatch.setattr(airflow, "send", refuse)  # a fake: the supervisor answers so when the API server is away
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=add_one, inputs=inputs))
    assert result.state == "skipped"
    assert "burla_report" not in result.xcoms
    assert is_away or airflow.state_store == {}


# A fake: the supervisor answers so when the API server is away.
def test_an_error_of_publishing_does_not_replace_the_tasks_own(airflow: Airflow, monkeypatch: Any) -> None:
    take = airflow.send

    def refuse(msg: Any) -> Any:
        if getattr(msg, "key", "") == "burla_report":
            raise AirflowRuntimeError(comms.ErrorResponse(error=comms.ErrorType.API_SERVER_ERROR, detail={}))
        return take(msg)

    monkeypatch.setattr(airflow, "send", refuse)
    failed = airflow.run(BurlaMapOperator(task_id="t", python_callable=add_one, inputs=[-1]))
    assert type(failed.error).__name__ == "RangesFailedError"
    done = airflow.run(BurlaMapOperator(task_id="u", python_callable=add_one, inputs=[1]))
    assert (done.state, done.value) == ("success", [2])
    assert "Airflow could not store the report of the Ranges tab" in done.log


# Under way


@needs_state_stores
def test_a_table_passes_through_the_states(airflow: Airflow, orders: Orders) -> None:
    airflow.run(operator(trial_ranges=2))
    assert states(airflow) == ["connecting", "planning", "trial", "running", "combining"]


@needs_state_stores
def test_a_trial_and_the_rest_are_jobs_of_their_own(airflow: Airflow, orders: Orders) -> None:
    report = report_of(airflow.run(operator(trial_ranges=2)))
    assert [(job["part"], job["items"]) for job in report["jobs"]] == [("trial", 2), ("rest", report["total"] - 2)]
    names = [phase["name"] for phase in report["phases"]]
    assert names == [
        *("starting", "connecting", "snapshot", "planning"),
        *("starting workers", "trial", "starting workers", "working", "combining"),
    ]
    [detail] = {value["status"]["detail"] for value in stored(airflow) if value["status"]["state"] == "trial"}
    assert detail == f"2 of {report['total']} ranges first"


@needs_state_stores
def test_a_plan_that_waits_for_a_lock_is_planning(airflow: Airflow, orders: Orders) -> None:
    seen: list[str] = []

    def hold() -> None:
        with orders.connection.transaction():
            orders.connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
            locked.set()
            wait_for(lambda: shown() == "planning", 60)
            time.sleep(1)
            seen.append(shown())

    def shown() -> str:
        return str(airflow.state_store.get("burla_report", {}).get("status", {}).get("state"))

    locked = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait()
    result = airflow.run(operator())
    thread.join()
    assert result.state == "success", result.log
    assert seen == ["planning"]


class BusyEngine(InProcessEngine):
    """A fake: a node is free only after a while. The local engine has no nodes.

    :ivar waited: seconds from the first to the last message that it waits.
    """

    waited = 0.0

    def run(self, job: Job, **options: Any) -> Iterator[JobEvent]:
        began = time.monotonic()
        for _ in range(12):
            self.waited = time.monotonic() - began
            yield JobWaiting("0 of 2 nodes are free", 600)
            yield Tick()
            time.sleep(0.25)
        yield from super().run(job, **options)


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> BusyEngine:
    engine = BusyEngine()
    monkeypatch.setattr(BurlaHook, "run", lambda _, job, **options: engine.run(job, **options))
    monkeypatch.setattr(BurlaHook, "open_client", lambda *_: engine.open_client())
    return engine


class SlowEngine(InProcessEngine):
    """A fake: workers start slowly. Those of the local engine do not."""

    def run(self, job: Job, **options: Any) -> Iterator[JobEvent]:
        time.sleep(2.1)
        yield Tick()
        yield from super().run(job, **options)


def test_the_log_says_that_workers_are_starting(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SlowEngine()
    monkeypatch.setattr(BurlaHook, "run", lambda _, job, **options: engine.run(job, **options))
    monkeypatch.setattr(BurlaHook, "open_client", lambda *_: engine.open_client())
    result = airflow.run(operator())
    assert "0 of 6 ranges, starting workers" in result.log


def test_waiting_for_a_node_is_not_shown_as_processing(airflow: Airflow, orders: Orders, busy: BusyEngine) -> None:
    started = time.monotonic()
    result = airflow.run(operator())
    seconds_in_all = time.monotonic() - started
    assert result.state == "success", result.log
    assert result.log.count("Waiting for a node") == 1
    assert "UTC at the latest: 0 of 2 nodes are free" in result.log
    assert "0 of 6 ranges" not in result.log
    seconds = {phase["name"]: phase["seconds"] for phase in report_of(result)["phases"]}
    assert seconds["waiting for a node"] > busy.waited - 0.01 > 2.5
    assert seconds["starting workers"] < seconds_in_all - busy.waited
    if HAS_STATE_STORES:
        assert states(airflow) == ["connecting", "planning", "running", "waiting", "running", "combining"]
        waiting = [value["status"] for value in stored(airflow) if value["status"]["state"] == "waiting"]
        assert waiting[0]["detail"] == "0 of 2 nodes are free"
        assert waiting[0]["until"] == pytest.approx(time.time() + 600, abs=60)


def test_a_long_wait_is_logged_again(
    airflow: Airflow, orders: Orders, monkeypatch: pytest.MonkeyPatch, busy: BusyEngine
) -> None:
    monkeypatch.setattr(monitor, "_WAITING_LOG_SECONDS", 1.0)
    count = airflow.run(operator()).log.count("Waiting for a node")
    assert 2 <= count <= 1 + busy.waited + 0.01  # at most once a second


def stored(airflow: Airflow) -> list[Any]:
    """All reports, in the order of publishing."""
    return [
        message.value
        for message in airflow.messages
        if getattr(message, "key", "") == "burla_report" and hasattr(message, "value")
    ]


# Time


def test_the_phases_add_up_to_the_time_that_airflow_shows(airflow: Airflow, orders: Orders) -> None:
    def slowly(rows: Any) -> dict[str, Any]:
        for _ in rows:
            pass
        time.sleep(0.4)
        return {}

    for _ in range(5):  # if the machine stalls behind the last phase, Airflow's time is longer
        # Airflow sets start_date just before it imports the DAG.
        result = airflow.run(operator(process_rows=slowly, max_parallelism=2), on_ready=lambda: time.sleep(0.5))
        *_, ended = [message for message in airflow.messages if type(message).__name__ == "SucceedTask"]
        report = report_of(result)
        duration = ended.end_date.timestamp() - report["began"]
        total = sum(phase["seconds"] for phase in report["phases"])
        if total == pytest.approx(duration, rel=0.1):
            break
    assert total == pytest.approx(duration, rel=0.1)
    assert report["phases"][0]["seconds"] >= 0.5
    for before, after in zip(report["phases"], report["phases"][1:], strict=False):
        assert after["began"] == pytest.approx(before["began"] + before["seconds"], abs=0.05)
    [took] = [line for line in result.log.splitlines() if "Took " in line]
    assert f"Took {total:.1f} s: starting " in took


@needs_state_stores
def test_publishing_the_status_costs_few_calls(airflow: Airflow, orders: Orders) -> None:
    started = time.monotonic()
    airflow.run(operator(process_rows=lambda rows: {"n": sum(1 for _ in rows)}))
    regular = (time.monotonic() - started) // REPORT_SECONDS
    assert len(stored(airflow)) <= 5 + regular  # connecting, planning, running, combining, and the XCom


# Places


def test_the_page_says_where_a_task_runs(airflow: Airflow, orders: Orders) -> None:
    airflow.variables["secret"] = SECRET
    info = orders.connection.info
    task = operator(
        where="status = %s AND note <> %s", parameters=["paid", "x"], start_id=10, max_parallelism=2, func_ram=1
    )
    places = dict(report_of(airflow.run(task))["places"])
    assert places["Engine"] == "local, on the Airflow machine"
    assert places["Resources"] == "max_parallelism=2, func_ram=1"
    assert places["Database"] == f"orders_db: {info.host}:{info.port}/{info.dbname}"
    assert places["Consistency"] == "one snapshot for all ranges"
    assert places["Rows"] == "status = 'paid' AND note <> 'x'"
    assert places["Window"] == "start_id=10"
    assert places["Workers"] == "up to 2 at the same time"
    assert places["Connections"].startswith("up to 2 used, ")
    assert "Columns" not in places


def test_another_target_database_is_named(airflow: Airflow, orders: Orders, postgres_server: Any) -> None:
    import psycopg

    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as other:
        other.execute("CREATE TABLE labels (id bigint PRIMARY KEY, note text)")
        add_database(airflow, "labels_db", other.info)
        task = BurlaPostgresTransformOperator(
            task_id="t",
            table="orders",
            postgres_conn_id="orders_db",
            columns=["id", "note"],
            map_row=lambda row: row,
            target_table="labels",
            target_conn_id="labels_db",
            write_mode="upsert",
        )
        places = dict(report_of(airflow.run(task))["places"])
        assert places["Target"] == "public.labels (upsert)"
        assert places["Target database"] == f"labels_db: {other.info.host}:{other.info.port}/{other.info.dbname}"
        assert places["Columns"] == "id, note"


def test_a_server_that_cannot_be_reached_has_a_remedy(airflow: Airflow, orders: Orders) -> None:
    airflow.connections["orders_db"].port = 9
    task = BurlaPostgresOperator(task_id="t", table="orders", postgres_conn_id="orders_db", totals={"n": "count(*)"})
    detail = report_of(airflow.run(task))["status"]["detail"]
    assert "Connection refused" in detail
    remedy = "Check host and port of the connection 'orders_db', the server's listen_addresses, and the firewall."
    assert detail.endswith(f" {remedy}")


def test_a_server_that_has_no_connection_left_is_not_said_to_be_unreachable(airflow: Airflow, orders: Orders) -> None:
    name = airflow.connections["orders_db"].schema
    orders.connection.execute(f"CREATE ROLE \"{name}_full\" LOGIN PASSWORD 'reads' CONNECTION LIMIT 0")
    airflow.connections["orders_db"].login, airflow.connections["orders_db"].password = f"{name}_full", "reads"
    task = BurlaPostgresOperator(task_id="t", table="orders", postgres_conn_id="orders_db", totals={"n": "count(*)"})
    try:
        detail = report_of(airflow.run(task))["status"]["detail"]
    finally:
        orders.connection.execute(f'DROP ROLE "{name}_full"')
    assert detail.endswith(f'too many connections for role "{name}_full"')
