"""The jobs of the browser tests: skewed, with failed ranges, waiting, with a range that hangs, and others."""

from __future__ import annotations

import datetime
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from airflow.sdk import dag, task

from burla_provider.links.burla import BurlaJobLink
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator

GATE = Path(os.environ["BURLA_UI_GATE"])
"""An empty directory. Until it has a file ``open``, only FREE_RANGES ranges of ``wait_orders`` end."""
FREE_RANGES = 40
JOB_URL = "http://127.0.0.1:5001/jobs/ui_orders-abcdefghijkl"

ON_THIS_MACHINE = {"burla_conn_id": "burla_local", "postgres_conn_id": "orders_db", "max_parallelism": 4}


def digest(rows: Iterable[tuple[int, ...]]) -> dict[str, Any]:
    bits = 0
    for (number,) in rows:
        value = str(number).encode()
        for _ in range(12):
            value = hashlib.sha256(value).digest()
        bits += value[0] & 1
    return {"odd": bits}


def wait_at_the_gate(rows: Iterable[tuple[int, ...]]) -> dict[str, Any]:
    free = take_ticket()
    while not free and not (GATE / "open").exists():
        time.sleep(0.05)
    return {"seen": sum(1 for _ in rows)}


def take_ticket() -> bool:
    for number in range(FREE_RANGES):
        try:
            (GATE / f"ticket-{number}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return False


def wait_in_one_range(connection: Any, key_range: Any) -> dict[str, Any]:
    """One range ends when a file ``hung`` exists. Each creates a file when it ends."""
    while key_range.index == 11 and not (GATE / "hung").exists():
        time.sleep(0.05)
    time.sleep(0.2)
    (GATE / f"ended-{key_range.index}").touch()
    return {"checked": 1}


def fail_some(connection: Any, key_range: Any) -> dict[str, Any]:
    if key_range.index in (5, 21):
        raise ValueError(f'row {key_range.start_id} is <img src=x onerror="alert(1)">, not an amount')
    if key_range.index == 30:
        connection.execute("SELECT 1 / 0")
    return {"checked": 1}


def fail_once(connection: Any, key_range: Any) -> dict[str, Any]:
    """Some ranges fail in the first try only. Each call creates a file."""
    (GATE / f"worked-{key_range.index}-{time.time_ns()}").touch()
    if key_range.index % 16 == 5 and len(list(GATE.glob(f"worked-{key_range.index}-*"))) == 1:
        raise ValueError("not yet")
    return {"checked": 1}


def double(number: int) -> int:
    return 2 * number


class MapWithPage(BurlaMapOperator):
    """Says, as the Burla engine does, that its job has a page."""

    def execute_job(self, config: Any, runner: Any) -> Any:
        result = super().execute_job(config, runner)
        BurlaJobLink.publish(runner.context, JOB_URL)
        return result


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))
def ui_orders():
    BurlaPostgresOperator(
        task_id="digest_orders",
        table="orders",
        columns=["id"],
        process_rows=digest,
        split="width",
        ranges=64,
        **ON_THIS_MACHINE,
    )
    BurlaPostgresOperator(
        task_id="check_orders", table="steady", process_range=fail_some, split="width", ranges=48, **ON_THIS_MACHINE
    )
    _, resume_orders = (
        BurlaPostgresOperator(
            task_id=task_id,
            table="steady",
            process_range=function,
            split="width",
            ranges=48,
            retries=1,
            retry_delay=datetime.timedelta(seconds=delay),
            **ON_THIS_MACHINE,
        )
        for task_id, function, delay in [("retry_orders", fail_some, 3600), ("resume_orders", fail_once, 1)]
    )
    wait_orders = BurlaPostgresOperator(
        task_id="wait_orders",
        table="steady",
        columns=["id"],
        process_rows=wait_at_the_gate,
        split="width",
        ranges=64,
        **ON_THIS_MACHINE,
    )
    # The sessions at the gate do not report their statistics, without which the retry starts from the beginning.
    resume_orders >> wait_orders
    hung_orders = BurlaPostgresOperator(
        task_id="hung_orders",
        table="steady",
        process_range=wait_in_one_range,
        split="width",
        ranges=48,
        **ON_THIS_MACHINE,
    )

    @task
    def wait_for_the_test() -> None:
        """End when a file ``hang`` exists. In a job that has waited for long, the log has fewer lines."""
        while not (GATE / "hang").exists():
            time.sleep(0.5)

    wait_orders >> wait_for_the_test() >> hung_orders
    BurlaPostgresOperator(
        task_id="tolerate_orders",
        table="steady",
        process_range=fail_some,
        split="width",
        ranges=48,
        tolerated_failures=5,
        **ON_THIS_MACHINE,
    )
    BurlaPostgresOperator(
        task_id="plan_orders",
        table="orders",
        columns=["id"],
        process_rows=digest,
        split="width",
        ranges=64,
        plan_only=True,
        **ON_THIS_MACHINE,
    )
    BurlaPostgresOperator(task_id="miss_table", table="ordes", totals={"maximum": "max(id)"}, **ON_THIS_MACHINE)
    BurlaPostgresOperator.partial(task_id="count_table", totals={"maximum": "max(id)"}, **ON_THIS_MACHINE).expand(
        table=["orders", "steady"]
    )
    MapWithPage(task_id="double_numbers", python_callable=double, inputs=[1, 2, 3], burla_conn_id="burla_local")

    @task
    def not_on_burla() -> None:
        return None

    not_on_burla()


ui_orders()
