"""The sides of ``benchmarks/batches.py``: tools that hand batches of rows to a vectorised function."""

from __future__ import annotations

from benchmarks.sides import Side

JOBS = ("points", "score")


def _side(title: str, environment: str, note: str, *, cluster: bool = False) -> Side:
    return Side(title, environment, note, (), JOBS, cluster)


CONSTRUCTORS = "ours_class"
"""The side that counts instances of a class."""

BATCHERS = {
    "ours_arrow": _side("**this provider, Arrow**", "provider", "the operator in Airflow's task runner, two workers"),
    "ours_polars": _side("**this provider, Polars**", "provider", "the same with Polars frames"),
    "ours_pandas": _side("**this provider, pandas**", "provider", "the same with pandas frames of Arrow's types"),
    "ours_tuples": _side("**this provider, tuples**", "provider", "a loop over rows, for comparison"),
    "ours_burla": _side("**this provider, Arrow, real Burla**", "provider", "two workers of a cluster", cluster=True),
    CONSTRUCTORS: Side("this provider, a class", "provider", "records its instances", (), ("constructors",)),
    "duckdb": _side("DuckDB", "tools", "its PostgreSQL extension with two threads; Arrow batches in two threads"),
    "connectorx": _side("ConnectorX", "tools", "two partitions into one Arrow table; its batches in two threads"),
    "polars": _side("Polars", "tools", "read_database_uri with ConnectorX, two partitions; expressions of Polars"),
    "daft": _side("Daft", "daft", "read_sql with ConnectorX, two partitions; a class with a batch method"),
    "ray": _side("Ray Data", "tools", "read_sql with two shards; map_batches with Arrow"),
    "spark": _side("Spark", "tools", "a JDBC read of 24 partitions, two tasks at a time; mapInPandas"),
}
