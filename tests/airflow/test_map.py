"""BurlaMapOperator and @task.burla through Airflow's real task runner, on the local engine."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import functools
import importlib
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from airflow.sdk import DAG, dag, task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from tests.airflow.conftest import needs_state_stores
from tests.support.task_runner import HAS_STATE_STORES, START, Airflow, TaskResult


def square(number: int) -> int:
    return number * number


class Unusual(Exception):
    """A class that no worker can import."""


def same(text: str) -> str:
    return text


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


def test_a_failed_input_fails_the_task_after_the_others_have_finished(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fails_on_three, inputs=list(range(6))))
    assert result.state == "failed"
    assert "1 of 6 inputs failed" in str(result.error)
    assert "  in input 3 (3)" in str(result.error)
    assert "Unusual: three is bad" in str(result.error)


@pytest.mark.parametrize("name", ["a\0b", "\udcff.csv"])
def test_text_that_a_database_refuses_is_replaced_and_pushed(airflow: Airflow, name: str) -> None:
    def read(number: int) -> str:
        if number == 2:
            raise LookupError(f"no file {name}")
        return f"{number} {name}"

    task = BurlaMapOperator(task_id="t", python_callable=read, inputs=[1, 2], tolerated_failures=1)
    result = airflow.run(task)
    shown = {"a\0b": "a\ufffdb", "\udcff.csv": "\\udcff.csv"}[name]
    assert result.value == [f"1 {shown}", None], result.log
    assert result.xcoms["burla_report"]["failures"]["groups"][0]["message"] == f"no file {shown}"


def test_tolerated_failures_leave_none_in_the_results(airflow: Airflow) -> None:
    operator = BurlaMapOperator(
        task_id="t", python_callable=fails_on_three, inputs=list(range(6)), tolerated_failures="20%"
    )
    assert airflow.run(operator).value == [0, 1, 2, None, 4, 5]


def test_a_result_that_is_no_plain_data_is_named_with_its_type(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda _: {"x": object()}, inputs=[1]))
    assert "return value['x'] is of type builtins.object" in str(result.error)


def test_a_result_whose_keys_are_the_same_text_is_refused_and_loses_no_value(airflow: Airflow) -> None:
    # From a function, because Airflow 3.1 cannot render inputs with such keys.
    inputs = lambda: [{1: "a", "1": "b"}, {1: "a", 2: "b"}]  # noqa: E731
    task = BurlaMapOperator(task_id="t", python_callable=lambda one: one, inputs=inputs, tolerated_failures=1)
    result = airflow.run(task)
    assert result.value == [None, {"1": "a", "2": "b"}]
    assert "input 0 ({1: 'a', '1': 'b'})" in result.log
    assert "the return value has the keys 1 and '1', which are the same in JSON (use another name)" in result.log


def test_a_result_that_is_not_collected_can_have_any_keys(airflow: Airflow) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=lambda _: {1: "a", "1": "b"}, inputs=[1], collect=False)
    assert airflow.run(task).state == "success"


def test_what_cannot_be_pickled_is_an_error_before_any_worker_starts(airflow: Airflow) -> None:
    import threading

    lock = threading.Lock()
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda _: lock, inputs=[1]), max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith("python_callable: cannot be sent to workers")


def test_arguments_that_cannot_be_pickled_are_named_as_such(airflow: Airflow) -> None:
    import threading

    def locked(number: int, lock: Any) -> int:
        return number

    task = BurlaMapOperator(task_id="t", python_callable=locked, inputs=[1], op_kwargs={"lock": threading.Lock()})
    assert str(airflow.run(task).error).startswith("op_kwargs: cannot be sent to workers")


def test_a_string_is_not_a_list_of_inputs(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=square, inputs="{{ ds }}"))
    assert "inputs: must be a list, got str" in str(result.error)


def test_a_value_that_is_not_callable_is_refused_at_parse() -> None:
    with pytest.raises(InvalidParameterError, match="python_callable"):
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
    assert [Decimal(str(value)) for value in result.value] == [Decimal("1.19"), Decimal("2.975")]


def test_the_decorator_passes_the_other_arguments_by_name(airflow: Airflow) -> None:
    @dag(schedule=None, start_date=START)
    def described():
        @task.burla
        def describe(item, /, first=1, *, second=2, **rest):
            return [item, first, second, rest]

        describe([10, 20], 3, third=4, rest=5)

    result = airflow.run(described().get_task("describe"))
    assert result.value == [[item, 3, 2, {"third": 4, "rest": 5}] for item in (10, 20)], result.log


def test_the_items_may_be_the_default_of_the_first_argument(airflow: Airflow) -> None:
    @dag(schedule=None, start_date=START)
    def doubled():
        @task.burla
        def double(item=(1, 2), factor=2):
            return item * factor

        double(factor=5)

    assert airflow.run(doubled().get_task("double")).value == [5, 10]


def decorated(function: Any, *args: Any, **kwargs: Any) -> Any:
    @dag(schedule=None, start_date=START)
    def one_task() -> None:
        task.burla(task_id="t")(function)(*args, **kwargs)

    return one_task().get_task("t")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("abc", "inputs: must be a list, got str."),
        ({1, 2}, "inputs: must be a list, got set. A set has no order"),
        (None, "inputs: must be a list, got NoneType."),
        (lambda day: [day], "inputs: <lambda>(day) cannot be called with no arguments."),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_the_decorator_refuses_at_parse_what_is_no_list(inputs: Any, message: str, by_name: bool) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        decorated(square, number=inputs) if by_name else decorated(square, inputs)
    assert str(raised.value).startswith(message)


def test_an_argument_with_a_name_of_the_context_is_required_at_parse() -> None:
    def of_run(number: int, run_id: str) -> str:
        return f"{run_id} {number}"

    with pytest.raises(
        InvalidParameterError, match=r"^python_callable: of_run .* missing a required argument: 'run_id'"
    ):
        decorated(of_run, [1])
    assert decorated(of_run, [1], run_id="{{ run_id }}").task_id == "t"


@needs_state_stores
def test_a_function_may_call_itself_and_other_functions_that_are_tasks(airflow: Airflow, tmp_path: Path) -> None:
    @task
    def double(number: int) -> int:
        return 2 * number

    @task.burla_postgres(table="orders")
    def add_up(rows: Any) -> Any:
        return sum(rows)

    @task.burla(task_id="t")
    def factorial(number: int) -> int:
        if number == 5 and not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise LookupError("not yet")
        return 1 if number < 2 else double(number) * factorial(number - 1) // add_up([1, 1])

    @dag(schedule=None, start_date=START)
    def numbers() -> None:
        factorial([1, 5, 4])

    made = numbers().get_task("t")
    assert airflow.run(made, max_tries=1).state == "up_for_retry"
    second = airflow.run(made, try_number=2, max_tries=1)
    assert second.value == [1, 120, 24], second.log
    assert "An earlier try has finished 2 items" in second.log


def test_the_error_of_a_function_that_uses_airflow_says_that_workers_have_none(airflow: Airflow) -> None:
    def read_variable(_: int) -> Any:
        from airflow.sdk import Variable

        return Variable.get("rate")

    def read_context(_: int) -> Any:
        from airflow.sdk import get_current_context

        return get_current_context()["ds"]

    airflow.variables["rate"] = "3"
    for function in (read_variable, read_context):
        error = airflow.run(BurlaMapOperator(task_id="t", python_callable=function, inputs=[1])).error
        assert "The workers have no Airflow: no connections, no variables and no context. Pass" in str(error)


@pytest.mark.skipif(not HAS_STATE_STORES, reason="the task instances of Airflow 3.1 and 3.2 have other errors")
def test_an_object_of_airflow_as_an_argument_is_named_as_the_cause(airflow: Airflow) -> None:
    with DAG("native", schedule=None, start_date=START, render_template_as_native_obj=True):
        operator = BurlaMapOperator(
            task_id="t", python_callable=lambda _, ti: str(ti), inputs=[1], op_kwargs={"ti": "{{ ti }}"}
        )
    error = airflow.run(operator).error
    assert "the workers have no Airflow. Give the function plain data instead of objects of Airflow." in str(error)


@pytest.mark.parametrize("place", ["override", "default_args"])
def test_one_call_of_the_decorator_may_have_another_init(airflow: Airflow, place: str) -> None:
    def add(number: int, more: int) -> int:
        return number + more

    init = {"more": lambda: 10}
    with DAG("d", schedule=None, start_date=START, default_args={"init": init} if place == "default_args" else {}):
        made = task.burla(add)
        operator = (made.override(init=init) if place == "override" else made)([1]).operator
    assert airflow.run(operator).value == [11]


def test_the_decorator_takes_a_function_that_returns_the_inputs(airflow: Airflow) -> None:
    assert airflow.run(decorated(square, lambda: [1, 2])).value == [1, 4]


@pytest.mark.parametrize(
    ("inputs", "results"),
    [
        (["{{ ds }}"], ["2026-11-20"]),
        (lambda: ["{{ ds }}"], ["{{ ds }}"]),
        (iter(["{{ ds }}"]), ["{{ ds }}"]),
    ],
    ids=["list", "function", "iterator"],
)
@pytest.mark.parametrize(
    "make",
    [
        lambda items: BurlaMapOperator(task_id="t", python_callable=str, inputs=items),
        lambda items: decorated(same, items),
    ],
    ids=["operator", "decorator"],
)
def test_only_texts_in_a_list_are_templates(airflow: Airflow, make: Any, inputs: Any, results: Any) -> None:
    inputs = copy.copy(inputs)  # an iterator is read once
    assert airflow.run(make(inputs)).value == results


@pytest.mark.parametrize(
    "make",
    [
        lambda items: BurlaMapOperator(task_id="t", python_callable=square, inputs=items),
        lambda items: decorated(square, items),
        lambda items: decorated(square, number=items),
    ],
)
def test_a_second_try_in_the_same_process_has_the_items_of_an_iterator(airflow: Airflow, make: Any) -> None:
    operator = make(iter([1, 2]))
    assert airflow.run(operator).value == [1, 4]
    assert airflow.run(operator, run_id="b").value == [1, 4]


def test_an_iterator_that_has_failed_is_not_read_again(airflow: Airflow) -> None:
    def find() -> Any:
        yield 1
        raise LookupError("no second one")

    operator = BurlaMapOperator(task_id="t", python_callable=square, inputs=find())
    assert str(airflow.run(operator).error) == "no second one"
    second = airflow.run(operator, run_id="b")
    assert str(second.error).startswith("inputs: the iterator has failed in an earlier try, and cannot be read again.")


@pytest.mark.parametrize(
    "function",
    [
        lambda item=1, *args: item,
        lambda *items: items,
        lambda item=1, more=2, /: item,
        lambda *, item=1: item,
        lambda: 1,
    ],
)
def test_the_decorator_refuses_at_parse_a_function_that_cannot_be_called_on_every_item(function: Any) -> None:
    @dag(schedule=None, start_date=START)
    def refused():
        task.burla(task_id="t")(function)()

    with pytest.raises(InvalidParameterError, match=r"^python_callable: <lambda>\(.*\) cannot be called on every item"):
        refused()


class Prices:
    """Calls that leave a file each, and fail for what costs more than 7 as long as there is a file ``stop``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stop").touch()

    def function(self) -> Any:
        place = str(self.folder)

        def price(number: int) -> int:
            import pathlib
            import uuid

            folder = pathlib.Path(place)
            (folder / f"{number}-{uuid.uuid4().hex}").touch()
            if number > 7 and (folder / "stop").exists():
                raise RuntimeError("not yet")
            return number * 10

        return price

    def calls(self) -> list[int]:
        return sorted(int(path.name.partition("-")[0]) for path in self.folder.iterdir() if path.name != "stop")

    def decorated(self, **options: Any) -> Any:
        @dag(schedule=None, start_date=START)
        def prices() -> None:
            task.burla(task_id="t", **options)(self.function())(list(range(10)))

        return prices().get_task("t")

    def operator(self, **options: Any) -> Any:
        return BurlaMapOperator(task_id="t", python_callable=self.function(), inputs=list(range(10)), **options)


