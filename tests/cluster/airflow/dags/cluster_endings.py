"""A task that inserts rows for five minutes, for tests that end it earlier."""

from __future__ import annotations

import datetime
import os

from airflow.sdk import dag

from burla_provider.operators.map import BurlaMapOperator
from tests.cluster.airflow.stamps import stamping


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), max_active_runs=1)
def cluster_endings():
    BurlaMapOperator(
        task_id="stamp",
        python_callable=stamping(os.environ["BURLA_TEST_STAMPS"]),
        inputs=[1, 2],
        requirements=["psycopg[binary]"],
        # Airflow waits for this delay before it restarts a task that was cleared while it ran.
        retry_delay=datetime.timedelta(seconds=1),
    )


cluster_endings()
