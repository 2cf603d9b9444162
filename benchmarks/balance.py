"""Compare ranges of pages with ranges of a key, and measure whether equal pages take equal time.

    python -m benchmarks.balance                     on tables of 1,000,000 rows; writes results/balance.json
    python -m benchmarks.balance --rows 100000       on smaller ones; writes nothing
    python -m benchmarks report                    write RESULTS.md

Each range is processed alone, so that ranges do not share processors; the fastest of ``--times`` runs counts. The time
of a job with several workers follows from the times of the ranges, each started by the first free worker.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.machine import describe
from benchmarks.scale import makespan
from burla_provider.database.connect import connection_parameters
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.ranges import RangePlan, plan_ranges
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRows, RangeProcessor, SqlTotals
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source

RESULTS = Path(__file__).with_name("results") / "balance.json"
RANGES = 96
WORKERS = (2, 8, 32)

LENGTH = Aggregate("length", "sum", "length(note)", None, "bigint", "integer")
CREATE = """
    CREATE TABLE {table} AS
    SELECT n AS id, md5(n::text)::uuid AS token, (n / 7.0)::numeric(12, 2) AS amount, {note} AS note
    FROM generate_series(1, {rows}) AS n
"""
EVEN = "repeat('x', 60)"
TABLES = {
    "all rows alike": (EVEN, "TRUE", ""),
    "`where` is true for a tenth, in one part": (EVEN, "amount > {rows} * 0.9 / 7", ""),
    "a tenth of the rows has 1,500 bytes, in one part": (
        "repeat('x', CASE WHEN n > {rows} * 0.9 THEN 1500 ELSE 60 END)",
        "TRUE",
        "",
    ),
    "a hundredth of the rows has 20 kB in TOAST, in one part": (
        "repeat('x', CASE WHEN n > {rows} * 0.99 THEN 20000 ELSE 60 END)",
        "TRUE",
        "",
    ),
    "nine tenths are deleted, in one part": (EVEN, "TRUE", "DELETE FROM {table} WHERE id <= {rows} * 0.9"),
    "nine tenths are deleted, everywhere": (EVEN, "TRUE", "DELETE FROM {table} WHERE id % 10 > 0"),
}
"""Name -> SQL of the text of row n, the condition on the rows, and a statement that changes the table."""


_CONCLUSION = (
    "A job has many more ranges than workers, and each worker takes the next range. So with few workers, the"
    " differences do not matter. Where rows are wide, ranges of pages take more equal time than ranges of a key. The"
    " largest difference comes from large values in TOAST that are next to each other, because neither pages nor rows"
    " count them: with many workers, request more ranges (`ranges`) for such tables."
)


def add_lengths(rows: Iterator[tuple[str]]) -> dict[str, int]:
    return {"length": sum(len(note) for (note,) in rows)}


JOBS: dict[str, RangeProcessor] = {"totals": SqlTotals((LENGTH,)), "process_rows": ProcessRows(add_lengths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    with server() as connection:
        balance = list(measure_balance(connection, options.rows, options.times))
        keys = list(measure_keys(connection, options.rows, options.times))
    if options.rows >= 1_000_000:
        load = round(os.getloadavg()[2], 1)  # of the last 15 minutes
        results = {"rows": options.rows, "machine": describe(), "load": load, "keys": keys, "balance": balance}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


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


def measure_balance(connection: psycopg.Connection[Any], rows: int, times: int) -> Iterator[dict[str, Any]]:
    """Yield how different the times of ranges of equal pages are, for each table."""
    for number, (name, (note, where, change)) in enumerate(TABLES.items()):
        table = f"pages_{number}"
        connection.execute(CREATE.format(table=table, note=note.format(rows=rows), rows=rows))
        connection.execute(change.format(table=table, rows=rows) or "SELECT 1")
        connection.execute(f"CREATE UNIQUE INDEX ON {table} (id)")
        connection.execute(f"VACUUM (TRUNCATE off, ANALYZE) {table}")
        source = Source("public", table, ("note",), where.format(rows=rows))
        plans = {
            "pages": plan_ranges(connection, table=table, split="pages", ranges=RANGES),
            "key": plan_ranges(connection, table=table, key="id", ranges=RANGES),
        }
        for job, processor in JOBS.items():
            for split, plan in plans.items():
                seconds = measure(connection, source, plan, processor, times)
                total = sum(seconds)
                yield {
                    "table": name,
                    "job": job,
                    "split": split,
                    "seconds": total,
                    "largest_to_average": max(seconds) / total * RANGES,
                    "jobs": {str(workers): makespan(seconds, workers) / (total / workers) for workers in WORKERS},
                }


def measure_keys(connection: psycopg.Connection[Any], rows: int, times: int) -> Iterator[dict[str, Any]]:
    """Yield the seconds of all ranges by a key and by pages. Runs of both alternate."""
    connection.execute(CREATE.format(table="keys", note=EVEN, rows=rows))
    connection.execute("CREATE UNIQUE INDEX ON keys (id)")
    connection.execute("CREATE UNIQUE INDEX ON keys (token)")
    connection.execute("VACUUM ANALYZE keys")
    source = Source("public", "keys", ("note",))
    pages = plan_ranges(connection, table="keys", split="pages", ranges=RANGES)
    for key in ("id", "token"):
        plan = plan_ranges(connection, table="keys", key=key, ranges=RANGES)
        for job, processor in JOBS.items():
            runs = [[measure(connection, source, each, processor, 1) for each in (plan, pages)] for _ in range(times)]
            by_key, by_pages = (sum(fastest(list(seconds))) for seconds in zip(*runs, strict=True))
            yield {"key": key, "job": job, "by_key": by_key, "by_pages": by_pages}


def measure(
    connection: psycopg.Connection[Any], source: Source, plan: RangePlan, processor: RangeProcessor, times: int
) -> list[float]:
    """Return the seconds of each range, in the order in which they are started."""
    task = RangeTask(connection_parameters(connection), source, plan.key, processor)
    try:
        task(0, plan.ranges[0].to_item())  # connects
        runs = [[decode(task(one.index, one.to_item())).seconds for one in plan.largest_first()] for _ in range(times)]
    finally:
        task.close()
    return fastest(runs)


def fastest(runs: list[list[float]]) -> list[float]:
    """Return the fastest run of each range."""
    return [min(seconds) for seconds in zip(*runs, strict=True)]


def text(results: dict[str, Any]) -> list[str]:
    """Return the section of RESULTS.md."""
    lines = [
        "## Ranges of pages",
        "",
        f"Without `key`, `totals` and `process_rows` read a table by its physical pages. {results['rows']:,} rows of"
        f" about 130 bytes in memory, {RANGES} ranges, one worker, seconds of all ranges without the start. The load"
        f" average was {results['load']:g}.",
        "",
        "| key | job | by the key | by pages | key/pages |",
        "|---|---|---:|---:|---:|",
    ]
    names = {"id": "an ascending id", "token": "a random uuid"}
    for point in results["keys"]:
        cells = [f"{point[name]:.2f}" for name in ("by_key", "by_pages")]
        ratio = point["by_key"] / point["by_pages"]
        lines.append(f"| {names[point['key']]} | {point['job']} | {' | '.join(cells)} | {ratio:.2f} |")
    lines += [
        "",
        "Ranges of equal pages read equal bytes of the table, but not always in equal time. The last columns are the"
        " time of the job divided by its time if all ranges took equally long. They are computed from the seconds of"
        " the ranges. Ranges of an ascending id, which have equal numbers of rows, are shown for comparison.",
        "",
        f"| table | job | ranges of | seconds | slowest/average | {' | '.join(f'{n} workers' for n in WORKERS)} |",
        f"|---|---|---|---:|---:|{'---:|' * len(WORKERS)}",
    ]
    for point in results["balance"]:
        jobs = " | ".join(f"{ratio:.2f}" for ratio in point["jobs"].values())
        names = " | ".join(point[name] for name in ("table", "job", "split"))
        lines.append(f"| {names} | {point['seconds']:.2f} | {point['largest_to_average']:.1f} | {jobs} |")
    return [*lines, "", _CONCLUSION]


if __name__ == "__main__":
    main()