@needs_state_stores
@pytest.mark.parametrize("make", [Prices.operator, Prices.decorated], ids=["operator", "decorator"])
def test_a_retry_calls_the_function_only_on_what_is_missing(airflow: Airflow, tmp_path: Path, make: Any) -> None:
    prices = Prices(tmp_path)
    first = airflow.run(make(prices), max_tries=1)
    assert first.state == "up_for_retry"
    assert prices.calls() == list(range(10))
    (tmp_path / "stop").unlink()
    second = airflow.run(make(prices), try_number=2, max_tries=1)
    assert second.value == [number * 10 for number in range(10)]
    assert prices.calls() == sorted([*range(10), 8, 9])
    assert airflow.state_store == {}


@pytest.mark.parametrize("make", [Prices.operator, Prices.decorated], ids=["operator", "decorator"])
def test_a_failed_trial_calls_the_function_on_nothing_else(airflow: Airflow, tmp_path: Path, make: Any) -> None:
    prices = Prices(tmp_path)
    result = airflow.run(make(prices, trial_inputs=2))
    assert "The trial failed" in str(result.error)
    assert prices.calls() == [0, 9]


def test_what_calls_print_is_logged_by_input(airflow: Airflow) -> None:
    def talk(number: int) -> None:
        for line in range(number):
            print(f"line {line} of {number}")

    log = airflow.run(BurlaMapOperator(task_id="t", python_callable=talk, inputs=[0, 1, 3])).log
    said = [line.removeprefix("INFO ").removeprefix("event=") for line in log.splitlines()]
    assert "input 1 (1): line 0 of 1" in said
    group = said.index("::group::input 2 (3) printed 3 lines")
    assert said[group + 1 : group + 5] == [*(f"line {line} of 3" for line in range(3)), "::endgroup::"]


