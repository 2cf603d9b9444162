"""A job that does not end by itself, for tests that stop it."""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path

from airflow.sdk import dag

from burla_provider.operators.map import BurlaMapOperator

GATE = Path(os.environ["BURLA_UI_GATE"])


def sleep_long(number: int) -> int:
    (GATE / f"asleep-{os.getpid()}").touch()
    time.sleep(3600)
    return number


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), max_active_runs=1)
def ui_endings():
    BurlaMapOperator(
        task_id="sleep",
        python_callable=sleep_long,
        inputs=[1, 2],
        burla_conn_id="burla_local",
        # Airflow waits this long before it restarts a task that was cleared while it ran. The default is five minutes.
        retry_delay=datetime.timedelta(seconds=3),
    )


ui_endings()
