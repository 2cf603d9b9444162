"""Tasks whose templates have secrets, and that print them and fail with them."""

from __future__ import annotations

import datetime
from typing import Any

from airflow.sdk import DAG, Asset

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator

SECRETS = {"password": "{{ conn.service.password }}", "token": "{{ var.value.api_token }}"}
TABLE: dict[str, Any] = {"table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 4}


def count_and_fail(rows: Any, password: str, token: str) -> dict[str, int]:
    print(f"rows with {password} and {token}")
    count = 0
    for id, *_ in rows:
        count += 1
        if id > 60_000:
            raise RuntimeError(f"no rows for password={password} token={token}")
    return {"n": count}


def call_and_fail(number: int, password: str, token: str) -> int:
    print(f"called with {password} and {token}")
    if number == 3:
        raise RuntimeError(f"no call for password={password} token={token}")
    return number


with DAG(
    "secrets_everywhere",
    schedule=None,
    start_date=datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC),
    default_args={"retries": 0},
):
    BurlaPostgresOperator(task_id="failing", process_rows=count_and_fail, op_kwargs=SECRETS, **TABLE)
    BurlaMapOperator(task_id="mapped", python_callable=call_and_fail, inputs=[1, 2, 3, 4], op_kwargs=SECRETS)
    BurlaPostgresOperator(
        task_id="incremental",
        totals={"n": "count(*)"},
        where="note IS DISTINCT FROM %(token)s",
        parameters={"token": SECRETS["token"]},
        incremental=True,
        outlets=[Asset("counted")],
        **TABLE,
    )