def test_the_error_names_a_module_of_the_dag_folder_that_was_not_sent(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neighbour.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def import_by_name(name: str) -> None:
        import importlib

        importlib.import_module(name)

    names = ["neighbour", "unusual_prefix_0123_dag", "no_such_package"]
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=import_by_name, inputs=names))
    groups = result.xcoms["burla_report"]["failures"]["groups"]
    advice = {group["message"]: group["advice"] for group in groups}
    for local in names[:2]:
        assert advice[f"No module named '{local}'"].startswith("It is a module of your DAG folder")
    wanted = "The workers do not have this module. Name its package"
    assert advice["No module named 'no_such_package'"].startswith(wanted)
    assert wanted in result.log


def test_a_function_that_cannot_be_unpickled_fails_the_job_once(airflow: Airflow) -> None:
    class NeedsModule:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_package",)

    needed = NeedsModule()
    task = BurlaMapOperator(
        task_id="t", python_callable=lambda value: str(needed), inputs=range(100), tolerated_failures="100%"
    )
    result = airflow.run(task, max_tries=1)
    assert result.state == "up_for_retry"
    text = "A worker could not load what the function needs. WorkerError: No module named 'no_such_package' - the"
    assert str(result.error).startswith(text)
    assert "input 2 (2): WorkerError" not in result.log


