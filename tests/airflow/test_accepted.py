"""A retry finds all that was done until Airflow has stored the result. A result that it never stores is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
from airflow.sdk import Asset, dag, task
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.postgres import report_writes
from tests.support.task_runner import START, Airflow


class Scored(TypedDict):
    score: int


class Calls:
    """A function that leaves a file for each of its calls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def function(self, result: Any) -> Any:
        place = str(self.folder)

        def call(_: Any) -> Any:
            import pathlib
            import uuid

            pathlib.Path(place, uuid.uuid4().hex).touch()
            return result

        return call

    @property
    def count(self) -> int:
        return len(list(self.folder.iterdir()))


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    return Calls(tmp_path)


def refuse_result_once(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake: the API server answers so when it is overloaded, and this one cannot be."""
    take, refused = airflow._on_SetXCom, []

    def refuse(msg: Any) -> None:
        if msg.key == "return_value" and not refused:
            refused.append(msg)
            raise AirflowRuntimeError(comms.ErrorResponse(error=ErrorType.API_SERVER_ERROR))
        take(msg)

    monkeypatch.setattr(airflow, "_on_SetXCom", refuse)


def map_task(function: Any, **options: Any) -> BurlaMapOperator:
    return BurlaMapOperator(task_id="t", python_callable=function, inputs=[1, 2, 3], **options)


def table_task(function: Any, **options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(
        task_id="t",
        table="orders",
        postgres_conn_id="orders_db",
        **{"ranges": 3, "key": "id", "process_rows": function, **options},
    )


@pytest.mark.parametrize("annotation", [dict, dict[str, int], Mapping[str, int], Scored])
def test_a_decorated_function_may_say_that_it_returns_a_dict(airflow: Airflow, annotation: Any) -> None:
    def score(number: int) -> Any:
        return {"score": number}

    score.__annotations__["return"] = annotation

    @dag(schedule=None, start_date=START)
    def scores() -> None:
        task.burla(score)([1, 2])

    result = airflow.run(scores().get_task("score"))
    assert result.value == [{"score": 1}, {"score": 2}], result.log


def test_multiple_outputs_of_a_list_are_refused_at_parse() -> None:
    def square(number: int) -> int:
        return number * number

    for make in (lambda: map_task(square, multiple_outputs=True), lambda: task.burla(square, multiple_outputs=True)):
        with pytest.raises(InvalidParameterError, match=r"^multiple_outputs: the result is a list, got True"):
            make()


@pytest.mark.parametrize("parameter", ["op_args", "op_kwargs"])
@pytest.mark.parametrize("decorator", ["burla", "burla_postgres", "burla_transform"])
def test_the_arguments_of_a_call_are_not_parameters_of_a_decorator(decorator: str, parameter: str) -> None:
    message = f"^{parameter}: are the arguments of the call. Call the decorated function with them.$"
    with pytest.raises(InvalidParameterError, match=message):
        getattr(task, decorator)(**{parameter: ()})


@needs_state_stores
@pytest.mark.parametrize("make", [map_task, table_task])
def test_a_retry_calls_nothing_again_after_a_result_that_airflow_did_not_store(
    airflow: Airflow, orders: Orders, calls: Calls, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    report_writes(orders.connection)
    refuse_result_once(airflow, monkeypatch)
    operator = make(calls.function({"n": 1}))
    assert airflow.run(operator, max_tries=1).state == "up_for_retry"
    assert calls.count == 3
    second = airflow.run(operator, try_number=2, max_tries=1)
    assert second.state == "success", second.log
    assert second.value in ([{"n": 1}] * 3, {"n": 3, "row_count": 0})
    assert second.xcoms["burla_report"]["jobs"][0]["id"]
    assert calls.count == 3
    assert airflow.state_store == {}


RESERVED = [{"__classname__": "a"}, {"a": [{"__id__": 1}]}, {"__type": "dict", "__var": {}}]


@pytest.mark.parametrize("reserved", RESERVED)
def test_an_input_whose_result_airflow_could_not_store_fails_alone(airflow: Airflow, reserved: Any) -> None:
    inputs = [{"__type": "a"}, reserved]
    operator = BurlaMapOperator(task_id="t", python_callable=lambda one: one, inputs=inputs, tolerated_failures=1)
    result = airflow.run(operator)
    assert result.value == [{"__type": "a"}, None], result.log
    assert "which Airflow reserves (use another name)" in result.log


def test_an_input_whose_result_is_not_stored_may_have_such_keys(airflow: Airflow) -> None:
    assert airflow.run(map_task(lambda _: {"__classname__": 1}, collect=False)).state == "success"


@pytest.mark.parametrize(
    "options",
    [
        {"process_rows": None, "totals": {"__classname__": "count(*)"}},
        {"process_rows": lambda rows: {"__id__": 1}},
        {"combine": lambda values: {"a": {"__classname__": len(values)}}},
    ],
)
def test_a_total_that_airflow_could_not_store_is_an_error_without_retry(
    airflow: Airflow, orders: Orders, options: Any
) -> None:
    result = airflow.run(table_task(lambda rows: {"n": 1}, **options), max_tries=3)
    assert result.state == "failed", result.log
    assert "which Airflow reserves" in str(result.error)


def test_a_list_of_results_that_is_too_large_is_refused_as_soon_as_it_is(airflow: Airflow, calls: Calls) -> None:
    operator = BurlaMapOperator(
        task_id="t",
        python_callable=calls.function("x" * 300),
        inputs=list(range(2_000)),
        max_parallelism=2,
        max_result_bytes=1_000,
    )
    result = airflow.run(operator, max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith("max_result_bytes: the result has more than 1,000 bytes as JSON.")
    assert "collect=False" in str(result.error)
    assert calls.count < 2_000


def test_results_that_are_too_many_are_refused_before_the_function_is_called(airflow: Airflow, calls: Calls) -> None:
    operator = BurlaMapOperator(
        task_id="t", python_callable=calls.function(1), inputs=list(range(400)), max_result_bytes=1_000
    )
    result = airflow.run(operator, max_tries=3)
    assert result.state == "failed"
    assert "max_result_bytes: the result has more than 1,000 bytes as JSON." in str(result.error)
    assert calls.count == 0


def test_a_result_that_is_refused_after_all_writes_keeps_the_retries(airflow: Airflow, orders: Orders) -> None:
    def write(connection: Any, key_range: Any) -> dict[str, Any]:
        update = sql.SQL("UPDATE orders SET status = status || '+' WHERE {}").format(key_range.where)
        return {"row_count": connection.execute(update).rowcount, "n" * 3_000: 1}

    def update_orders(limit: int) -> BurlaPostgresOperator:
        options = {"ledger": "public.burla_ledger", "max_result_bytes": limit}
        return BurlaPostgresOperator(
            task_id="t", table="orders", postgres_conn_id="orders_db", process_range=write, ranges=4, **options
        )

    first = airflow.run(update_orders(2_000), max_tries=1)
    assert first.state == "up_for_retry"
    assert "Clearing the task writes everything again" in str(first.error)
    retry = airflow.run(update_orders(5_000), try_number=2, max_tries=1)
    assert retry.value["row_count"] == 20000, retry.log
    assert orders.ask("count(*)", "status LIKE '%++'") == 0


@pytest.mark.parametrize("options", [{}, {"combine": lambda values: {"n": [value["n"] for value in values]}}])
def test_a_result_that_is_too_large_is_refused_before_it_is_published(
    airflow: Airflow, orders: Orders, options: Any
) -> None:
    outlet = Asset("made_of_it")
    name = "x" * 30_000
    function = (lambda rows: {"n": name}) if options else (lambda rows: {name: 1})
    operator = table_task(function, outlets=[outlet], max_result_bytes=20_000, **options)
    result = airflow.run(operator, max_tries=3)
    assert result.state == "failed"
    assert "max_result_bytes: the result has more than 20,000 bytes as JSON" in str(result.error)
    assert "results_table" in str(result.error)
    assert name not in result.log
    assert "return_value" not in result.xcoms
    accepted = airflow.run(table_task(function, outlets=[outlet], max_result_bytes=None, **options), run_id="another")
    assert accepted.state == "success"
    assert name not in accepted.log
    assert " more characters" in accepted.log


def test_the_limit_applies_to_what_is_pushed(airflow: Airflow) -> None:
    limit = len(json.dumps([{"n": 1}] * 3))
    assert airflow.run(map_task(lambda _: {"n": 1}, max_result_bytes=limit)).state == "success"
    assert airflow.run(map_task(lambda _: {"n": 1}, max_result_bytes=limit - 1), run_id="b").state == "failed"
    unpushed = map_task(lambda _: {"n": 1}, max_result_bytes=limit - 1, do_xcom_push=False)
    assert airflow.run(unpushed, run_id="c").state == "success"
