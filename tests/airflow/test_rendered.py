"""What Airflow shows of a task: its code and its SQL."""

from __future__ import annotations

import functools
import linecache
from typing import Any

import pytest

from burla_provider.decorators.map_operator import BurlaDecoratedOperator
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task.rendered import RenderedText, source_code


def count_notes(rows: Any) -> dict[str, Any]:
    return {"notes": sum(1 for row in rows if "{{" not in row)}


class Counter:
    def __call__(self, rows: Any) -> dict[str, Any]:
        return {}


def sql_of(**options: Any) -> str:
    work = {} if {"process_rows", "process_range"} & options.keys() else {"totals": {"total": "sum(amount)"}}
    return str(BurlaPostgresOperator(**{"task_id": "t", "table": "orders", **work, **options}).sql)


def test_a_functions_code_is_its_source() -> None:
    assert source_code(count_notes).startswith("def count_notes(rows: Any)")
    assert source_code(count_notes).endswith('if "{{" not in row)}')


def test_the_code_of_a_partial_is_that_of_its_function() -> None:
    assert source_code(functools.partial(count_notes)) == source_code(count_notes)


def test_the_code_of_a_callable_object_is_that_of_its_class() -> None:
    assert source_code(Counter()).startswith("class Counter:")


def test_a_function_within_another_is_shown_from_the_left_margin() -> None:
    def inner(rows: Any) -> dict[str, Any]:
        return {}

    assert source_code(inner).startswith("def inner(")


def test_a_function_without_source_is_shown_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python 3.13 does this with the text of `python -c`.
    monkeypatch.setitem(linecache.cache, "<string>", (9, None, ["import x\n"], "<string>"))
    made: dict[str, Any] = {}
    exec("def made(rows): return {}", made)
    assert source_code(made["made"]) == "made"
    assert source_code(len) == "len"


def test_airflow_leaves_a_shown_text_alone() -> None:
    # It renders truthy fields only, and would call or parse what they hold.
    assert not RenderedText("{{ boom")
    assert str(RenderedText("{{ boom")) == "{{ boom"


def test_the_code_of_all_functions_is_shown() -> None:
    operator = BurlaPostgresOperator(task_id="t", table="orders", process_rows=count_notes, combine=lambda parts: {})
    assert "def count_notes" in str(operator.code)
    assert "lambda parts: {}" in str(operator.code)


def test_without_functions_there_is_no_code_to_show() -> None:
    assert BurlaPostgresOperator(task_id="t", table="orders", totals={"n": "count(*)"}).code is None


def test_totals_are_one_statement() -> None:
    assert sql_of(totals={"total": "sum(amount)", "Last Id": "max(id)"}) == (
        'SELECT count(*) AS row_count,\n       sum(amount) AS total,\n       max(id) AS "Last Id"\nFROM orders'
    )


def test_the_columns_of_process_rows_are_what_is_selected() -> None:
    assert sql_of(process_rows=count_notes, columns=["id", "Note"]) == 'SELECT id, "Note"\nFROM orders'
    computed = sql_of(process_rows=count_notes, columns={"id": "id", "Day": "at::date"})
    assert computed == 'SELECT id AS id, at::date AS "Day"\nFROM orders'
    assert sql_of(process_rows=count_notes) == "SELECT *\nFROM orders"


def test_the_function_of_process_range_has_its_own_sql() -> None:
    assert BurlaPostgresOperator(task_id="t", table="orders", process_range=lambda c, r: {}).sql is None


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        ({"where": "a OR b"}, "WHERE (a OR b)"),
        ({"key": "id", "start_id": 5, "end_id": "7"}, "WHERE id >= 5\n  AND id <= 7"),
        ({"key": "at", "lower": "it's", "upper": "2"}, "WHERE at >= 'it''s'\n  AND at < 2"),
        ({"where": "a", "key": "id", "start_id": 0}, "WHERE (a)\n  AND id >= 0"),
        ({"where": "a", "start_id": 5}, "WHERE (a)\n-- only rows whose key is in the window"),
        ({"key": "id", "incremental": True}, "-- only rows whose id is new since the last success"),
    ],
)
def test_the_statement_has_the_condition_and_the_window(options: dict[str, Any], condition: str) -> None:
    assert sql_of(**options).partition("FROM orders\n")[2] == condition


def test_parameters_that_are_templates_are_shown_unrendered() -> None:
    from airflow.sdk import DAG, task

    with DAG("d", schedule=None):

        @task
        def find() -> Any: ...

        found = find()
        operator = BurlaPostgresOperator(task_id="t", table=found["table"], totals=found["totals"], columns=found["c"])
    assert "FROM {{ task_instance.xcom_pull(" in str(operator.sql)


def test_a_decorated_function_is_shown_and_its_arguments_are_rendered_once() -> None:
    operator = BurlaDecoratedOperator(task_id="t", python_callable=count_notes, op_args=([],))
    assert str(operator.code).startswith("def count_notes")
    assert len(set(operator.template_fields)) == len(operator.template_fields)


@pytest.mark.parametrize("operator_class", [BurlaPostgresOperator, BurlaMapOperator, BurlaDecoratedOperator])
def test_every_renderer_is_for_a_field_that_is_shown(operator_class: Any) -> None:
    assert set(operator_class.template_fields_renderers) <= {*operator_class.template_fields, "inputs"}


def test_serialising_a_dag_keeps_code_and_sql_as_text() -> None:
    from airflow.sdk import DAG
    from airflow.serialization import serialized_objects

    with DAG("d", schedule=None) as dag:
        BurlaPostgresOperator(task_id="t", table="orders", process_rows=count_notes)
    # The latter in Airflow 3.1.
    serialization = getattr(serialized_objects, "DagSerialization", None) or serialized_objects.SerializedDAG
    [task] = serialization.to_dict(dag)["dag"]["tasks"]
    assert task["__var"]["code"] == source_code(count_notes)
    assert task["__var"]["sql"] == "SELECT *\nFROM orders"