def test_a_model_that_is_cached_is_loaded_once_per_worker(airflow: Airflow, tmp_path: Path) -> None:
    place = str(tmp_path)

    @functools.cache
    def model() -> str:
        import os
        import pathlib
        import uuid

        pathlib.Path(place, f"{os.getpid()} {uuid.uuid4().hex}").touch()
        return "loaded"

    task = BurlaMapOperator(task_id="t", python_callable=lambda _: model(), inputs=list(range(20)), max_parallelism=2)
    assert airflow.run(task).value == ["loaded"] * 20
    workers = [path.name.split()[0] for path in tmp_path.iterdir()]
    assert len(workers) == len(set(workers)) <= 2


def test_dates_and_decimals_are_returned_exactly(airflow: Airflow) -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=lambda day: day, inputs=[moment]))
    assert result.state == "success"


DAYS = ["2026-01-03", "2026-01-04"]


def fails_on_the_second_day(day: str) -> None:
    print("reading", flush=True)
    if day == DAYS[1]:
        raise Unusual("no file")


def test_an_input_is_named_by_its_value_in_log_errors_and_report(airflow: Airflow) -> None:
    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=fails_on_the_second_day, inputs=DAYS))
    assert "input 0 ('2026-01-03'): reading" in result.log
    assert "input 1 ('2026-01-04')" in str(result.error)
    report = result.xcoms["burla_report"]
    assert report["timeline"]["labels"] == {"0": "input 0 ('2026-01-03')", "1": "input 1 ('2026-01-04')"}
    assert [line["item"] for line in report["slowest"]] == ["input 0 ('2026-01-03')"]
    assert report["failures"]["groups"][0]["ranges"][0]["item"] == "input 1 ('2026-01-04')"


