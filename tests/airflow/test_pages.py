"""Jobs that split a table with a primary key by its physical pages."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow

TOTALS = {"totals": {"total": "sum(amount)"}}


def add_up(rows: Iterable[tuple[Decimal]]) -> dict[str, Any]:
    return {"total": sum((amount for (amount,) in rows), Decimal(0))}


def count_in_range(connection: Any, key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), coalesce(sum(amount), 0) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, (key_range.start_id, key_range.end_id)).fetchone()
    return {"row_count": count, "total": total}


ROWS = {"process_rows": add_up, "columns": ["amount"]}


def operator(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(task_id="t", table="orders", postgres_conn_id="orders_db", **{"ranges": 7, **options})


@pytest.mark.parametrize("options", [TOTALS, ROWS, TOTALS | {"where": "note IS NOT NULL"}, ROWS | {"resume": False}])
def test_a_job_that_needs_no_key_reads_each_page_once(airflow: Airflow, orders: Orders, options: dict) -> None:
    result = airflow.run(operator(verify="count", **options))
    assert result.state == "success", result.log
    assert result.value["total"] == str(orders.ask("sum(amount)", options.get("where", "TRUE")))
    assert "The job needs no key, and in one snapshot each physical page is read only once." in result.log


@pytest.mark.parametrize(
    "options",
    [
        {"process_range": count_in_range},
        TOTALS | {"key": "id"},
        TOTALS | {"start_id": 1},
        ROWS | {"lower": 1},
        TOTALS | {"refine": True},
        ROWS | {"consistency": "none"},
        TOTALS | {"resume": True},
        TOTALS | {"split": "keyset"},
    ],
)
def test_a_job_that_needs_the_key_is_split_by_it(airflow: Airflow, orders: Orders, options: dict) -> None:
    result = airflow.run(operator(**options))
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    assert "key            id" in result.log


@pytest.mark.parametrize("options", [TOTALS, ROWS])
def test_an_index_of_the_key_that_finds_the_rows_is_used(airflow: Airflow, orders: Orders, options: dict) -> None:
    result = airflow.run(operator(where="id < %(end)s", parameters={"end": 500}, **options))
    assert result.value["total"] == str(orders.ask("sum(amount)", "id < 500"))
    assert "The index orders_pkey contains the key and is cheaper than reading all pages." in result.log


@pytest.mark.parametrize(("key", "expected"), [(None, "pages"), ("id", "key")])
def test_combine_gets_the_results_in_the_order_of_the_ranges(
    airflow: Airflow, orders: Orders, key: str | None, expected: str
) -> None:
    orders.connection.execute("""
        CREATE TABLE backwards AS SELECT * FROM orders ORDER BY id DESC;
        ALTER TABLE backwards ADD PRIMARY KEY (id);
        ANALYZE backwards;
    """)
    task = BurlaPostgresOperator(
        task_id="t",
        table="backwards",
        postgres_conn_id="orders_db",
        key=key,
        columns=["id"],
        process_rows=lambda rows: {"ids": [id for (id,) in rows]},
        combine=lambda values: {"ids": [id for value in values for id in value["ids"]]},
        ranges=5,
    )
    ids = airflow.run(task).value["ids"]
    assert len(ids) == 20000
    # Within a range of the key, rows have any order.
    starts = ids[:: len(ids) // 4]
    assert starts == sorted(starts, reverse=expected == "pages")


def test_a_partitioned_table_is_read_by_the_pages_of_each_partition(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("""
        ALTER TABLE orders RENAME TO source;
        CREATE TABLE orders (LIKE source, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (50000);
        CREATE TABLE orders_2 PARTITION OF orders DEFAULT;
        CREATE INDEX ON orders (amount);
        INSERT INTO orders SELECT * FROM source;
        ANALYZE orders;
    """)
    result = airflow.run(operator(totals={"total": "sum(orders.amount)"}, verify="count"))
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}, result.log
    assert "to the last in public.orders_2" in result.log


def test_a_condition_with_a_comment_and_odd_totals_is_planned(airflow: Airflow, orders: Orders) -> None:
    totals = {"notes": "count(note ORDER BY note)", "rows": "count(orders.*)", "some": "count(*) FILTER (WHERE id > 9)"}
    result = airflow.run(operator(totals=totals, where="amount > 0 -- not nothing ("))
    assert result.state == "success", result.log
    assert result.value["notes"] == orders.ask("count(note)", "amount > 0")
    assert "read only once" in result.log
