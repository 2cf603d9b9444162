"""The tools that are compared. A side is a file here with a context manager ``ready`` (``benchmarks.task.Ready``)."""

from __future__ import annotations

from typing import NamedTuple


class Side(NamedTuple):
    """:param title: what the tables call it.
    :param environment: whose interpreter runs it: "provider", "tools" or "guide" (see ``environments.py``).
    :param note: what a reader of its figures must know.
    :param files: what a user would have to write, for both jobs.
    :param jobs: what it can do.
    :param cluster: it needs the Burla cluster.
    """

    title: str
    environment: str
    note: str
    files: tuple[str, ...]
    jobs: tuple[str, ...] = ("totals", "checksum")
    cluster: bool = False


SIDES = {
    "sql": Side(
        "one SQL query (limit of totals)",
        "provider",
        "count(*), sum(amount) in one statement; PostgreSQL may use parallel workers",
        ("sql.py",),
        ("totals",),
    ),
    "copy": Side(
        "COPY BINARY, thrown away (limit of rows)",
        "provider",
        "two processes receive all rows and do nothing with them",
        ("copy.py",),
        ("checksum",),
    ),
    "ours_local": Side(
        "**this provider, local engine**",
        "provider",
        "the operator through Airflow's task runner: plan, snapshot, workers, totals; sums are made in SQL",
        ("ours.py",),
    ),
    "ours_burla": Side(
        "**this provider, real Burla**",
        "provider",
        "the same DAG, the connection names the cluster",
        ("ours.py",),
        cluster=True,
    ),
    "ours_rows": Side(
        "**this provider, local engine, process_rows**",
        "provider",
        "as the tools that sum outside of the database: the amounts of all rows go to Python",
        ("ours.py",),
        ("totals",),
    ),
    "guide_pool": Side(
        "the guide, in a process pool",
        "provider",
        "its function and 25,000 ids a range; fetchall, float sums",
        ("guide.py", "guide_pool.py"),
    ),
    "guide_burla": Side(
        "the guide, on real Burla",
        "guide",
        "the same function on the cluster",
        ("guide.py", "guide_burla.py"),
        cluster=True,
    ),
    "connectorx": Side(
        "ConnectorX", "tools", "two partitions, into Arrow; its Python loop is one process", ("connectorx.py",)
    ),
    "polars": Side(
        "Polars", "tools", "read_database_uri with ConnectorX, two partitions; one Python process", ("polars.py",)
    ),
    "dask": Side("Dask", "tools", "read_sql_table, 24 partitions, two processes", ("dask.py",)),
    "ray": Side(
        "Ray Data",
        "tools",
        "read_sql, two shards: the key modulo 2, and each shard's query looks at all of the table",
        ("ray.py",),
    ),
    "spark": Side(
        "Spark JDBC", "tools", "local[2], 24 partitions between least and greatest id, a Python UDF", ("spark.py",)
    ),
    "mapping": Side(
        "Airflow dynamic task mapping",
        "provider",
        "airflow standalone, LocalExecutor; over the ranges that this provider plans; from trigger to last success, so "
        "with a scheduler and the start of every task, which the other sides, ours among them, run without",
        ("../mapped_dag/orders_mapped.py",),
    ),
}
