"""Operators where DAG authors put them: in task groups, mapped, mapped by a decorator, with inputs of earlier tasks."""

from __future__ import annotations

from airflow.sdk import dag, task, task_group

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator


@task.burla_postgres(postgres_conn_id="orders_db", table="orders", columns=["amount"], where="status = 'paid'")
def count_large(rows, minimum):
    """Return the number of amounts from a minimum on. It is at module level, where its name is the task's."""
    return {"number": sum(amount >= minimum for (amount,) in rows)}


def double(number):
    return {"{{ not a template }}": 2 * number}


@dag(schedule=None)
def authoring():
    @task_group
    def per_status(status):
        BurlaPostgresOperator(
            task_id="sum",
            postgres_conn_id="orders_db",
            table="orders",
            where="status = %s",
            parameters=[status],
            totals={"total": "sum(amount)"},
        )

    per_status.expand(status=["paid", "open"])

    @task(multiple_outputs=True)
    def find():
        return {"table": "orders", "numbers": [3, 1, 2], "minimum": 3}

    found = find()
    BurlaPostgresOperator(
        task_id="of_an_earlier_task",
        postgres_conn_id="orders_db",
        table=found["table"],
        totals={"last": "max(id)"},
    )
    BurlaMapOperator(task_id="doubled", python_callable=double, inputs=found["numbers"])

    BurlaMapOperator.partial(task_id="doubled_lists", python_callable=double, trial_inputs=1).expand(
        inputs=[[4, 5], [6]]
    )

    @task.burla
    def add(number, more):
        return number + more

    add.partial(number=[1, 2]).expand(more=[10, 20])

    @task
    def ten_times(number):
        return 10 * number

    tens = ten_times.expand(number=[1, 2])

    @task.burla
    def pair(number, more):
        return [number, more]

    pair(tens, more=tens)
    BurlaPostgresOperator(
        task_id="sum_of_tens",
        postgres_conn_id="orders_db",
        table="orders",
        process_rows=lambda rows, tens: {"tens": sum(tens)},
        op_kwargs={"tens": tens},
        ranges=1,
    )
    BurlaMapOperator(
        task_id="with_tens",
        python_callable=lambda number, tens: [number, tens],
        inputs=[1],
        op_kwargs={"tens": tens.map(lambda ten: ten + 1)},
    )

    @task
    def minimums():
        return [10, 500]

    count_large(found["minimum"])
    count_large.override(task_id="count_each").expand(minimum=minimums())


authoring()
