"""A class, or a function of ``init``, loads once per worker process: on the local engine, with Airflow's runner."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk import dag, task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.task_runner import START, Airflow


class Model:
    """Leaves a line in a file for every event, with its process."""

    kinds = ("loaded", "called", "closed")

    def __init__(self, folder: str, factor: int = 2, seconds: float = 0.0) -> None:
        self.path = Path(folder)
        self.factor = factor
        self.note("loaded")
        time.sleep(seconds)

    def note(self, event: str) -> None:
        with (self.path / event).open("a") as file:
            file.write(f"{os.getpid()}\n")

    def close(self) -> None:
        self.note("closed")


class Total(Model):
    def __call__(self, rows: Iterator[Any]) -> dict[str, Any]:
        self.note("called")
        return {"total": sum(amount * self.factor for _, amount in rows)}


class TotalOfRange(Model):
    def __init__(self, folder: str, factor: int = 2) -> None:
        super().__init__(folder, factor)
        self.loaded_by_super = True

    def __call__(self, connection: Any, key_range: Any) -> dict[str, Any]:
        self.note("called")
        query = "SELECT coalesce(sum(amount), 0) FROM orders WHERE id BETWEEN %s AND %s"
        [(total,)] = connection.execute(query, (key_range.start_id, key_range.end_id)).fetchall()
        return {"total": total * self.factor, "super": int(self.loaded_by_super and len(self.kinds) == 3)}


class Double(Model):
    def __call__(self, row: Any) -> Any:
        return row[0], row[1], row[2] * self.factor


class DoubleAll(Model):
    def __call__(self, rows: list[Any], key_range: Any) -> list[Any]:
        self.note("called")
        return [(row[0], key_range.idempotency_key, row[2] * self.factor) for row in rows]


def noted(folder: Path) -> dict[str, Counter[str]]:
    """Return event -> how often it happened in each process."""
    return {path.name: Counter(path.read_text().split()) for path in folder.iterdir()}


def totals(**options: Any) -> BurlaPostgresOperator:
    usual = {"table": "orders", "postgres_conn_id": "orders_db", "ranges": 8, "max_parallelism": 2}
    if "process_range" not in options:
        usual["columns"] = ["id", "amount"]
    return BurlaPostgresOperator(task_id="t", **usual | options)


def doubled(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {"table": "orders", "postgres_conn_id": "orders_db", "columns": ["id", "status", "amount"], "ranges": 8}
    target = {"target_table": "labels", "write_mode": "upsert", "max_parallelism": 2}
    return BurlaPostgresTransformOperator(task_id="t", **usual | target | options)


@pytest.fixture
def labels(orders: Orders) -> psycopg.Connection[Any]:
    orders.connection.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text, doubled numeric NOT NULL)")
    return orders.connection


def assert_once_per_process(folder: Path, processes: int = 2) -> None:
    events = noted(folder)
    assert events["loaded"] == events["closed"]
    assert set(events["loaded"].values()) == {1}
    assert 1 <= len(events["loaded"]) <= processes
    assert str(os.getpid()) not in events["loaded"]
    assert events.get("called", events["loaded"]).keys() == events["loaded"].keys()


@pytest.mark.parametrize("work", [{"process_rows": Total}, {"process_range": TotalOfRange}], ids=["rows", "range"])
def test_a_class_is_instantiated_once_per_worker_process_and_closed(
    airflow: Airflow, orders: Orders, tmp_path: Path, work: Any
) -> None:
    result = airflow.run(totals(**work, op_kwargs={"folder": str(tmp_path), "factor": 3}))
    assert result.state == "success", result.log
    assert result.value["total"] == str(orders.ask("sum(amount) * 3"))
    assert noted(tmp_path)["called"].total() == 8
    assert_once_per_process(tmp_path)


@pytest.mark.parametrize("work", [{"map_row": Double}, {"map_batch": DoubleAll}], ids=["row", "batch"])
def test_a_class_returns_the_rows_to_write(airflow: Airflow, labels: Any, tmp_path: Path, work: Any) -> None:
    result = airflow.run(doubled(**work, op_kwargs={"folder": str(tmp_path)}))
    assert result.state == "success", result.log
    assert_once_per_process(tmp_path)
    [(rows, total, keys)] = labels.execute(
        "SELECT count(*), sum(doubled), count(DISTINCT label) FROM labels"
    ).fetchall()
    assert (rows, total) == labels.execute("SELECT count(*), sum(amount) * 2 FROM orders").fetchone()
    assert keys == (3 if "map_row" in work else 8)


def test_a_class_updates_rows_in_place(airflow: Airflow, orders: Orders, tmp_path: Path) -> None:
    class Upper(Model):
        def __call__(self, row: Any) -> Any:
            return (row[1].upper() * self.factor,)

    in_place = {"target_table": None, "write_mode": "update", "update_columns": ["status"], "ledger": "public.runs"}
    result = airflow.run(doubled(map_row=Upper, op_kwargs={"folder": str(tmp_path)}, **in_place))
    assert result.state == "success", result.log
    assert orders.ask("array_agg(DISTINCT status ORDER BY status)") == ["OPENOPEN", "PAIDPAID", "REFUNDEDREFUNDED"]
    assert_once_per_process(tmp_path)


def test_a_class_is_called_on_inputs(airflow: Airflow, tmp_path: Path) -> None:
    class Times(Model):
        def __call__(self, number: int) -> int:
            self.note("called")
            return number * self.factor

    arguments = {"folder": str(tmp_path), "factor": 5}
    task = BurlaMapOperator(task_id="t", python_callable=Times, inputs=range(9), op_kwargs=arguments, max_parallelism=2)
    result = airflow.run(task)
    assert result.value == [5 * number for number in range(9)], result.log
    assert_once_per_process(tmp_path)


def test_a_process_that_replaces_a_killed_worker_instantiates_it_again(
    airflow: Airflow, orders: Orders, tmp_path: Path
) -> None:
    class Killed(Total):
        def __call__(self, rows: Iterator[Any]) -> dict[str, Any]:
            if noted(self.path).get("called", Counter()).total() == 3 and not (self.path / "killed").exists():
                self.note("killed")
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(rows)

    result = airflow.run(totals(process_rows=Killed, op_kwargs={"folder": str(tmp_path)}, max_parallelism=1))
    assert result.state == "success", result.log
    assert result.value["total"] == str(orders.ask("sum(amount) * 2"))
    events = noted(tmp_path)
    assert list(events["loaded"].values()) == [1, 1]
    assert events["loaded"] - events["closed"] == events["killed"]


@pytest.mark.parametrize("kind", ["rows", "batch"])
def test_a_slow_constructor_holds_no_transaction_and_no_range_timeout(
    airflow: Airflow, labels: Any, tmp_path: Path, kind: str
) -> None:
    class Slow(Model):
        def __init__(self, folder: str, conninfo: str) -> None:
            super().__init__(folder)
            self.conninfo = conninfo
            for _ in range(50):
                time.sleep(0.1)
                self.look("open while loading")

        def look(self, event: str) -> None:
            query = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '#' AND xact_start < now()"
            with psycopg.connect(self.conninfo, autocommit=True) as connection:
                [(open_transactions,)] = connection.execute(query).fetchall()
            if open_transactions:
                self.note(event)

    class SlowTotal(Slow):
        def __call__(self, rows: Iterator[Any]) -> dict[str, Any]:
            next(rows)
            self.look("open while reading")
            return {}

    class SlowBatch(Slow):
        def __call__(self, rows: list[Any]) -> list[Any]:
            self.look("open while reading")
            return rows

    conninfo = psycopg.conninfo.make_conninfo(labels.info.dsn, password=labels.info.password)
    options = {"op_kwargs": {"folder": str(tmp_path), "conninfo": conninfo}, "range_timeout": 4.5, "max_parallelism": 1}
    operator = totals(process_rows=SlowTotal, **options) if kind == "rows" else doubled(map_batch=SlowBatch, **options)
    started = time.monotonic()
    result = airflow.run(operator)
    assert result.state == "success", result.log
    assert time.monotonic() - started > 5
    assert noted(tmp_path).keys() == {"loaded", "closed", "open while reading"}


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burla_provider.worker.user_function.RETRY_SECONDS", (0.1, 0.1))


class Broken(Total):
    failures = 100

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        if noted(self.path)["loaded"].total() <= self.failures:
            raise OSError(f"no model in {folder}")


@pytest.mark.usefixtures("fast_retries")
@pytest.mark.parametrize("tolerated", [0, "100%"])
def test_a_constructor_that_always_fails_fails_the_job_once(
    airflow: Airflow, orders: Orders, tmp_path: Path, tolerated: Any
) -> None:
    options = {"op_kwargs": {"folder": str(tmp_path)}, "tolerated_failures": tolerated, "ranges": 30}
    result = airflow.run(totals(process_rows=Broken, **options), max_tries=1)
    assert result.state == "up_for_retry"
    error = str(result.error)
    assert error.startswith(f"A worker could not load what the function needs. OSError: no model in {tmp_path}\nTrace")
    assert "in __init__" in error
    assert "called" not in noted(tmp_path)
    assert max(noted(tmp_path)["loaded"].values()) == 3
    assert not re.search(r"range \d+ \([^\n]*\)[^\n]*: OSError", result.log)  # no range has failed


@pytest.mark.usefixtures("fast_retries")
def test_a_constructor_with_an_error_in_its_code_is_not_tried_again_by_airflow(
    airflow: Airflow, orders: Orders
) -> None:
    class Wrong:
        def __init__(self) -> None:
            self.model = len(3)  # type: ignore[arg-type]

        def __call__(self, rows: Any) -> dict[str, Any]:
            return {}

    result = airflow.run(totals(process_rows=Wrong), max_tries=3)
    assert result.state == "failed"
    assert "TypeError: object of type 'int' has no len()" in str(result.error)


@pytest.mark.usefixtures("fast_retries")
def test_a_constructor_that_fails_once_is_called_again(airflow: Airflow, orders: Orders, tmp_path: Path) -> None:
    class Flaky(Broken):
        failures = 1

    task = totals(process_rows=Flaky, op_kwargs={"folder": str(tmp_path)}, max_parallelism=1)
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert list(noted(tmp_path)["loaded"].values()) == [2]
    assert "trying again in 0.1 s: OSError: no model" in result.log


def load_factor(folder: str) -> int:
    Model(folder)
    return 7


def test_a_function_of_init_makes_an_argument_once_per_process(
    airflow: Airflow, orders: Orders, tmp_path: Path
) -> None:
    def total(rows: Iterator[Any], factor: int, rounds: int) -> dict[str, Any]:
        return {"total": sum(amount * factor * rounds for _, amount in rows)}

    arguments = {"folder": str(tmp_path), "rounds": 2}
    result = airflow.run(totals(process_rows=total, init={"factor": load_factor}, op_kwargs=arguments))
    assert result.value["total"] == str(orders.ask("sum(amount) * 14")), result.log
    assert set(noted(tmp_path)["loaded"].values()) == {1}


def test_a_decorated_function_gets_what_init_makes(airflow: Airflow, tmp_path: Path) -> None:
    folder = str(tmp_path)

    def load() -> int:
        return load_factor(folder)

    @dag(schedule=None, start_date=START)
    def products():
        @task.burla(init={"factor": load}, max_parallelism=1)
        def multiply(number: int, factor: int, more: int = 0) -> int:
            return number * factor + more

        multiply([1, 2, 3], more=1)

    result = airflow.run(products().get_task("multiply"))
    assert result.value == [8, 15, 22], result.log
    assert list(noted(tmp_path)["loaded"].values()) == [1]


def test_the_decorator_is_for_functions() -> None:
    with pytest.raises(InvalidParameterError, match=r"python_callable: Total is a class\. Use BurlaMapOperator"):
        task.burla(Total)([1])


def test_the_decorator_refuses_an_argument_that_init_makes() -> None:
    with pytest.raises(InvalidParameterError, match="init: 'factor' is given in the call too"):
        task.burla(init={"factor": load_factor})(lambda number, factor: 1)([1], factor=2)
    with pytest.raises(InvalidParameterError, match="init: must be a dict, got <function load_factor"):
        task.burla(init=load_factor)(lambda number, factor: 1)([1])


def test_init_is_refused_where_it_cannot_be_used() -> None:
    with pytest.raises(InvalidParameterError, match="init: process_rows is a class, which has __init__"):
        totals(process_rows=Total, op_kwargs={"folder": ""}, init={"x": load_factor})
    with pytest.raises(InvalidParameterError, match=r"op_kwargs: load_factor\(folder\) requires 'folder'"):
        totals(process_rows=lambda rows, x: {}, init={"x": load_factor})
    with pytest.raises(InvalidParameterError, match="init: 'folder' is an argument that the function gets otherwise"):
        totals(process_rows=lambda rows, folder: {}, init={"folder": load_factor}, op_kwargs={"folder": ""})
    with pytest.raises(InvalidParameterError, match="init: must be a dict"):
        totals(process_rows=lambda rows, folder: {}, init=load_factor)


def test_a_function_with_much_data_is_refused_before_a_worker_starts(airflow: Airflow, orders: Orders) -> None:
    data = os.urandom(110_000_000)
    result = airflow.run(totals(process_rows=lambda rows: {"n": len(data)}))
    assert result.state == "failed"
    assert str(result.error) == (
        "process_rows: is 110 MB with everything that it refers to, and Burla accepts 100 MB. Load large data on the"
        " worker: in __init__ of a class, or with init."
    )
    assert "Job " not in result.log


def test_templates_of_arguments_are_rendered(airflow: Airflow, orders: Orders) -> None:
    task = totals(process_rows=lambda rows, day: {"day": int(day)}, op_kwargs={"day": "{{ ds_nodash }}"}, ranges=1)
    result = airflow.run(task)
    assert result.value["day"] == 20261120, result.log
    assert result.rendered["op_kwargs"] == {"day": "20261120"}


@needs_state_stores
def test_a_retry_with_other_arguments_processes_every_range_again(
    airflow: Airflow, orders: Orders, tmp_path: Path
) -> None:
    def count(rows: Iterator[Any], weight: int, folder: str) -> dict[str, Any]:
        weighted = sum(weight for _ in rows)
        if weight == 1 and Path(folder, "counted").exists():
            raise RuntimeError("not yet")
        Path(folder, "counted").touch()
        return {"weighted": weighted}

    def run(weight: int, **options: Any) -> Any:
        arguments = {"weight": weight, "folder": str(tmp_path)}
        return airflow.run(totals(process_rows=count, op_kwargs=arguments, resume=True), max_tries=1, **options)

    assert run(1).state == "up_for_retry"
    assert run(2, try_number=2).value == {"row_count": 20_000, "weighted": 40_000}


def test_the_code_of_a_class_and_of_init_is_shown() -> None:
    assert "class Total(Model):" in str(totals(process_rows=Total, op_kwargs={"folder": ""}).code)
    code = str(
        totals(process_rows=lambda rows, factor: {}, init={"factor": load_factor}, op_kwargs={"folder": ""}).code
    )
    assert "lambda rows, factor" in code
    assert "def load_factor" in code


def test_a_constructor_that_kills_its_process_fails_the_job_once(
    airflow: Airflow, orders: Orders, tmp_path: Path
) -> None:
    class Deadly(Total):
        def __init__(self, folder: str) -> None:
            super().__init__(folder)
            os.kill(os.getpid(), signal.SIGKILL)

    options = {"op_kwargs": {"folder": str(tmp_path)}, "tolerated_failures": "100%", "ranges": 300}
    result = airflow.run(totals(process_rows=Deadly, **options), max_tries=1)
    assert result.state == "up_for_retry"
    assert str(result.error).startswith(
        "A worker could not load what the function needs. 3 worker processes died one after another (signal 9:"
    )
    assert noted(tmp_path)["loaded"].total() <= 4
