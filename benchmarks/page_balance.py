"""Measure whether ranges of equal pages take equal time, and write results/pages.json.

    python -m benchmarks.page_balance                   on tables of 1,000,000 rows
    python -m benchmarks.page_balance --rows 100000     on smaller ones; writes no results

Every table has a part, a tenth of its rows, that differs from the rest. Each range is processed alone, so that the
ranges do not share processors; the fastest of ``--times`` runs counts. From the times of the ranges follows how long
the job takes with a number of workers that each take the next range: "job" is this time, divided by the time if all
ranges took the same time.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.machine import describe
from burla_provider.database.connect import connection_parameters
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.ranges import RangePlan, plan_ranges
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRows, RangeProcessor, SqlTotals
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source

RESULTS = Path(__file__).with_name("results") / "pages.json"
RANGES = 96
WORKERS = (2, 8, 32)
TABLES = {
    "even rows": ("repeat('x', 60)", None, ""),
    "`where` is true in one part": ("repeat('x', 60)", "n > {rows} * 9 / 10", ""),
    "rows of 1,500 bytes in one part": ("repeat('x', CASE WHEN n > {rows} * 9 / 10 THEN 1500 ELSE 60 END)", None, ""),
    "20 kB in TOAST in one part": ("repeat('x', CASE WHEN n > {rows} * 99 / 100 THEN 20000 ELSE 60 END)", None, ""),
    "nine tenths deleted, in one part": ("repeat('x', 60)", None, "DELETE FROM {table} WHERE n <= {rows} * 9 / 10"),
    "nine tenths deleted, everywhere": ("repeat('x', 60)", None, "DELETE FROM {table} WHERE n % 10 > 0"),
}
"""Name -> SQL of the text of row n, the condition on the rows, and a statement that changes the table."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    jobs: dict[str, RangeProcessor] = {
        "totals": SqlTotals((Aggregate("length", "sum", "length(note)", None, "bigint", "integer"),)),
        "process_rows": ProcessRows(add_lengths),
    }
    points = []
    with server() as connection:
        for number, (name, (note, where, change)) in enumerate(TABLES.items()):
            table = f"pages_{number}"
            fill(connection, table, note.format(rows=options.rows), change, options.rows)
            plan = plan_ranges(connection, table=table, split="pages", ranges=RANGES)
            source = Source("public", table, ("note",), where and where.format(rows=options.rows))
            for job, processor in jobs.items():
                seconds = measure(connection, source, plan, processor, options.times)
                points.append({"table": name, "job": job, **summarize(seconds)})
                print(points[-1], flush=True)
    if options.rows >= 1_000_000:
        RESULTS.write_text(json.dumps({"rows": options.rows, "machine": describe(), "points": points}, indent=1) + "\n")


@contextmanager
def server() -> Iterator[psycopg.Connection[Any]]:
    settings = {"shared_buffers": "1GB", "fsync": "off", "max_wal_size": "8GB", "autovacuum": "off"}
    with tempfile.TemporaryDirectory(prefix="burla-pages-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        with (
            EmbeddedPostgres(home / "server", version=16, settings=settings) as running,
            psycopg.connect(running.conninfo(), autocommit=True) as connection,
        ):
            yield connection


def fill(connection: psycopg.Connection[Any], table: str, note: str, change: str, rows: int) -> None:
    connection.execute(f"CREATE TABLE {table} (n bigint PRIMARY KEY, amount numeric(12, 2), note text)")
    connection.execute(f"ALTER TABLE {table} ALTER note SET STORAGE EXTERNAL")  # not compressed
    connection.execute(f"INSERT INTO {table} SELECT n, n / 7.0, {note} FROM generate_series(1, {rows}) AS n")
    if change:
        connection.execute(change.format(table=table, rows=rows))
    connection.execute(f"VACUUM (TRUNCATE off, ANALYZE) {table}")


def add_lengths(rows: Iterator[tuple[str]]) -> dict[str, int]:
    return {"length": sum(len(note) for (note,) in rows)}


def measure(
    connection: psycopg.Connection[Any], source: Source, plan: RangePlan, processor: RangeProcessor, times: int
) -> list[float]:
    """Return the seconds of each range, in the order in which they are started."""
    task = RangeTask(connection_parameters(connection), source, plan.key, processor)
    try:
        process: Callable[[Any], float] = lambda one: decode(task(one.index, one.to_item())).seconds  # noqa: E731
        runs = [[process(one) for one in plan.largest_first()] for _ in range(times)]
    finally:
        task.close()
    return [min(seconds) for seconds in zip(*runs, strict=True)]


def summarize(seconds: list[float]) -> dict[str, Any]:
    total = sum(seconds)
    jobs = {str(workers): round(job_seconds(seconds, workers) / (total / workers), 2) for workers in WORKERS}
    return {"seconds": round(total, 2), "largest": round(max(seconds) / (total / len(seconds)), 2), "jobs": jobs}


def job_seconds(seconds: list[float], workers: int) -> float:
    """Return when the last range ends if each worker takes the next range."""
    free = [0.0] * workers
    for duration in seconds:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


if __name__ == "__main__":
    main()
