"""Common mistakes of new users: each error says what to write instead."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow

pyarrow = pytest.importorskip("pyarrow")


def operator(**options: Any) -> BurlaPostgresOperator:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 1, "key": "id"}
    return BurlaPostgresOperator(**{**defaults, **options})


def generator(rows: Any) -> Any:
    yield from rows


FUNCTIONS = {
    "a generator": (lambda rows: generator(rows), {}, "returns a generator: write return dict(...)"),
    "a kind of dict": (
        lambda rows: collections.Counter(),
        {},
        "return a dict of plain data, such as {'total': 12}, or dict(x)",
    ),
    "a kind of number": (lambda rows: {"n": Fraction(1)}, {}, "is of type fractions.Fraction (use float(x))"),
    "a set": (lambda rows: {"n": {1}}, {}, "is of type builtins.set (use list(x))"),
    "names on tuples": (lambda rows: [row["id"] for row in rows], {}, 'give row_format="dict" to use their names'),
    "attributes of tuples": (lambda rows: [row.id for row in rows], {}, 'give row_format="dict" to use their names'),
    "positions in dicts": (lambda rows: [row[0] for row in rows], {"row_format": "dict"}, 'use row["name"]'),
    "attributes of dicts": (lambda rows: [row.id for row in rows], {"row_format": "dict"}, 'use row["name"]'),
    "a row for rows": (lambda row: row["id"], {"row_format": "dict"}, "write for row in rows"),
    "the number of rows": (lambda rows: {"n": len(rows)}, {}, "write for row in rows"),
    "a tuple for rows": (lambda row: row[0], {}, "write for row in rows"),
    "a tuple for rows, unpacked": (lambda row: [x for x, y in [row]], {}, "write for row in rows"),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_the_error_for_a_wrong_function_shows_a_correct_one(airflow: Airflow, orders: Orders, case: str) -> None:
    function, options, advice = FUNCTIONS[case]
    assert advice in str(airflow.run(operator(process_rows=function, **options)).error)


def test_advice_is_a_separate_sentence(airflow: Airflow, orders: Orders) -> None:
    def write(connection: Any, key_range: Any) -> Any:
        connection.execute("UPDATE orders SET note = ''")

    message = str(airflow.run(operator(process_range=write)).error)
    assert "cannot execute UPDATE in a read-only transaction" in message
    assert "\n  Ranges are read in a read-only transaction: " in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["id", "amont"]}, "columns: the server rejects 'id, amont'"),
        ({"where": "amont > 5"}, "where: the server rejects 'amont > 5'"),
        ({"totals": {"n": "sum(amont)"}}, "totals: the server rejects 'sum(amont)'"),
    ],
)
def test_the_error_for_a_misspelt_column_lists_the_columns(
    airflow: Airflow, orders: Orders, options: Any, message: str
) -> None:
    kind = {} if "totals" in options else {"process_rows": lambda rows: {}}
    error = str(airflow.run(operator(**options, **kind)).error)
    assert message in error
    assert 'Perhaps you meant to reference the column "orders.amount"' in error
    assert "The columns of public.orders are id, amount, status, note." in error


def test_the_error_for_a_misspelt_table_suggests_one(airflow: Airflow, orders: Orders) -> None:
    error = str(airflow.run(operator(table="ordres", totals={"n": "count(*)"})).error)
    database = orders.connection.info.dbname
    assert error == f'table: "ordres" not found in database {database}. Did you mean public.orders?'


@pytest.mark.parametrize("name", ["proces_rows", "collumns", "retires"])
def test_the_error_for_a_misspelt_parameter_suggests_one(name: str) -> None:
    nearest = {"proces_rows": "process_rows", "collumns": "columns", "retires": "retries"}[name]
    with pytest.raises(InvalidParameterError) as error:
        operator(totals={"n": "count(*)"}, **{name: 1})
    assert str(error.value) == f"{name}: BurlaPostgresOperator has no such parameter. Did you mean {nearest}?"


class NoDimension:
    """As NumPy's array of no dimension: it has __iter__, which raises."""

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("iteration over a 0-d array")


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (pyarrow.table({"a": [1]}), "must be a list, got Table. Give a list of its rows: to_dict"),
        (NoDimension(), "must be a list, got NoDimension. Give a list, or a function that returns one."),
        ({1, 2}, "must be a list, got set. A set has no order for the results: give sorted(...) of it."),
        ({"a": 1}, "must be a list, got dict"),
        (b"abc", "must be a list, got bytes"),
        (bytearray(b"abc"), "must be a list, got bytearray"),
        (memoryview(b"abc"), "must be a list, got memoryview"),
        (5, "must be a list, got int"),
    ],
)
def test_inputs_that_are_not_a_list_are_refused(airflow: Airflow, inputs: Any, problem: str) -> None:
    with pytest.raises(InvalidParameterError) as at_parse:
        BurlaMapOperator(task_id="t", python_callable=str, inputs=inputs)
    at_run = airflow.run(BurlaMapOperator(task_id="t", python_callable=str, inputs=lambda: inputs), max_tries=3)
    assert at_run.state == "failed"
    assert all(str(error).startswith(f"inputs: {problem}") for error in (at_parse.value, at_run.error))


def test_inputs_can_be_any_ordered_iterable(airflow: Airflow) -> None:
    for inputs in (range(2), pyarrow.array([0, 1]).to_pylist(), {0: "a", 1: "b"}.keys(), {0, 1}.__iter__):
        task = BurlaMapOperator(task_id="t", python_callable=lambda one: one + 1, inputs=inputs)
        assert airflow.run(task, run_id=str(type(inputs))).value == [1, 2]


def test_printed_text_and_errors_do_not_open_or_close_log_groups(airflow: Airflow) -> None:
    def talk(number: int) -> str:
        print("::group::mine")
        print("::endgroup::")
        if number:
            raise ValueError("in ::group:: and ::endgroup::")
        return "::group::"

    result = airflow.run(BurlaMapOperator(task_id="t", python_callable=talk, inputs=[0, 1, 1, 1], tolerated_failures=3))
    assert result.state == "success"
    opened = [line for line in result.log.splitlines() if "::group::" in line and "Execute" not in line]
    assert opened
    assert all("printed 2 lines" in line or "3 inputs failed" in line for line in opened), result.log
    since_first = result.log[result.log.index("::group::input") :]
    assert since_first.count("::endgroup::") == since_first.count("::group::")
    assert ":group:mine" in result.log
