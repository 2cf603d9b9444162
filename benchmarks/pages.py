"""Measure whole tables by their key, by their pages, and in one query: in memory, and from disk.

The ways of a side alternate, and the fastest run of each counts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from benchmarks.cold import bytes_read, default_buffers, restart_cold
from benchmarks.compare import run_when_free, unavailable_reason
from benchmarks.data import Data
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideFailed, running_side
from benchmarks.sides import SIDES

TIMES = 3
LONG_SECONDS = 5
"""A job that takes longer is run once."""

JOBS = (("totals", "one_row"), ("totals", "orders"), ("totals", "uuids"), ("checksum", "orders"))
"""Job and role of the table."""

SIDES_IN_MEMORY = ("sql", "ours_local", "ours_burla", "duckdb")
SIDES_FROM_DISK = ("sql", "ours_local", "duckdb")
TABLES_FROM_DISK = ("orders", "uuids")
WORKERS = 2
PAGES = "SELECT pg_relation_size(%s::regclass) / 8192"

Point = dict[str, Any]


def tables(data: Data) -> dict[str, str]:
    """Return the tables by role, and create those that do not exist."""
    return {"one_row": data.orders(1), "orders": data.orders(), "uuids": data.uuids()}


def measure_pages(data: Data) -> dict[str, Any]:
    """Run all measurements.

    :returns: "memory" and "disk" -> lists of points, "queries" -> seconds of plain queries over ``orders``, as JSON.
    """
    load, roles = round(os.getloadavg()[0], 1), tables(data)
    with Wire(data.server.port) as wire:
        memory = [point for name in SIDES_IN_MEMORY for point in run_side(data, name, roles, wire)]
        queries = measure_queries(data, roles["orders"])
        print("  from disk", flush=True)
        disk = list(run_from_disk(data, roles, wire))
    return {"load": load, "tables": roles, "memory": memory, "queries": queries, "disk": disk}


def warm_up(data: Data, running: RunningSide) -> None:
    """Run a job that is not measured. The first one imports modules, and on Burla it installs packages."""
    run_when_free(running, data, "totals", data.orders(1), WORKERS)


def ways_of(name: str, role: str) -> tuple[str, ...]:
    """Return the values of ``Task.split`` to compare. One row is always one range."""
    return ("key", "pages") if name.startswith("ours") and role != "one_row" else ("auto",)


def run_side(data: Data, name: str, roles: Mapping[str, str], wire: Wire) -> Iterator[Point]:
    """Run the jobs of a side. It stops at the first failure, and the last point says why."""
    print(f"  {name}", flush=True)
    if reason := unavailable_reason(name, SIDES[name]):
        yield {"side": name, "missing": reason}
        return
    try:
        with running_side(name, data, data.task("totals", roles["orders"], WORKERS), wire) as running:
            warm_up(data, running)
            for job, role in JOBS:
                # On Burla the function takes as long as in the local engine; the comparison of the sides has it.
                if job in SIDES[name].jobs and (job, name) != ("checksum", "ours_burla"):
                    yield from alternate(data, running, name, job, role, roles[role])
    except SideFailed as error:
        yield {"side": name, "missing": str(error)}


def alternate(data: Data, running: RunningSide, name: str, job: str, role: str, table: str) -> Iterator[Point]:
    ways = ways_of(name, role)
    runs: dict[str, list[Point]] = {way: [] for way in ways}
    for _ in range(TIMES):
        for way in ways:
            if all(run["seconds"] < LONG_SECONDS for run in runs[way]):
                runs[way].append(run_when_free(running, data, job, table, WORKERS, split=way))
    expected = data.expected(job, table)
    for way in ways:
        fastest = min(runs[way], key=lambda run: run["seconds"])
        correct = {"expected_rows": expected.rows, "expected_value": expected.value}
        point = {"side": name, "way": way, "job": job, "table": role, **fastest, **correct}
        del point["details"]
        yield point | range_seconds(fastest["details"]) | {"all_seconds": [run["seconds"] for run in runs[way]]}


def range_seconds(details: Any) -> Point:
    """Return the seconds from the start of the first range to the end of the last one, and the sum of all ranges."""
    timeline = (details or {}).get("timeline") or {}
    if "spans" not in timeline:
        return {}
    return {"ranges_seconds": timeline["seconds"], "work_seconds": sum(span[2] for span in timeline["spans"])}


def measure_queries(data: Data, table: str) -> dict[str, float]:
    """Return the seconds of the same totals in plain queries.

    "parallel": one query. "serial": one query in one process. "halves": two at a time, half of the pages each.
    """
    totals = f"SELECT count(*), sum(amount) FROM {table}"

    def query(*statements: str) -> None:
        with psycopg.connect(data.server.conninfo()) as connection:
            for statement in statements:
                connection.execute(statement)

    def halves() -> None:
        middle = f"'({fetch(data, PAGES, table) // 2},0)'"
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(query, [f"{totals} WHERE ctid < {middle}", f"{totals} WHERE ctid >= {middle}"]))

    return {
        "parallel": fastest_call(lambda: query(totals)),
        "serial": fastest_call(lambda: query("SET max_parallel_workers_per_gather = 0", totals)),
        "halves": fastest_call(halves),
    }


def fastest_call(call: Callable[[], None]) -> float:
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def run_from_disk(data: Data, roles: Mapping[str, str], wire: Wire) -> Iterator[Point]:
    """Run totals after a restart, once per side and way, with shared_buffers smaller than the tables."""
    with default_buffers(data.server):
        for role in TABLES_FROM_DISK:
            for name in SIDES_FROM_DISK:
                if reason := unavailable_reason(name, SIDES[name]):
                    yield {"side": name, "table": role, "missing": reason}
                    continue
                for way in ways_of(name, role):
                    try:
                        yield {"side": name, "way": way, "table": role, **run_cold(data, name, way, roles[role], wire)}
                    except SideFailed as error:
                        yield {"side": name, "way": way, "table": role, "missing": str(error)}


def run_cold(data: Data, name: str, way: str, table: str, wire: Wire) -> Point:
    """Run totals once."""
    expected = data.expected("totals", table)
    restart_cold(data.server)
    with running_side(name, data, data.task("totals", table, WORKERS), wire) as running:
        warm_up(data, running)
        pages, before = pages_read(data, table), bytes_read()
        run = run_when_free(running, data, "totals", table, WORKERS, split=way)
        disk_bytes = bytes_read() - before
    del run["details"]
    return {
        **run,
        "disk_bytes": disk_bytes,
        "pages_read": pages_read(data, table) - pages,
        "pages": fetch(data, PAGES, table),
        "expected_rows": expected.rows,
        "expected_value": expected.value,
    }


def pages_read(data: Data, table: str) -> int:
    """Return how many pages of a table, without its index, the server has ever read into its buffers."""
    fetch(data, "SELECT pg_sleep(0.5)")  # a session reports its reads when it ends
    return fetch(data, "SELECT heap_blks_read FROM pg_statio_user_tables WHERE relname = %s", table)


def fetch(data: Data, query: str, *values: str) -> int:
    """Return the value of a query."""
    with psycopg.connect(data.server.conninfo(), autocommit=True) as connection:
        return connection.execute(query, values).fetchall()[0][0]  # type: ignore[no-any-return]
