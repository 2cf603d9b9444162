"""How balanced ranges are, and what it takes to plan them: fixed width, ntile() and the planner, side by side.

    python benchmarks/splitting.py                     on a table of 10,000,000 rows
    python benchmarks/splitting.py --rows 1000000      on a smaller one

80 % of the table's rows are in 1 % of its id span, the other ids have gaps; timestamps come in bursts; one tenant has
30 % of the rows. Every side plans the same number of ranges in the same run, turn and turn about; the best of
``--times`` counts. The rows of each range are counted afterwards. Balance is the largest range by the average one.
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
    """A server in a temporary directory, with the table."""
    settings = {"shared_buffers": "512MB", "fsync": "off", "max_wal_size": "8GB", "maintenance_work_mem": "256MB"}
    with tempfile.TemporaryDirectory(prefix="burla-splitting-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        with EmbeddedPostgres(home / "server", version=version, settings=settings) as server:
            with psycopg.connect(server.conninfo(), autocommit=True) as connection:
                say(f"making {rows:,} rows and {len(KEYS)} indexes on PostgreSQL {version}")
                connection.execute(TABLE.format(rows=rows))
                connection.execute(NOT_NULL)
                connection.execute("ALTER TABLE gappy ADD PRIMARY KEY (id)")
                for columns in list(KEYS.values())[1:]:
                    connection.execute(f"CREATE INDEX ON gappy ({', '.join(columns)})")
                connection.execute("VACUUM ANALYZE gappy")
            yield server.conninfo()


def compare(connection: psycopg.Connection, count: int, times: int) -> None:
    """Plans ``count`` ranges of every key in every way."""
    say(f"\n{count} ranges{'':<16} {'way':<22} {'ms':>9} {'ranges':>7} {'balance':>8}   {'by ntile()':>10}")
    for name, columns in KEYS.items():
        sides = sides_of(connection, columns, count)
        seconds = {side: float("inf") for side in sides}
        plans: dict[str, RangePlan | None] = {}
        for _ in range(times):
            for side, plan in sides.items():
                started = time.perf_counter()
                plans[side] = plan()
                seconds[side] = min(seconds[side], time.perf_counter() - started)
        for side, made in plans.items():
            sizes = sizes_of(connection, made.ranges) if made else []
            balance = f"{max(sizes) / (sum(sizes) / len(sizes)):8.2f}" if sizes else f"{1:8.2f}"
            ratio = seconds["ntile()"] / seconds[side]
            say(f"{name:<26} {side:<22} {seconds[side] * 1000:9.1f} {len(sizes) or count:7,} {balance} {ratio:10,.0f}x")


def sides_of(
    connection: psycopg.Connection, columns: Sequence[str], count: int
) -> dict[str, Callable[[], RangePlan | None]]:
    def planned(**request: Any) -> Callable[[], RangePlan]:
        return lambda: plan_ranges(connection, table="gappy", key=list(columns), ranges=count, **request)

    sides: dict[str, Callable[[], RangePlan | None]] = {"ntile()": lambda: ntile(connection, columns, count)}
    if columns in (["id"], ["token"], ["at"]):
        sides["fixed width"] = planned(split="width")
    return {**sides, "planner": planned(), "planner, refine=True": planned(refine=True)}


def ntile(connection: psycopg.Connection, columns: Sequence[str], count: int) -> None:
    """The query that others plan by. It has exactly equal ranges, so that nobody needs to count them."""
    # min(uuid) is not there before version 18; for several columns this is less than what is needed.
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
    """Plans as many ranges as are allowed."""
    count = min(100_000, rows)
    say(f"\n{count:,} ranges{'':<12} {'way':<22} {'ms':>9} {'ranges':>7} {'balance':>8}   {'MB':>10}")
    requests = {
        ("id (bigint)", "planner"): {"key": "id"},
        ("id (bigint)", "histogram"): {"key": "id", "split": "histogram"},
        ("id (bigint)", "fixed width"): {"key": "id", "split": "width"},
        ("token (uuid)", "planner"): {"key": "token"},
        ("at (timestamptz)", "planner"): {"key": "at"},
        ("name (text)", "planner"): {"key": "name"},
        ("tenant, n (composite)", "planner"): {"key": ["tenant", "n"]},
    }
    for (name, side), request in requests.items():
        plans = [plan_ranges(connection, table="gappy", ranges=count, **request) for _ in range(times)]
        best = min(plans, key=lambda plan: plan.seconds)
        balance = largest_of(connection, best) / (rows / len(best.ranges))
        memory = peak_memory(conninfo, {"table": "gappy", "ranges": count, **request})
        say(f"{name:<26} {side:<22} {best.seconds * 1000:9.1f} {len(best.ranges):7,} {balance:8.2f} {memory:10.0f}")


def sizes_of(connection: psycopg.Connection, ranges: Sequence[KeyRange]) -> list[int]:
    """Counts the rows of every range."""
    query = sql.SQL("SELECT count(*) FROM gappy WHERE {}")
    return [connection.execute(query.format(one.where)).fetchone()[0] for one in ranges]


def largest_of(connection: psycopg.Connection, plan: RangePlan) -> int:
    """Rows of the largest range, by a look at all rows: a query for each of so many ranges would take minutes."""
    query = sql.SQL(
        "SELECT max(rows) FROM ("
        " SELECT sum(is_row) AS rows FROM ("
        " SELECT is_row, sum(1 - is_row) OVER (ORDER BY {key}, is_row ROWS UNBOUNDED PRECEDING) AS number FROM ("
        " SELECT {key}, 1 AS is_row FROM gappy UNION ALL SELECT *, 0 FROM unnest({bounds})"
        " ) AS marked) AS numbered GROUP BY number) AS ranges"
    )
    bounds = zip(*(one.lower for one in plan.ranges if one.lower is not None), strict=True)
    whole = query.format(
        key=sql.SQL(", ").join(map(sql.Identifier, plan.key.names)),
        bounds=sql.SQL(", ").join(
            sql.SQL("{}::{}[]").format(sql.Literal(list(values)), sql.SQL(column.type))
            for column, values in zip(plan.key.columns, bounds, strict=True)
        ),
    )
    return connection.execute(whole).fetchone()[0]


def peak_memory(conninfo: str, request: dict[str, Any]) -> float:
    """MB that Python holds at most while it plans, in a process of its own because measuring is slow."""
    command = [sys.executable, __file__, "--memory-of", json.dumps({"conninfo": conninfo, "request": request})]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(job: str) -> float:
    given = json.loads(job)
    with psycopg.connect(given["conninfo"], autocommit=True) as connection:
        tracemalloc.start()
        plan = plan_ranges(connection, **given["request"])
        assert plan.ranges
        return tracemalloc.get_traced_memory()[1] / 1e6


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
