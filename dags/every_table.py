"""
### Count the rows of every table

Dynamic task mapping: one mapped task per table that exists when the DAG runs. Each splits its table into ranges. The
grid shows the mapped tasks with the names of their tables.
"""

from __future__ import annotations

import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag, task

from burla_provider.operators.postgres import BurlaPostgresOperator


@dag(
    schedule="@weekly",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    default_args={"retries": 2, "retry_delay": datetime.timedelta(seconds=30)},
    doc_md=__doc__,
    tags=["burla", "postgres", "mapping"],
)
def every_table():
    find_tables = SQLExecuteQueryOperator(
        task_id="find_tables",
        conn_id="orders_db",
        sql="""
            SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = 'public' ORDER BY 1
        """,
    )
    count_rows = BurlaPostgresOperator.partial(
        task_id="count_rows",
        postgres_conn_id="orders_db",
        burla_conn_id="burla_default",
        totals={"rows": "count(*)"},
        map_index_template="{{ task.table }}",
        # All of them use the same database.
        max_active_tis_per_dagrun=2,
    ).expand(table=find_tables.output.map(lambda row: row[0]))

    @task
    def add_up(counts: list[dict]) -> int:
        total = sum(count["rows"] for count in counts)
        print(f"{total:,} rows in {len(counts):,} tables")
        return total

    add_up(count_rows.output)


every_table()