def test_describe_names_the_inputs(airflow: Airflow) -> None:
    days = [{"day": day, "shops": list(range(100))} for day in DAYS]
    task = BurlaMapOperator(
        task_id="t",
        python_callable=lambda one: fails_on_the_second_day(one["day"]),
        inputs=days,
        describe=lambda one: f"shops of {one['day']}",
    )
    result = airflow.run(task)
    assert "input 0 (shops of 2026-01-03): reading" in result.log
    assert "input 1 (shops of 2026-01-04)" in str(result.error)


def test_a_decorated_function_has_describe_too(airflow: Airflow) -> None:
    @dag(schedule=None, start_date=START)
    def days() -> None:
        task.burla(task_id="t", describe=lambda day: f"the day {day}")(fails_on_the_second_day)(DAYS)

    assert "input 0 (the day 2026-01-03): reading" in airflow.run(days().get_task("t")).log


def test_a_describe_that_fails_does_not_fail_the_task(airflow: Airflow) -> None:
    task = BurlaMapOperator(task_id="t", python_callable=print, inputs=[1, 2], describe=lambda one: one["day"])
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert re.search(r"describe failed for input \d, so that its value names it. TypeError", result.log)
    assert result.log.count("describe failed") == 1
    assert result.xcoms["burla_report"]["timeline"]["labels"] == {"0": "input 0 (1)", "1": "input 1 (2)"}


@pytest.mark.parametrize("describe", ["{day}", lambda: "", lambda one, other: ""])
def test_a_describe_that_cannot_be_called_with_an_input_is_refused_at_parse(describe: Any) -> None:
    with pytest.raises(InvalidParameterError, match=r"^describe: "):
        BurlaMapOperator(task_id="t", python_callable=square, inputs=[1], describe=describe)


def test_a_mapped_task_has_describe_too(airflow: Airflow) -> None:
    with DAG("mapped", start_date=START, schedule=None):
        mapped = BurlaMapOperator.partial(
            task_id="t", python_callable=fails_on_the_second_day, describe=lambda day: f"the day {day}"
        ).expand(inputs=[DAYS[:1]])
    task = mapped.unmap({"inputs": DAYS[:1]})
    assert "input 0 (the day 2026-01-03): reading" in airflow.run(task, map_index=0).log


def test_inputs_and_the_function_may_use_different_modules_of_the_dag_folder(
    airflow: Airflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "map_prices.py").write_text("def price(number): return number * 2\n")
    (tmp_path / "map_names.py").write_text("def name(number): return f'order {number}'\n")
    (tmp_path / "map_orders.py").write_text(
        "class Order:\n"
        "    def __init__(self, number): self.number = number\n"
        "    def price(self):\n"
        "        from map_prices import price\n"
        "        return price(self.number)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    order = importlib.import_module("map_orders").Order

    def describe(one: Any) -> list[Any]:
        import map_names

        return [map_names.name(one.number), one.price(), isinstance(one, order)]

    task = BurlaMapOperator(task_id="t", python_callable=describe, inputs=lambda: [order(1), order(2)])
    assert airflow.run(task).value == [["order 1", 2, True], ["order 2", 4, True]]


class Unreadable:
    def __reduce__(self) -> Any:
        return __import__, ("no_such_package",)


@pytest.mark.parametrize("value", [10**5_000, Unreadable()], ids=["digits", "unreadable"])
def test_a_failed_input_that_cannot_be_shown_is_in_the_report(airflow: Airflow, value: Any) -> None:
    def refuse(one: Any) -> None:
        if one is not None:
            raise LookupError("refused")

    task = BurlaMapOperator(task_id="t", python_callable=refuse, inputs=lambda: [value, None], tolerated_failures=1)
    result = airflow.run(task)
    assert result.value == [None, None]
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    assert [place["input"] for place in group["ranges"]] == [None]


@pytest.mark.parametrize("value", [{"password": "hunter2pass", "n": 1}, ["a", {"api_key": "hunter2pass"}]])
def test_a_failed_input_with_a_secret_is_not_shown(airflow: Airflow, value: Any) -> None:
    def refuse(_: Any) -> None:
        raise LookupError("refused")

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=refuse, inputs=lambda: [value]))
    assert "***" in str(result.error)
    assert "hunter2pass" not in str(result.xcoms)


@dataclasses.dataclass
class Order:
    number: int
    tags: frozenset[str] = frozenset({"a", "b"})


