"""
### Wait long for a busy cluster, fail at once on bad data

Needs Airflow 3.3.

The function raises an error if an order has a negative amount. A retry cannot change this, so the retry policy fails
the task at once. If no node of the cluster is free, waiting helps, so the policy retries every 15 minutes. All other
errors use the retries and the delay of the task.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule, dag

from burla_provider.exceptions import ClusterBusyError, RangesFailedError
from burla_provider.operators.postgres import BurlaPostgresOperator

PATIENT = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            ClusterBusyError,
            action=RetryAction.RETRY,
            retry_delay=datetime.timedelta(minutes=15),
            reason="No node is free: wait for other jobs to end.",
        ),
        RetryRule(
            RangesFailedError,
            action=RetryAction.FAIL,
            reason="Ranges failed: correct the data or the function, then clear the task.",
        ),
    ]
)


def check_amounts(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
    """Check the amounts of one range. Runs on a worker."""
    total = Decimal(0)
    for order_id, amount in rows:
        if amount < 0:
            raise ValueError(f"Order {order_id} has the negative amount {amount}.")
        total += amount
    return {"total_amount": total}


@dag(
    schedule="@daily",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    doc_md=__doc__,
    tags=["burla", "postgres"],
)
def patient_checks():
    BurlaPostgresOperator(
        task_id="check_amounts",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        table="orders",
        columns=["id", "amount"],
        process_rows=check_amounts,
        # A policy decides how to use the retries. It cannot add to them: 20 retries are up to 5 hours of waiting.
        retries=20,
        retry_delay=datetime.timedelta(seconds=30),
        retry_policy=PATIENT,
    )


patient_checks()
