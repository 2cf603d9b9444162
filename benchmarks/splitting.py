"""Measure how balanced ranges are and how long planning takes: fixed width, ntile() and the planner.

    python benchmarks/splitting.py                     on a table of 10,000,000 rows
    python benchmarks/splitting.py --rows 1000000      on a smaller one

80 % of the table's rows are in 1 % of its ids, the other ids have gaps; timestamps come in bursts; one tenant has
30 % of the rows. The ways plan the same number of ranges alternately; the fastest of ``--times`` runs counts. The rows
of each range are counted afterwards. Balance is the largest range divided by the average range.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.ranges import KeyRange, RangePlan, plan_ranges

TABLE = """
    CREATE TABLE gappy AS
    SELECT
        CASE WHEN n % 5 = 0 THEN n * 100 ELSE {rows} * 50 + n END::bigint AS id,
        md5(n::text)::uuid AS token,
        'customer-' || md5((n / 3)::text) AS name,
        timestamptz '2024-01-01 00:00Z' + (n - n % 20000 + n % 20000 / 50) * interval '1 second' AS at,
        CASE WHEN n % 10 < 3 THEN 1 ELSE n * 7919 % 5003 END::int AS tenant,
        n
    FROM generate_series(1::bigint, {rows}) AS n
"""
NOT_NULL = "ALTER TABLE gappy " + ", ".join(
    f"ALTER {column} SET NOT NULL" for column in ("id", "token", "name", "at", "tenant", "n")
)
KEYS: dict[str, list[str]] = {
    "id (bigint)": ["id"],
    "token (uuid)": ["token"],
    "name (text)": ["name"],
    "at (timestamptz)": ["at"],
    "tenant, n (composite)": ["tenant", "n"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--ranges", type=int, default=64)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--version", type=int, default=16, help="of PostgreSQL")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory(arguments.memory_of)))
        return
    with table(arguments.rows, arguments.version) as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        compare(connection, arguments.ranges, arguments.times)
        plan_many(connection, conninfo, arguments.rows, arguments.times)


@contextmanager
def table(rows: int, version: int) -> Iterator[str]:
    """Run a server with the table in a temporary directory."""
    settings = {"shared_buffers": "512MB", "fsync": "off", "max_wal_size": "8GB", "maintenance_work_mem": "256MB"}
    with tempfile.TemporaryDirectory(prefix="burla-splitting-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        with EmbeddedPostgres(home / "server", version=version, settings=settings) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                show(f"creating {rows:,} rows and {len(KEYS)} indexes on PostgreSQL {version}")
                connection.execute(TABLE.format(rows=rows))
                connection.execute(NOT_NULL)
                connection.execute("ALTER TABLE gappy ADD PRIMARY KEY (id)")
                for columns in list(KEYS.values())[1:]:
                    connection.execute(f"CREATE INDEX ON gappy ({', '.join(columns)})")
                connection.execute("VACUUM ANALYZE gappy")
            yield server.conninfo()


def compare(connection: psycopg.Connection, count: int, times: int) -> None:
    """Plan ``count`` ranges for each key in each way."""
    show(f"\n{count} ranges{'':<16} {'way':<22} {'ms':>9} {'ranges':>7} {'balance':>8}   {'by ntile()':>10}")
    for name, columns in KEYS.items():
        ways = ways_for(connection, columns, count)
        seconds = {way: float("inf") for way in ways}
        plans: dict[str, RangePlan | None] = {}
        for _ in range(times):
            for way, plan in ways.items():
                started = time.perf_counter()
                plans[way] = plan()
                seconds[way] = min(seconds[way], time.perf_counter() - started)
        for way, plan in plans.items():
            sizes = count_rows(connection, plan.ranges) if plan else []
            balance = f"{max(sizes) / (sum(sizes) / len(sizes)):8.2f}" if sizes else f"{1:8.2f}"
            ratio = seconds["ntile()"] / seconds[way]
            show(f"{name:<26} {way:<22} {seconds[way] * 1000:9.1f} {len(sizes) or count:7,} {balance} {ratio:10,.0f}x")


def ways_for(
    connection: psycopg.Connection, columns: Sequence[str], count: int
) -> dict[str, Callable[[], RangePlan | None]]:
    def planned(**request: Any) -> Callable[[], RangePlan]:
        return lambda: plan_ranges(connection, table="gappy", key=list(columns), ranges=count, **request)

    ways: dict[str, Callable[[], RangePlan | None]] = {"ntile()": lambda: ntile(connection, columns, count)}
    if columns in (["id"], ["token"], ["at"]):
        ways["fixed width"] = planned(split="width")
    return {**ways, "planner": planned(), "planner, refine=True": planned(refine=True)}


def ntile(connection: psycopg.Connection, columns: Sequence[str], count: int) -> None:
    """Run the usual query for equal ranges. Its ranges are exactly equal, so they are not counted."""
    # min(uuid) does not exist before version 18. For several columns, a real query would cost more.
    query = sql.SQL(
        "SELECT tile, min({first}::text)"
        " FROM (SELECT {first}, ntile({count}) OVER (ORDER BY {keys}) AS tile FROM gappy) AS tiles GROUP BY tile"
    ).format(
        first=sql.Identifier(columns[0]),
        count=sql.Literal(count),
        keys=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    connection.execute(query).fetchall()


def plan_many(connection: psycopg.Connection, conninfo: str, rows: int, times: int) -> None:
    """Plan the maximum number of ranges."""
    count = min(100_000, rows)
    show(f"\n{count:,} ranges{'':<12} {'way':<22} {'ms':>9} {'ranges':>7} {'balance':>8}   {'MB':>10}")
    requests = {
        ("id (bigint)", "planner"): {"key": "id"},
        ("id (bigint)", "histogram"): {"key": "id", "split": "histogram"},
        ("id (bigint)", "fixed width"): {"key": "id", "split": "width"},
        ("token (uuid)", "planner"): {"key": "token"},
        ("at (timestamptz)", "planner"): {"key": "at"},
        ("name (text)", "planner"): {"key": "name"},
        ("tenant, n (composite)", "planner"): {"key": ["tenant", "n"]},
    }
    for (name, way), request in requests.items():
        plans = [plan_ranges(connection, table="gappy", ranges=count, **request) for _ in range(times)]
        best = min(plans, key=lambda plan: plan.seconds)
        balance = largest_range(connection, best) / (rows / len(best.ranges))
        memory = peak_memory(conninfo, {"table": "gappy", "ranges": count, **request})
        show(f"{name:<26} {way:<22} {best.seconds * 1000:9.1f} {len(best.ranges):7,} {balance:8.2f} {memory:10.0f}")


def count_rows(connection: psycopg.Connection, ranges: Sequence[KeyRange]) -> list[int]:
    """Return the number of rows of each range."""
    query = sql.SQL("SELECT count(*) FROM gappy WHERE {}")
    return [connection.execute(query.format(key_range.where)).fetchone()[0] for key_range in ranges]


def largest_range(connection: psycopg.Connection, plan: RangePlan) -> int:
    """Return the rows of the largest range. One query for all, because a query per range would take minutes."""
    query = sql.SQL(
        "SELECT max(rows) FROM ("
        " SELECT sum(is_row) AS rows FROM ("
        " SELECT is_row, sum(1 - is_row) OVER (ORDER BY {key}, is_row ROWS UNBOUNDED PRECEDING) AS number FROM ("
        " SELECT {key}, 1 AS is_row FROM gappy UNION ALL SELECT *, 0 FROM unnest({bounds})"
        " ) AS marked) AS numbered GROUP BY number) AS ranges"
    )
    bounds = zip(*(key_range.lower for key_range in plan.ranges if key_range.lower is not None), strict=True)
    statement = query.format(
        key=sql.SQL(", ").join(map(sql.Identifier, plan.key.names)),
        bounds=sql.SQL(", ").join(
            sql.SQL("{}::{}[]").format(sql.Literal(list(values)), sql.SQL(column.type))
            for column, values in zip(plan.key.columns, bounds, strict=True)
        ),
    )
    return connection.execute(statement).fetchone()[0]


def peak_memory(conninfo: str, request: dict[str, Any]) -> float:
    """Return the peak MB of Python while it plans, measured in another process because measuring is slow."""
    command = [sys.executable, __file__, "--memory-of", json.dumps({"conninfo": conninfo, "request": request})]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(job: str) -> float:
    arguments = json.loads(job)
    with psycopg.connect(arguments["conninfo"], autocommit=True) as connection:
        tracemalloc.start()
        plan = plan_ranges(connection, **arguments["request"])
        assert plan.ranges
        return tracemalloc.get_traced_memory()[1] / 1e6


def show(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
