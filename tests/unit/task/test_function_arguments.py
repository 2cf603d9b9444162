"""Which arguments a function takes: checked when the DAG file is parsed."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import task

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task.function_arguments import bind_function, is_callable_class


class Label:
    def __init__(self, path: str, size: int = 1) -> None:
        self.path = path

    def __call__(self, rows: Any) -> Any:
        return rows


class LabelOfRange(Label):
    def __call__(self, rows: Any, key_range: Any) -> Any:
        return rows, key_range


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def make(name: str, function: Any, **options: Any) -> Any:
    if name in ("python_callable", "inputs", "describe"):
        return BurlaMapOperator(**{"task_id": "t", "python_callable": abs, "inputs": [1], name: function, **options})
    if name == "combine":
        options["process_rows"] = abs
    if name.startswith("map_"):
        target = {"write_mode": "upsert", "target_table": "archive"}
        return BurlaPostgresTransformOperator(task_id="t", table="orders", **target, **{name: function}, **options)
    return BurlaPostgresOperator(task_id="t", table="orders", **{name: function}, **options)


ROWS = ["process_rows", "map_row", "map_batch", "python_callable"]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    ("function", "op_kwargs"),
    [
        (lambda rows: rows, {}),
        (lambda rows, rate=1: rows, {}),
        (lambda rows, rate: rows, {"rate": 1}),
        (lambda rows, *, rate: rows, {"rate": "{{ params.rate }}"}),
        (lambda rows, **others: rows, {"rate": 1}),
        (lambda *args, **others: args, {"rate": 1}),
        (functools.partial(lambda rate, rows: rows, 1), {}),
        (passed_on(lambda rows, rate: rows), {"rate": 1}),
        (lambda rows, rate: rows, "{{ params.arguments }}"),
        (Label, {"path": "a"}),
        (Label("a"), {}),
        (max, {}),
        (str, {}),
    ],
)
def test_arguments_that_the_function_takes_are_accepted(name: str, function: Any, op_kwargs: Any) -> None:
    assert make(name, function, op_kwargs=op_kwargs).op_kwargs == op_kwargs


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    ("function", "op_kwargs", "message"),
    [
        (lambda rows: rows, {"rate": 1}, r"op_kwargs: .*<lambda>\(rows\) has no parameter 'rate'\. Add it"),
        (
            lambda rows, rate: rows,
            {},
            r"op_kwargs: .*\(rows, rate\) requires 'rate'\. Give op_kwargs=\{\"rate\": \.\.\.\}",
        ),
        (lambda rows, rate: rows, {"rows": 1, "rate": 2}, r"<lambda>\(rows, rate\) cannot be called .*'rows'"),
        (lambda: 1, {}, r"<lambda>\(\) cannot be called with \(\w+\): too many positional arguments"),
        (Label, {}, r"op_kwargs: Label\(path, size=1\) requires 'path'"),
        (Label, {"path": "a", "rate": 1}, r"op_kwargs: Label\(path, size=1\) has no parameter 'rate'"),
        (type("Wrong", (Label,), {"__call__": lambda self: 1}), {"path": 1}, "cannot be called with"),
        (lambda rows: rows, "rate", "op_kwargs: must be a dict, got 'rate'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_parse(name: str, function: Any, op_kwargs: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError, match=message):
        make(name, function, op_kwargs=op_kwargs)


@pytest.mark.parametrize(
    ("name", "given"),
    [("process_rows", "rows"), ("map_row", "row"), ("map_batch", "rows"), ("process_range", "connection, key_range")],
)
def test_the_error_names_what_the_function_gets(name: str, given: str) -> None:
    with pytest.raises(InvalidParameterError, match=rf"^{name}: .*<lambda>\(\) cannot be called with \({given}\): "):
        make(name, lambda: 1)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before Python 3.14, annotations are evaluated at once")
def test_annotations_may_have_names_for_type_checkers() -> None:
    names: dict[str, Any] = {}
    exec(compile("def total(rows: Row, rate: Rate = 1) -> Row: return {}", "dag.py", "exec", dont_inherit=True), names)
    make("process_rows", names["total"], op_kwargs={"rate": 2})
    with pytest.raises(InvalidParameterError, match="speed"):
        make("process_rows", names["total"], op_kwargs={"speed": 2})


def test_the_function_of_a_range_gets_a_connection_and_the_range() -> None:
    make("process_range", lambda connection, one, rate: {}, op_kwargs={"rate": 1})
    with pytest.raises(
        InvalidParameterError, match=r"process_range: .* cannot be called with \(connection, key_range\)"
    ):
        make("process_range", lambda connection: {})


def test_totals_have_no_arguments() -> None:
    with pytest.raises(InvalidParameterError, match="op_kwargs: is for functions: totals have no arguments"):
        make("totals", {"n": "count(*)"}, op_kwargs={"rate": 1})


@pytest.mark.parametrize(
    ("function", "is_passed"),
    [
        (lambda rows, key_range: rows, True),
        (lambda rows, *, key_range=None: rows, True),
        (passed_on(lambda rows, key_range: rows), True),
        (lambda rows, **others: rows, False),
        (LabelOfRange, True),
        (LabelOfRange("a"), True),
        (Label, False),
    ],
)
def test_a_parameter_named_key_range_gets_the_range(function: Any, is_passed: bool) -> None:
    arguments = {"path": "a"} if isinstance(function, type) else {}
    assert make("process_rows", function, op_kwargs=arguments).task_id == "t"
    assert bind_function("process_rows", function, arguments).gets_range is is_passed


def test_an_input_has_no_range() -> None:
    make("python_callable", lambda value, key_range: value, op_kwargs={"key_range": 1})
    with pytest.raises(InvalidParameterError, match="requires 'key_range'"):
        make("python_callable", lambda value, key_range: value)


def test_no_argument_may_have_the_name_of_the_range() -> None:
    with pytest.raises(InvalidParameterError, match="op_kwargs: 'key_range' is the range"):
        make("process_rows", lambda rows, key_range: rows, op_kwargs={"key_range": 1})


def test_a_class_is_instantiated_only_if_its_instances_can_be_called() -> None:
    assert [is_callable_class(one) for one in (Label, LabelOfRange, Label("a"), str, dict, type, len, int)] == [
        *[True] * 2,
        *[False] * 6,
    ]


def test_unknown_arguments_are_checked_when_the_task_runs() -> None:
    operator = make("process_rows", lambda rows, rate: rows, op_kwargs="{{ params.arguments }}")
    operator.op_kwargs = {"other": 1}
    with pytest.raises(InvalidParameterError, match="has no parameter 'other'"):
        operator.make_config()


async def wait(rows: Any) -> Any:
    return rows


async def wait_often(rows: Any) -> Any:
    yield rows


class Waiting:
    async def __call__(self, rows: Any) -> Any:
        return rows


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("function", [wait, wait_often, functools.partial(wait), Waiting, Waiting()])
def test_an_async_function_is_refused(name: str, function: Any) -> None:
    with pytest.raises(InvalidParameterError, match=rf"{name}: .* is an async function, which workers do not await"):
        make(name, function)


def yield_rows(rows: Any) -> Any:
    yield from rows


def yield_of_range(connection: Any, key_range: Any) -> Any:
    yield connection, key_range


@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("process_rows", yield_rows, "yield_rows is a function with yield, which returns a generator. Return a dict."),
        ("process_range", yield_of_range, "yield_of_range is a function with yield"),
        ("python_callable", yield_rows, "yield_rows is a function with yield, which returns a generator. Return plain"),
        ("combine", yield_rows, "yield_rows is a function with yield, which returns a generator. Return a dict."),
        ("combine", wait, "wait is an async function, which the task does not await."),
        (
            "combine",
            lambda one, two: {},
            "<lambda>(one, two) cannot be called with a list. Use a function of one argument that returns",
        ),
        ("combine", {}, "must be a function, got {}."),
        ("inputs", lambda day: [day], "<lambda>(day) cannot be called with no arguments. Use a function without arg"),
        ("inputs", wait, "wait is an async function, which the task does not await."),
        ("describe", wait, "wait is an async function, which the task does not await."),
    ],
)
def test_a_function_that_returns_or_takes_something_else_is_refused(name: str, function: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        make(name, function)
    assert str(raised.value).startswith(f"{name}: {message}")


def test_a_function_with_yield_returns_rows() -> None:
    assert make("map_row", yield_rows).map_row is yield_rows
    assert BurlaMapOperator(task_id="t", python_callable=abs, inputs=lambda: (yield 1)).make_inputs


@pytest.mark.parametrize("name", [*ROWS, "combine", "describe", "inputs"])
def test_a_decorated_task_is_refused_as_a_function(name: str) -> None:
    @task
    def double(rows: Any = ()) -> Any:
        return rows

    with pytest.raises(InvalidParameterError, match=rf"^{name}: double is a task of Airflow. "):
        make(name, double)
