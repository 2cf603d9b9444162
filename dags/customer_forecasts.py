"""
### Next month, customer by customer

Any function over any list: `@task.burla` calls `forecast` on every customer, in parallel, and hands on the results in
the order of the customers. The list comes from an ordinary task, and an ordinary task reads the results.
"""

from __future__ import annotations

import datetime
from decimal import Decimal

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task


@dag(
    schedule="@weekly",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "map"],
)
def customer_forecasts():
    # Amounts as text: JSON, in which results travel between tasks, knows no exact decimals.
    best_customers = SQLExecuteQueryOperator(
        task_id="best_customers",
        conn_id="orders_db",
        sql="""
            SELECT customer_id, array_agg(amount::text ORDER BY id) FROM orders
            WHERE status IN ('paid', 'shipped') GROUP BY customer_id ORDER BY sum(amount) DESC, customer_id LIMIT 100
        """,
    )

    @task.burla(burla_conn_id="burla_default")
    def forecast(customer, simulations):
        """What the customer's next five orders come to, as 9 in 10 simulations have it. Runs on a worker."""
        import random

        customer_id, texts = customer
        amounts = [Decimal(text) for text in texts]
        chance = random.Random(customer_id)  # noqa: S311 - the same forecast whenever it is worked
        sums = sorted(sum(chance.choices(amounts, k=5), Decimal(0)) for _ in range(simulations))
        return {"customer_id": customer_id, "at_least": sums[simulations // 10]}

    @task
    def report(forecasts: list[dict]) -> dict:
        best = max(forecasts, key=lambda one: float(one["at_least"]))
        print(
            f"Of {len(forecasts):,} customers, {best['customer_id']} may be expected to spend most: {best['at_least']}"
        )
        return best

    report(forecast(best_customers.output, simulations=2_000))


customer_forecasts()
