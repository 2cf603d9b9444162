"""The sides are the tools that are compared: modules with a context manager ``ready`` (``benchmarks.task.Ready``)."""

from __future__ import annotations

from typing import NamedTuple


class Side(NamedTuple):
    """A tool.

    :param title: name in the tables.
    :param environment: interpreter that runs it: "provider", "tools", "daft" or "guide" (see ``environments.py``).
    :param note: what readers of its figures must know.
    :param files: the code that a user has to write for both jobs.
    :param jobs: jobs that it can run.
    :param cluster: whether it needs the Burla cluster.
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
        "COPY BINARY, discarded (limit of rows)",
        "provider",
        "two processes receive all rows and discard them",
        ("copy.py",),
        ("checksum",),
    ),
    "ours_local": Side(
        "**this provider, local engine**",
        "provider",
        "the operator in Airflow's task runner: plan, snapshot, workers, totals; SQL computes the sums",
        ("ours.py",),
    ),
    "ours_burla": Side(
        "**this provider, real Burla**",
        "provider",
        "the same DAG with a connection to the cluster",
        ("ours.py",),
        cluster=True,
    ),
    "ours_rows": Side(
        "**this provider, local engine, process_rows**",
        "provider",
        "for comparison with tools that sum outside of the database: the amounts of all rows are read into Python",
        ("ours.py",),
        ("totals",),
    ),
    "ours_arrow": Side(
        "**this provider, local engine, Arrow**",
        "provider",
        "functions on Arrow batches; all rows are read into Python, as by the tools below",
        ("arrow.py",),
    ),
    "guide_pool": Side(
        "the guide, in a process pool",
        "provider",
        "its function with 25,000 ids per range; fetchall, float sums",
        ("guide.py", "guide_pool.py"),
    ),
    "guide_burla": Side(
        "the guide, on real Burla",
        "guide",
        "the same function on the cluster",
        ("guide.py", "guide_burla.py"),
        cluster=True,
    ),
    "duckdb": Side(
        "DuckDB",
        "tools",
        "its PostgreSQL extension with two threads: ranges of pages in one snapshot, aggregates in DuckDB; the "
        "function runs on Arrow batches in two processes",
        ("duckdb.py",),
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
        "read_sql, two shards by the key modulo 2; the query of each shard reads the whole table",
        ("ray.py",),
    ),
    "spark": Side(
        "Spark JDBC", "tools", "local[2], 24 partitions between minimum and maximum id, a Python UDF", ("spark.py",)
    ),
    "mapping": Side(
        "Airflow dynamic task mapping",
        "provider",
        "airflow standalone, LocalExecutor, with this provider's ranges; measured from trigger to last success, so "
        "it includes the scheduler and the start of each task, unlike all other sides",
        ("../mapped_dag/orders_mapped.py",),
    ),
}
