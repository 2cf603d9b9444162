"""The sides of ``benchmarks/writing.py``: ways to write what Python makes of each row of a table to another table."""

from __future__ import annotations

from benchmarks.sides import Side

INSERT = ("insert",)
ALL = ("insert", "upsert", "repeat", "update", "in_place")

LIMITS = ("copy", "sql")
CALL_PYTHON = ("execute_values", "executemany", "pandas", "spark", "ray")
"""What people write today."""

WRITERS = {
    "sql": Side("one SQL statement (limit)", "provider", "without Python, within the server", (), ALL),
    "copy": Side("COPY alone (limit)", "provider", "one session; the rows are ready in memory", (), INSERT),
    "ours_local": Side("**this provider, local engine**", "provider", "two workers", (), ALL),
    "ours_burla": Side("**this provider, real Burla**", "provider", "two workers", (), ALL, cluster=True),
    "execute_values": Side("psycopg2 execute_values", "provider", "one process, 1,000 rows per statement", (), ALL),
    "executemany": Side("psycopg executemany", "provider", "one process, pipelined, 10,000 rows per call", (), ALL),
    "pandas": Side("pandas to_sql", "tools", "one process, 10,000 rows per chunk; reads numeric as float", (), INSERT),
    "spark": Side("Spark JDBC append", "tools", "a Python UDF, two tasks; each commits on its own", (), INSERT),
    "ray": Side("Ray write_sql", "tools", "psycopg2 executemany, each task commits on its own", (), INSERT),
    "duckdb": Side("DuckDB INSERT", "tools", "SQL expressions instead of Python, two threads", (), INSERT),
}
