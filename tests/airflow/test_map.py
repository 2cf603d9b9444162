"""BurlaMapOperator and @task.burla through Airflow's real task runner, on the local engine."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk import dag, task

from burla_provider.exceptions import InvalidParameter
from burla_provider.operators.map import BurlaMapOperator
from tests.support.task_runner import START, Airflow


def square(number: int) -> int:
    return number * number


class Unusual(Exception):
    """A class that no worker can import."""


def fails_on_three(number: int) -> int:
    if number == 3:
        raise Unusual("three is bad")
    return number


def test_results_come_in_the_order_of_the_inputs(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=square, inputs=list(range(50))))
    assert result.state == "success"
    assert result.value == [number * number for number in range(50)]


def test_tuples_reach_the_function_as_tuples(airflow: Airflow) -> None:
    operator = BurlaMapOperator(task_id="t", python_callable=lambda pair: pair[0] + pair[1], inputs=[(1, 2), (3, 4)])
    assert airflow.run(operator).value == [3, 7]


def test_inputs_may_be_objects_of_the_dags_own_classes(airflow: Airflow) -> None:
    operator = BurlaMapOperator(task_id="t", python_callable=lambda error: str(error), inputs=[Unusual("a")])
    assert airflow.run(operator).value == ["a"]


def test_inputs_may_come_from_a_callable(airflow: Airflow) -> None:
    operator = BurlaMapOperator(task_id="t", python_callable=square, inputs=lambda: range(3))
    assert airflow.run(operator).value == [0, 1, 4]


def test_no_inputs_give_no_results(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=square, inputs=[]))
    assert (result.state, result.value) == ("success", [])


def test_without_collect_nothing_is_pushed(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=square, inputs=[1], collect=False))
    assert result.state == "success"
    assert "return_value" not in result.xcoms


def test_a_failed_input_fails_the_task_after_the_others_are_done(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fails_on_three, inputs=list(range(6))))
    assert result.state == "failed"
    assert "1 of 6 failed" in str(result.error)
    assert "input 3: " in str(result.error)
    assert "Unusual: three is bad" in str(result.error)


def test_tolerated_failures_leave_none_in_the_results(airflow: Airflow) -> None:
    operator = BurlaMapOperator(
        task_id="t", python_callable=fails_on_three, inputs=list(range(6)), tolerated_failures="20%"
    )
    assert airflow.run(operator).value == [0, 1, 2, None, 4, 5]


def test_a_failed_trial_starts_nothing_else(airflow: Airflow, tmp_path: Any) -> None:
    folder = str(tmp_path)

    def mark_and_fail(number: int) -> None:
        import pathlib

        pathlib.Path(folder, str(number)).touch()
        raise ValueError("no")

    operator = BurlaMapOperator(task_id="t", python_callable=mark_and_fail, inputs=list(range(9)), trial_inputs=3)
    result = airflow.run(operator)
    assert "The trial failed" in str(result.error)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "4", "8"]


def test_a_result_that_is_no_plain_data_is_named_with_its_type(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda _: {"x": object()}, inputs=[1]))
    assert "return value['x'] is of type builtins.object" in str(result.error)


def test_what_cannot_be_pickled_is_an_error_before_any_worker_starts(airflow: Airflow) -> None:
    import threading

    lock = threading.Lock()
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda _: lock, inputs=[1]), max_tries=3)
    assert result.state == "failed"
    assert "python_callable" in str(result.error)


def test_a_text_is_no_list_of_inputs(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=square, inputs="{{ ds }}"))
    assert "inputs: str is no list" in str(result.error)


def test_something_that_is_no_function_is_refused_at_parse() -> None:
    with pytest.raises(InvalidParameter, match="python_callable"):
        BurlaMapOperator(task_id="t", python_callable=3, inputs=[])


def test_the_decorator_calls_the_function_on_every_item_of_its_first_argument(airflow: Airflow) -> None:
    @dag(schedule=None, start_date=START)
    def prices():
        @task.burla(burla_conn_id="burla_default")
        def with_tax(price: Decimal, rate: Decimal) -> Decimal:
            return price * (1 + rate)

        with_tax([Decimal("1.00"), Decimal("2.50")], rate=Decimal("0.19"))

    result = airflow.run(prices().get_task("with_tax"))
    assert result.state == "success"
    assert result.log.count("input") >= 0
    assert [Decimal(str(value)) for value in result.value] == [Decimal("1.19"), Decimal("2.975")]


def test_dates_and_exact_numbers_survive_the_way_back(airflow: Airflow) -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda day: day, inputs=[moment]))
    assert result.state == "success"
