"""Operators in a process of its own, where OpenLineage listens and writes its events to a file.

OpenLineage reads its settings once in a process, and they are in the environment: that is why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.task_runner import Airflow


def emitted(directory: Path, connection: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The events of one try of each of ``TASKS``, by its name.

    :param connection: fields of the Airflow connection ``orders_db``.
    """
    file = directory / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    answer = subprocess.run(
        [sys.executable, "-m", "tests.support.lineage_run"],
        input=json.dumps(connection),
        capture_output=True,
        text=True,
        env={**os.environ, "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)},
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return {name: [event for event in events if event["job"]["name"] == f"test_dag.{name}"] for name in TASKS}


def totals() -> dict[str, Any]:
    from airflow.sdk import Asset

    return {
        "totals": {"total": "sum(amount)"},
        "where": "status = 'paid'",
        "inlets": [Asset("postgres://elsewhere:5432/db/public/rates")],
        "outlets": [Asset("postgres://elsewhere:5432/db/public/reports")],
        "results_table": "range_results",
    }


def failing() -> dict[str, Any]:
    def fail_late(rows: Iterable[tuple[int, Any]]) -> dict[str, Any]:
        if any(id > 500 for id, _ in rows):
            raise ValueError("too late")
        return {}

    return {"process_rows": fail_late, "columns": ["id", "amount"]}


def nowhere() -> dict[str, Any]:
    return {"totals": {"total": "sum(amount)"}, "postgres_conn_id": "no_such_connection"}


def transform() -> dict[str, Any]:
    return {"map_row": lambda row: row, "target_table": "copies", "write_mode": "upsert"}


def plan() -> dict[str, Any]:
    return {**transform(), "plan_only": True}


def mapped() -> dict[str, Any]:
    from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector
    from airflow.sdk import Asset

    def read_inputs() -> list[int]:
        collector = get_hook_lineage_collector()
        collector.add_input_asset(read_inputs, uri="postgres://elsewhere:5432/db/public/list")
        return [1, 2]

    return {
        "python_callable": lambda number, password: number,
        "inputs": read_inputs,
        "op_kwargs": {"password": "{{ conn.orders_db.password }}"},
        "inlets": [Asset("postgres://elsewhere:5432/db/public/rates")],
        "outlets": [Asset("postgres://elsewhere:5432/db/public/reports")],
    }


TABLE_TASKS = {"totals": totals, "failing": failing, "nowhere": nowhere, "transform": transform, "plan": plan}
TASKS = {"mapped", *TABLE_TASKS}


def main() -> None:
    from burla_provider.operators.map import BurlaMapOperator
    from burla_provider.operators.postgres import BurlaPostgresOperator
    from burla_provider.operators.transform import BurlaPostgresTransformOperator

    airflow = Airflow()
    airflow.add_connection("burla_default", "burla", extra={"engine": "local"})
    airflow.add_connection("orders_db", "postgres", **json.load(sys.stdin))
    options = {"table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 7}
    for name, make in TABLE_TASKS.items():
        operator = BurlaPostgresTransformOperator if make in (transform, plan) else BurlaPostgresOperator
        print(airflow.run(operator(**{**options, "task_id": name, **make()})).log)
    # The last one: the collector of the hooks' datasets is that of the process.
    print(airflow.run(BurlaMapOperator(task_id="mapped", **mapped())).log)


if __name__ == "__main__":
    main()
