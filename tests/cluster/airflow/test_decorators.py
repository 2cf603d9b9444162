"""Each decorator on a real cluster."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk import DAG, task

from tests.airflow.conftest import Orders
from tests.support.task_runner import START, Airflow

ORDERS = {"postgres_conn_id": "orders_db", "table": "orders", "columns": ["id", "amount", "status"], "ranges": 6}


def in_dag(make: Any) -> Any:
    """The only task of a DAG that ``make`` fills."""
    with DAG("test_dag", start_date=START, schedule=None, params={"status": "paid"}) as made:
        make()
    [operator] = made.tasks
    return operator


def test_a_function_of_rows_returns_the_totals_of_a_query(on_burla: Airflow, orders: Orders) -> None:
    def make() -> None:
        @task.burla_postgres(**ORDERS)
        def add_up(rows, status):
            return {"total": sum((amount for _, amount, row_status in rows if row_status == status), Decimal(0))}

        add_up("{{ params.status }}")

    result = on_burla.run(in_dag(make))
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)", "status = 'paid'"))}, result.log


def assert_doubled(orders: Orders) -> None:
    query = "SELECT count(*) FROM doubled JOIN orders USING (id) WHERE doubled.amount = orders.amount * 2"
    assert orders.connection.execute(query).fetchall() == [(20_000,)]


@pytest.mark.parametrize("batch", [{}, {"batch_size": 700}], ids=["row", "batch"])
def test_a_function_of_a_row_or_a_batch_writes_what_a_query_returns(
    on_burla: Airflow, orders: Orders, batch: dict[str, Any]
) -> None:
    orders.connection.execute("CREATE TABLE doubled (id bigint PRIMARY KEY, amount numeric)")

    def make() -> None:
        @task.burla_transform(**ORDERS, **batch, target_table="doubled", write_mode="upsert")
        def double(rows, factor):
            doubled = [(row[0], row[1] * factor) for row in (rows if isinstance(rows, list) else [rows])]
            return doubled if isinstance(rows, list) else doubled[0]

        double(factor=2)

    result = on_burla.run(in_dag(make))
    assert result.value["rows_written"] == 20_000, result.log
    assert_doubled(orders)


def test_a_class_writes_what_it_returns_for_batches(on_burla: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE TABLE doubled (id bigint PRIMARY KEY, amount numeric)")

    def make() -> None:
        @task.burla_transform(**ORDERS, batch_format="pandas", target_table="doubled", write_mode="upsert")
        class Double:
            def __init__(self, factor):
                self.factor = factor

            def __call__(self, frame):
                return frame[["id"]].assign(amount=frame["amount"] * self.factor)

        Double(factor=2)

    result = on_burla.run(in_dag(make))
    assert result.value["rows_written"] == 20_000, result.log
    assert_doubled(orders)


def test_a_function_of_an_item_returns_a_list(on_burla: Airflow) -> None:
    def make() -> None:
        @task.burla(func_cpu=1, func_gpu="{{ '' }}", init={"power": lambda: pow})
        def square(number, power):
            return power(number, 2)

        square([1, 2, 3])

    assert on_burla.run(in_dag(make)).value == [1, 4, 9]
