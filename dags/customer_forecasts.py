"""
### A forecast per customer

Any function on any list: `@task.burla` calls `forecast` for each customer, in parallel, and returns the results in the
order of the customers. An ordinary task creates the list, and another one reads the results.
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
    # Amounts are text, because XCom stores JSON, which has no exact decimals.
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
        """Return the sum of the next five orders that 9 of 10 simulations exceed. Runs on a worker."""
        import random

        customer_id, texts = customer
        amounts = [Decimal(text) for text in texts]
        generator = random.Random(customer_id)  # noqa: S311 - the same forecast in each attempt
        sums = sorted(sum(generator.choices(amounts, k=5), Decimal(0)) for _ in range(simulations))
        return {"customer_id": customer_id, "at_least": sums[simulations // 10]}

    @task
    def report(forecasts: list[dict]) -> dict:
        best = max(forecasts, key=lambda forecast: float(forecast["at_least"]))
        print(f"{len(forecasts):,} customers; {best['customer_id']} is expected to spend most: {best['at_least']}")
        return best

    report(forecast(best_customers.output, simulations=2_000))


customer_forecasts()
