"""What the log of a transform says about its key and its version."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import Asset

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.task_runner import Airflow

CHANGING = "Updates seem to change the key updated_at"
VERSION = "the one that is written last wins"
OVERWRITE = {"write_mode": "overwrite", "overwrite_where": "TRUE"}
TOUCH = "new.updated_at = now();"


@pytest.fixture
def copies(orders: Orders) -> Any:
    """The table that rows are written to."""
    orders.connection.execute("""
        ALTER TABLE orders ADD updated_at timestamptz NOT NULL DEFAULT '2026-11-01';
        CREATE TABLE copies (id bigint PRIMARY KEY, updated_at timestamptz)
    """)
    return orders.connection


def plan(airflow: Airflow, **options: Any) -> Any:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "updated_at"],
        "map_row": lambda row: row,
        "target_table": "copies",
        "write_mode": "upsert",
        "ledger": "runs",
        "plan_only": True,
    }
    return airflow.run(BurlaPostgresTransformOperator(task_id="t", **usual | options))


def in_place(airflow: Airflow, **options: Any) -> Any:
    usual = {"target_table": None, "write_mode": "update", "update_columns": ["note"], "columns": ["id"]}
    return plan(airflow, **usual | options)


def create_trigger(connection: Any, body: str) -> None:
    connection.execute(f"""
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    """)


@pytest.mark.parametrize(
    ("options", "is_warned"),
    [
        ({"key": "updated_at"}, True),
        ({"key": ["updated_at", "id"]}, True),
        ({"key": "id"}, False),
        ({"key": "updated_at", "ledger": None}, False),  # a retry reads one snapshot, or starts from the beginning
        ({"key": "updated_at", "ledger": None, "resume": True}, True),
        ({"key": "updated_at", "ledger": None, "consistency": "none"}, True),
        ({"key": "updated_at", "ledger": None, **OVERWRITE}, True),  # a retry continues with the rows that are staged
        ({"key": "updated_at", "ledger": None, **OVERWRITE, "resume": False}, False),
    ],
)
def test_a_key_that_updates_change_is_warned_of(
    airflow: Airflow, copies: Any, options: dict[str, Any], is_warned: bool
) -> None:
    result = plan(airflow, **options)
    assert result.state == "success", result.error
    assert (CHANGING in result.log) == is_warned


def test_the_version_column_is_a_key_that_updates_change(airflow: Airflow, copies: Any) -> None:
    copies.execute("ALTER TABLE orders RENAME updated_at TO v; ALTER TABLE copies RENAME updated_at TO v")
    log = plan(airflow, key="v", version_column="v", columns=["id", "v"]).log
    assert "Updates seem to change the key v (it is the version_column)." in log


@pytest.mark.parametrize(
    ("body", "is_set"),
    [
        (TOUCH, True),
        ('IF new.note IS NOT NULL THEN NEW . "updated_at" := now(); END IF;', True),
        ("IF new.updated_at = old.updated_at THEN new.note = 'x'; END IF;", False),
        ("-- new.updated_at = now();\n", False),
        ("new.updated_at_2 = now();", False),
    ],
)
def test_a_key_that_a_trigger_sets_is_refused_in_place(airflow: Airflow, copies: Any, body: str, is_set: bool) -> None:
    create_trigger(copies, body)
    result = in_place(airflow, key="updated_at")
    problem = "key: the trigger touch sets updated_at in each update"
    assert str(result.error).startswith(problem) if is_set else result.state == "success"
    assert ("(the trigger touch sets it)" in plan(airflow, key="updated_at").log) == is_set


@needs_state_stores
def test_a_key_that_a_trigger_sets_may_be_the_window_of_incremental_runs(airflow: Airflow, copies: Any) -> None:
    create_trigger(copies, TOUCH)
    result = plan(airflow, key="updated_at", incremental=True, outlets=[Asset("copies")])
    assert result.state == "success", result.error
    assert CHANGING not in result.log


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ({}, False),  # the key of a row is passed through
        ({"key": "updated_at", "ledger": None}, False),
        ({"conflict_columns": ["status"]}, True),
        ({"conflict_columns": ["status"], "key": "status"}, False),
        ({"conflict_columns": ["status"], "update_columns": []}, False),
        ({"conflict_columns": ["status"], "version_column": "updated_at"}, False),
    ],
)
def test_the_hint_for_an_upsert_of_equal_keys_names_version_column(
    airflow: Airflow, copies: Any, options: dict[str, Any], is_told: bool
) -> None:
    copies.execute("ALTER TABLE copies ADD status text NOT NULL UNIQUE")
    columns = ["id", "updated_at", "status"]
    result = plan(airflow, **{"columns": columns} | options)
    assert result.state == "success", result.error
    assert (VERSION in result.log) == is_told
