"""@task.burla_postgres and @task.burla_transform through Airflow's task runner, on the local engine and PostgreSQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import psycopg
import pytest
from airflow.sdk import DAG, XComArg, dag, task, task_group

from burla_provider.exceptions import InvalidParameterError
from tests.airflow.conftest import Orders
from tests.support.task_runner import START, Airflow

ORDERS = {"postgres_conn_id": "orders_db", "table": "orders", "ranges": 4, "max_parallelism": 2}
PAID = {**ORDERS, "columns": ["id", "amount", "status"]}
LABELS = {**PAID, "target_table": "labels", "write_mode": "upsert"}


@pytest.fixture
def labels(orders: Orders) -> psycopg.Connection[Any]:
    """The table that rows are written to."""
    orders.connection.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text, doubled numeric NOT NULL)")
    return orders.connection


def written(connection: psycopg.Connection[Any]) -> tuple[Any, ...]:
    """The number of rows in ``labels`` that a query of ``orders`` returns too, and of all rows."""
    query = """
        SELECT count(*) FILTER (WHERE label = 'big ' || status AND doubled = amount * 2),
               (SELECT count(*) FROM labels), (SELECT count(*) FROM orders)
        FROM labels JOIN orders USING (id)
    """
    [row] = connection.execute(query).fetchall()
    return row


def in_dag(make: Any, **options: Any) -> Any:
    """The only task of a DAG that ``make`` fills."""
    with DAG("test_dag", start_date=START, schedule=None, **options) as made:
        make()
    [operator] = made.tasks
    return operator


def add_up(rows: Any, status: str, *, minimum: Any = 0) -> dict[str, Any]:
    amounts = [amount for _, amount, row_status in rows if row_status == status and amount >= int(minimum)]
    return {"total": sum(amounts, Decimal(0)), "number": len(amounts)}


def label_row(row: Any, prefix: str, factor: int = 2) -> Any:
    return row[0], f"{prefix} {row[2]}", row[1] * int(factor)


def label_batch(rows: Any, prefix: str) -> Any:
    assert 1 < len(rows) <= 700
    return [label_row(row, prefix) for row in rows]


def test_a_function_of_rows_returns_the_totals_of_a_query(airflow: Airflow, orders: Orders) -> None:
    def totals() -> None:
        task.burla_postgres(**PAID)(add_up)("{{ params.status }}", minimum="{{ params.minimum }}")

    result = airflow.run(in_dag(totals, params={"status": "paid", "minimum": 70}))
    row_count = orders.ask("count(*)")
    number, total = orders.ask("count(*), sum(amount)", "status = 'paid' AND amount >= 70")
    assert result.value == {"row_count": row_count, "total": str(total), "number": number}, result.log
    assert result.rendered["op_kwargs"] == {"status": "paid", "minimum": "70"}
    assert "def add_up" in result.rendered["code"]
    assert "sum(" not in result.rendered["sql"]


def test_the_results_of_ranges_may_be_combined_by_a_function(airflow: Airflow, orders: Orders) -> None:
    def largest(results: list[dict[str, Any]]) -> dict[str, Any]:
        return {"largest": max(result["largest"] for result in results)}

    def totals() -> None:
        @task.burla_postgres(**PAID, combine=largest)
        def find_largest(rows):
            return {"largest": max(amount for _, amount, _ in rows)}

        find_largest()

    value = airflow.run(in_dag(totals)).value
    assert value == {"row_count": 20_000, "largest": str(orders.ask("max(amount)"))}


def test_a_function_of_a_row_writes_what_a_query_returns(airflow: Airflow, labels: Any) -> None:
    def write() -> None:
        task.burla_transform(**LABELS)(label_row)(prefix="{{ params.prefix }}")

    result = airflow.run(in_dag(write, params={"prefix": "big"}))
    assert result.value == {"row_count": 20_000, "rows_written": 20_000, "rows_unchanged": 0, "rows_filtered": 0}
    assert written(labels) == (20_000, 20_000, 20_000)


@pytest.mark.parametrize("size", [700, "{{ 7 * 100 }}"])
def test_with_a_batch_size_the_function_gets_batches(airflow: Airflow, labels: Any, size: Any) -> None:
    operator = in_dag(lambda: task.burla_transform(**LABELS, batch_size=size)(label_batch)("big"))
    assert airflow.run(operator).state == "success"
    assert written(labels) == (20_000, 20_000, 20_000)


def test_with_a_batch_format_the_function_gets_batches_of_this_format(airflow: Airflow, labels: Any) -> None:
    def make() -> None:
        @task.burla_transform(**LABELS, batch_format="arrow")
        def label(batch, prefix):
            assert type(batch).__name__ == "RecordBatch"
            return [label_row(tuple(row.values()), prefix) for row in batch.to_pylist()]

        label("big")

    result = airflow.run(in_dag(make))
    assert result.state == "success", result.log
    assert written(labels) == (20_000, 20_000, 20_000)


@pytest.mark.parametrize("place", ["override", "default_args"])
def test_one_call_may_have_another_init(airflow: Airflow, orders: Orders, place: str) -> None:
    def count(rows: Any, least: int, most: Any = None) -> dict[str, Any]:
        return {"number": sum(least <= row[0] <= int(most) for row in rows)}

    init = {"least": lambda first: int(first)}

    def make() -> None:
        made = task.burla_postgres(**PAID)(count)
        (made.override(init=init) if place == "override" else made)(first="{{ 9 }}", most=15)

    operator = in_dag(make, default_args={"init": init} if place == "default_args" else {})
    assert airflow.run(operator).value["number"] == orders.ask("count(*)", "id BETWEEN 9 AND 15")


@pytest.mark.parametrize("default", [{"batch_size": 700}, {"batch_format": "arrow"}])
def test_the_size_or_format_of_batches_may_be_a_default_of_the_dag(default: dict[str, Any]) -> None:
    operator = in_dag(lambda: task.burla_transform(**LABELS)(label_batch)("big"), default_args=default)
    assert operator.map_batch
    assert not operator.map_row


def test_a_class_gets_the_arguments_of_the_call_in_its_constructor(airflow: Airflow, labels: Any) -> None:
    class Label:
        def __init__(self, prefix: str) -> None:
            self.prefix = prefix

        def __call__(self, row: Any, key_range: Any) -> Any:
            assert key_range.idempotency_key
            return label_row(row, self.prefix)

    operator = in_dag(lambda: task.burla_transform(**LABELS)(Label)(prefix="big"))
    assert operator.task_id == "Label"
    assert airflow.run(operator).state == "success"
    assert written(labels) == (20_000, 20_000, 20_000)


def test_a_call_gives_neither_the_range_nor_the_objects_of_init(airflow: Airflow, labels: Any) -> None:
    def make() -> None:
        @task.burla_transform(**LABELS, init={"labeler": lambda prefix: lambda status: f"{prefix} {status}"})
        def label(row, labeler, key_range, factor=3):
            assert key_range.idempotency_key
            return row[0], labeler(row[2]), row[1] * factor

        label(factor=2, prefix="big")

    result = airflow.run(in_dag(make))
    assert result.state == "success", result.log
    assert written(labels) == (20_000, 20_000, 20_000)


def test_a_call_that_was_overridden_is_another_task(airflow: Airflow, orders: Orders) -> None:
    @dag(schedule=None, start_date=START)
    def totals() -> None:
        total = task.burla_postgres(**PAID, where="id < 9000")(add_up)
        total("paid")
        total("paid")
        total.override(task_id="all_open", where=None)("open")

        @task_group
        def group() -> None:
            total("open", minimum=70)

        group()

    made = totals()
    assert sorted(made.task_ids) == ["add_up", "add_up__1", "all_open", "group.add_up"]
    whole = airflow.run(made.get_task("all_open")).value
    assert whole["total"] == str(orders.ask("sum(amount)", "status = 'open'"))
    part = airflow.run(made.get_task("group.add_up")).value
    assert part["total"] == str(orders.ask("sum(amount)", "status = 'open' AND id < 9000 AND amount >= 70"))


@pytest.mark.parametrize("status", ["paid", "open"])
def test_a_mapped_call_processes_the_table_once_per_argument(airflow: Airflow, orders: Orders, status: str) -> None:
    def totals() -> None:
        task.burla_postgres(**PAID)(add_up).partial(minimum=70).expand(status=["paid", "open"])

    mapped = in_dag(totals)
    operator = mapped.unmap({"op_kwargs": {"status": status}})
    value = airflow.run(operator, map_index=("paid", "open").index(status)).value
    assert value["total"] == str(orders.ask("sum(amount)", f"status = '{status}' AND amount >= 70"))


def test_each_key_of_the_result_may_be_an_xcom(airflow: Airflow, orders: Orders) -> None:
    operator = in_dag(lambda: task.burla_postgres(**PAID, multiple_outputs=True)(add_up)("paid"))
    result = airflow.run(operator)
    assert result.value == {name: result.xcoms[name] for name in ("row_count", "total", "number")}


def test_an_annotation_says_nothing_about_the_outputs_of_the_task() -> None:
    assert add_up.__annotations__["return"] == "dict[str, Any]"
    assert in_dag(lambda: task.burla_postgres(**PAID)(add_up)("paid")).multiple_outputs is False


def test_a_unit_test_may_call_the_function() -> None:
    decorated = task.burla_transform(**LABELS)(label_row)
    assert decorated.function((1, Decimal("1.5"), "paid"), "big") == (1, "big paid", Decimal("3.0"))


def test_arguments_may_be_results_of_other_tasks() -> None:
    @dag(schedule=None, start_date=START)
    def totals() -> None:
        @task
        def find_status() -> str:
            return "paid"

        status = find_status()
        task.burla_postgres(**PAID)(add_up)(status)
        task.burla_transform(**LABELS)(label_row).expand(prefix=XComArg(status.operator))

    made = totals()
    assert made.get_task("find_status").downstream_task_ids == {"add_up", "label_row"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: task.burla_postgres(**PAID, process_rows=add_up)(add_up)("paid"),
            "process_rows: is the decorated function. Leave it out.",
        ),
        (
            lambda: task.burla_transform(**LABELS, batch_size=10, map_batch=label_batch)(label_batch)("a"),
            "map_batch: is the decorated function. Leave it out.",
        ),
        (
            lambda: task.burla_transform(**LABELS, map_batch=label_batch)(label_row)("a"),
            "map_row, map_batch: exactly one must be given, got map_row and map_batch.",
        ),
        (
            lambda: task.burla_postgres(**PAID, totals={"n": "count(*)"})(add_up)("paid"),
            "totals, process_rows, process_range: exactly one must be given, got totals and process_rows.",
        ),
        (
            lambda: task.burla_postgres(**PAID, op_kwargs={"status": "paid"})(add_up)(),
            "op_kwargs: are the arguments of the call. Call the decorated function with them.",
        ),
        (lambda: task.burla_postgres(**PAID, init=[1])(add_up)("paid"), "init: must be a dict, got [1]."),
        (lambda: task.burla_postgres(**PAID, init={"status": 1})(add_up)(), "init: must be a function, got 1."),
        (
            lambda: task.burla_postgres(**PAID, splits="width")(add_up)("paid"),
            "splits: @task.burla_postgres has no such parameter. Did you mean split?",
        ),
        (
            lambda: task.burla_postgres(**PAID, task_id="t")(lambda *, rows: {})(rows=[]),
            "process_rows: ",
        ),
        (lambda: task.burla_postgres(**PAID)(add_up).override(init=[1])("paid"), "init: must be a dict, got [1]."),
        (
            lambda: task.burla_postgres(**PAID, task_id="t")(lambda rows, minimum, /: {})(5),
            "process_rows: <lambda>(rows, minimum, /) gets its arguments by name. Leave out / and * after the first",
        ),
        (
            lambda: task.burla_transform(**LABELS, task_id="t")(lambda row, *more: None)(5),
            "map_row: <lambda>(row, *more) gets its arguments by name.",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(make: Any, message: str) -> None:
    with pytest.raises(InvalidParameterError) as raised:
        in_dag(make)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: task.burla_postgres(**PAID)(add_up)(), "missing a required argument: 'status'"),
        (lambda: task.burla_postgres(**PAID)(add_up)("paid", rows=[]), "got an unexpected keyword argument 'rows'"),
        (lambda: task.burla_postgres(**PAID)(add_up)("paid", 70), "too many positional arguments"),
        (lambda: task.burla_postgres(**PAID)(add_up).expand(table=["a"]), "unexpected keyword argument 'table'"),
        (lambda: task.burla_postgres(**PAID)(add_up).expand(rows=[[]]), "unexpected keyword argument 'rows'"),
        (lambda: task.burla_postgres(add_up)("paid"), "missing keyword argument 'table'"),
        (lambda: task.burla_postgres("orders"), "use named arguments instead|must be callable"),
    ],
)
def test_airflow_refuses_a_call_with_other_arguments_than_the_task_has(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        in_dag(make)