@needs_state_stores
def test_a_retry_calls_the_function_only_on_objects_that_are_missing(airflow: Airflow, tmp_path: Path) -> None:
    def once(order: Order | int) -> int:
        if order == Order(2) and not (tmp_path / "tried").exists():
            (tmp_path / "tried").touch()
            raise LookupError("not yet")
        return order.number if isinstance(order, Order) else order

    def run_try(number: int, inputs: list[Any]) -> TaskResult:
        # Each try is another process, where cloudpickle gives the class another id.
        cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_CLASS.clear()
        task = BurlaMapOperator(task_id="t", python_callable=once, inputs=lambda: inputs)
        return airflow.run(task, try_number=number, max_tries=3)

    assert run_try(1, [5, Order(1), Order(2)]).state == "up_for_retry"
    store = dict(airflow.state_store)
    for other in ([5, Order(1), Order(3)], [Order(1), 5, Order(2)]):
        airflow.state_store = dict(store)
        assert "this try starts from the beginning: its parameters have changed" in run_try(2, other).log
    airflow.state_store = store
    result = run_try(2, [5, Order(1), Order(2)])
    assert result.value == [5, 1, 2]
    assert "An earlier try has finished 2 items: processing only what is missing." in result.log


def test_an_object_that_cannot_be_compared_is_processed(airflow: Airflow) -> None:
    node: Any = None
    for _ in range(150):
        node = Order(node)
    task = BurlaMapOperator(task_id="t", python_callable=lambda _: 1, inputs=lambda: [node])
    assert airflow.run(task).value == [1]


class WithMethod(BurlaMapOperator):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(python_callable=self.double, inputs=[1, 2], **kwargs)

    def double(self, number: int) -> int:
        return 2 * number


def uses_a_result_of_a_task() -> Any:
    @task
    def earlier() -> int:
        return 1

    factor = earlier()
    return BurlaMapOperator(task_id="t", python_callable=lambda number: number * factor, inputs=[1])


def uses_the_dag() -> Any:
    this = DAG("other", schedule=None)
    return BurlaMapOperator(task_id="t", python_callable=lambda _, dag: dag.dag_id, inputs=[1], op_kwargs={"dag": this})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WithMethod(task_id="t"), "python_callable: uses a WithMethod, but"),
        (uses_a_result_of_a_task, "python_callable: uses a PlainXComArg, but"),
        (uses_the_dag, "op_kwargs: uses a DAG, but"),
    ],
    ids=["method", "closure", "argument"],
)
def test_an_object_of_airflow_is_refused_before_a_worker_starts(airflow: Airflow, make: Any, message: str) -> None:
    with DAG("d", schedule=None, start_date=START):
        made = make()
    result = airflow.run(made, max_tries=1)
    assert str(result.error).startswith(f"{message} the workers have no Airflow."), result.log
    assert result.state == "failed"
    assert "event=Job" not in result.log


def test_tasks_and_mapped_instances_with_the_same_iterator_have_all_items(airflow: Airflow) -> None:
    items = iter([1, 2])
    with DAG("d", schedule=None, start_date=START):
        first = BurlaMapOperator(task_id="first", python_callable=square, inputs=items)
        second = decorated(square, items)
        mapped = BurlaMapOperator.partial(task_id="mapped", python_callable=square, inputs=items).expand(
            max_parallelism=[1, 2]
        )
    assert airflow.run(first).value == airflow.run(second).value == [1, 4]
    for index in range(2):
        assert airflow.run(mapped.unmap({"max_parallelism": 1}), map_index=index).value == [1, 4]


def test_the_decorator_refuses_inputs_that_are_not_arguments_of_the_call() -> None:
    with DAG("d", schedule=None, start_date=START), pytest.raises(InvalidParameterError, match=r"^inputs: are"):
        task.burla(inputs=[3])(square)([1])
    with DAG("d", schedule=None, start_date=START), pytest.raises(InvalidParameterError, match=r"^inputs: are"):
        task.burla(square).override(inputs=[3])([1])


def test_an_async_function_of_init_is_refused_at_parse() -> None:
    async def load() -> int:
        return 1

    with pytest.raises(InvalidParameterError, match=r"^init: .*load is an async function, which workers do not await"):
        BurlaMapOperator(task_id="t", python_callable=lambda _, rate: rate, inputs=[1], init={"rate": load})
