"""BurlaPostgresTransformOperator with write_mode="overwrite": rows of a target are replaced when all ranges are done."""

from __future__ import annotations

import datetime
from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database
from tests.support.task_runner import Airflow

LEFT = "SELECT count(*) FROM pg_class WHERE relname LIKE 'burla%' AND relkind = 'r'"
DAY = datetime.date(2026, 11, 20)


def score(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[0], DAY, row[1].upper()


@pytest.fixture
def scores(orders: Orders) -> psycopg.Connection[Any]:
    """The target. It has rows of this day and of the day before."""
    orders.connection.execute("""
        CREATE TABLE scores (id bigint, day date, label text, note text DEFAULT 'new', PRIMARY KEY (id, day));
        INSERT INTO scores SELECT id, '2026-11-19', 'before', 'old' FROM orders;
        INSERT INTO scores SELECT id, '2026-11-20', upper(status), 'old' FROM orders WHERE id < 30000;
        INSERT INTO scores SELECT -n, '2026-11-20', 'gone', 'old' FROM generate_series(1, 5) AS n;
        UPDATE scores SET label = 'differs' WHERE day = '2026-11-20' AND id BETWEEN 3 AND 30;
    """)
    return orders.connection


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "status"],
        "map_row": score,
        "target_table": "scores",
        "target_columns": ["id", "day", "label"],
        "write_mode": "overwrite",
        "overwrite_where": "day = '{{ ds }}'",
        "max_parallelism": 2,
        "ranges": 6,
    }
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


def ask(connection: psycopg.Connection[Any], query: str) -> Any:
    [(value,)] = connection.execute(query).fetchall()
    return value


def assert_replaced(connection: psycopg.Connection[Any]) -> None:
    wanted = """
        SELECT id, date '2026-11-20', upper(status) FROM orders
        UNION ALL SELECT id, '2026-11-19', 'before' FROM orders
    """
    for one, other in ((wanted, "SELECT id, day, label FROM scores"), ("SELECT id, day, label FROM scores", wanted)):
        assert connection.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_the_rows_of_a_day_are_replaced(airflow: Airflow, scores: Any, ledger: Any) -> None:
    [(equal, differ)] = scores.execute("""
        SELECT count(*) FILTER (WHERE label <> 'differs'), count(*) FILTER (WHERE label = 'differs')
        FROM scores WHERE day = '2026-11-20' AND id > 0
    """).fetchall()
    result = airflow.run(operator(ledger=ledger))
    assert result.state == "success", result.log
    assert result.value == {
        "row_count": 20_000,
        "rows_inserted": 20_000 - equal - differ,
        "rows_updated": differ,
        "rows_unchanged": equal,
        "rows_deleted": 5,
        "rows_filtered": 0,
    }
    assert_replaced(scores)
    assert ask(scores, "SELECT count(*) FROM scores WHERE note = 'old'") == 20_000 + equal + differ
    assert ask(scores, LEFT) == 0


def test_a_task_that_is_cleared_changes_nothing(airflow: Airflow, scores: Any) -> None:
    assert airflow.run(operator()).state == "success"
    before = scores.execute("SELECT xmin::text, * FROM scores").fetchall()
    value = airflow.run(operator(), max_tries=1, try_number=2).value
    assert (value["rows_unchanged"], value["rows_inserted"], value["rows_deleted"]) == (20_000, 0, 0)
    assert scores.execute("SELECT xmin::text, * FROM scores").fetchall() == before
