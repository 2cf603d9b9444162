"""
### Plan, ask a person, run

Trigger it with a form: a table and a window of `created_at`. The first task returns the plan and starts no job. Then a
person sees in **Required Actions** how many rows and ranges the job would process, and approves or rejects it. If it is
rejected, or nobody answers within 12 hours, the last task is skipped.
"""

from __future__ import annotations

import datetime

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param, dag

from burla_provider.operators.postgres import BurlaPostgresOperator


@dag(
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    params={
        # `table` becomes part of a query: allow only names.
        "table": Param("orders", type="string", pattern=r"^[a-z_][a-z0-9_.]*$", title="Table"),
        "begin": Param("2024-01-01T00:00:00Z", type="string", format="date-time", title="Begin, inclusive"),
        "end": Param("2024-01-02T00:00:00Z", type="string", format="date-time", title="End, exclusive"),
    },
    doc_md=__doc__,
    tags=["burla", "postgres"],
)
def approved_totals():
    job = {
        "postgres_conn_id": "orders_db",
        "burla_conn_id": "burla_default",
        "table": "{{ params.table }}",
        "key": "created_at",
        "lower": "{{ params.begin }}",
        "upper": "{{ params.end }}",
        "totals": {"total_amount": "sum(amount)"},
    }
    plan = BurlaPostgresOperator(task_id="plan", plan_only=True, **job)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Process {{ params.table }}?",
        body="""
{% set plan = ti.xcom_pull(task_ids="plan") %}
About {{ plan["expected_rows"] }} rows in {{ plan["ranges"] }} ranges of `{{ plan["key"] | join(", ") }}`.

{{ plan["reason"] }} {{ plan["hints"] | join(" ") }}
""",
        response_timeout=datetime.timedelta(hours=12),
        defaults=ApprovalOperator.REJECT,
    )
    run = BurlaPostgresOperator(task_id="sum_window", retries=2, retry_delay=datetime.timedelta(seconds=30), **job)
    plan >> approve >> run


approved_totals()
