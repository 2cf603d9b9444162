"""Dynamic task mapping: the guide's function, one mapped task per range."""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from benchmarks.checksum import checksum


@dag(schedule=None, catchup=False)
def orders_mapped():
    @task
    def list_ranges():
        return get_current_context()["dag_run"].conf["ranges"]

    @task
    def process_id_range(id_range):
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        conf = get_current_context()["dag_run"].conf
        columns = "amount" if conf["job"] == "totals" else ", ".join(conf["columns"])
        query = f"SELECT {columns} FROM {conf['table']} WHERE id BETWEEN %s AND %s"
        rows = PostgresHook("orders_db").get_records(query, id_range)
        total = str(sum(amount for (amount,) in rows)) if conf["job"] == "totals" else sum(map(checksum, rows))
        return {"row_count": len(rows), "total": total}

    @task
    def combine(range_results):
        from decimal import Decimal

        range_results = list(range_results)
        rows = sum(result["row_count"] for result in range_results)
        return {"row_count": rows, "total": str(sum(Decimal(result["total"]) for result in range_results))}

    combine(process_id_range.expand(id_range=list_ranges()))


orders_mapped()
