"""Compare ways to write what Python makes of each row: seconds, WAL, growth of the target, and whether it is right.

    python -m benchmarks writing report                   all sides, 1,000,000 rows, into RESULTS.md
    python -m benchmarks.writing --rows 100000 --only ours_local,execute_values,copy

Jobs: ``insert`` (the target is empty), ``upsert`` (half of the rows are there, with other values), ``repeat`` (upsert,
and every row is there as it will be written), ``update`` (every row is there, with other values), ``in_place`` (two
columns of the table that is read). The sides of a job run in turn, each on a new target.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.compare import LONG_SECONDS
from benchmarks.data import HOME, Data, running
from benchmarks.environments import exists
from benchmarks.machine import describe
from benchmarks.meter import Wire
from benchmarks.runs import SideFailed, find_nodes, running_side
from benchmarks.sides.writing import ALL, WRITERS
from benchmarks.sides.writing.rows import SQL
from benchmarks.writing_report import comparison

ROWS = 1_000_000
TARGET = "order_cents"
WORKERS = 2

_CREATE = "CREATE TABLE {target} (id bigint PRIMARY KEY, cents bigint NOT NULL, label text NOT NULL); "
PREPARATION = {
    "insert": _CREATE,
    "upsert": _CREATE + "INSERT INTO {target} SELECT id, -1, 'old' FROM {table} WHERE id % 2 = 0",
    "repeat": _CREATE + "INSERT INTO {target} SELECT {sql} FROM {table}",
    "update": _CREATE + "INSERT INTO {target} SELECT id, -1, 'old' FROM {table}",
    "in_place": "CREATE TABLE {target} AS SELECT id, amount, -1::bigint AS cents, 'old' AS label FROM {table}; "
    "ALTER TABLE {target} ADD PRIMARY KEY (id)",
}
"""What each run of a job begins with."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=ALL, help=", ".join(ALL))
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", default=",".join(WRITERS), help="names of sides, separated by commas")
    parser.add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the iptables rules are removed
    with running(options.home, options.rows) as data:
        results = measure_writing(data, options.rows, options.times, options.only.split(","), options.jobs)
    for job in options.jobs:
        print("\n".join(["", *comparison(results, job)]))


def measure_writing(
    data: Data, rows: int, times: int, names: list[str] | None = None, jobs: tuple[str, ...] | list[str] = ALL
) -> dict[str, Any]:
    """Return the figures of the sides.

    :param rows: rows of the table that is read.
    :param times: runs of each job that takes at most ``LONG_SECONDS``; the fastest one counts.
    :param names: names of sides; None: all.
    """
    table = data.orders(rows)
    results: dict[str, Any] = {"rows": rows, "workers": WORKERS, "times": times, "machine": describe(), "sides": {}}
    with Wire(data.server.port) as wire:
        for name in names or WRITERS:
            print(f"  {name}", flush=True)
            results["sides"][name] = run_side(data, name, table, jobs, times, wire)
    return results


def run_side(
    data: Data, name: str, table: str, jobs: tuple[str, ...] | list[str], times: int, wire: Wire
) -> dict[str, Any]:
    side = WRITERS[name]
    if not exists(side.environment):
        return {"missing": "its environment does not exist: run `make bench`"}
    if side.cluster and not find_nodes():
        return {"missing": "there is no cluster: run `make cluster`"}
    figures: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    try:
        with running_side(f"writing.{name}", data, data.task("insert", table, WORKERS, target=TARGET), wire) as running:
            for job in jobs:
                if job in side.jobs:
                    figures[job] = run_job(data, running, job, table, times)
    except SideFailed as error:
        figures["missing"] = str(error)
    return figures


def run_job(data: Data, running: Any, job: str, table: str, times: int) -> dict[str, Any]:
    """Return the figures of the fastest run."""
    runs = [run_once(data, running, job, table)]
    while len(runs) < times and runs[0]["seconds"] <= LONG_SECONDS:
        runs.append(run_once(data, running, job, table))
    return min(runs, key=lambda run: run["seconds"])


def run_once(data: Data, running: Any, job: str, table: str) -> dict[str, Any]:
    """Run a job on a new target."""
    with psycopg.connect(data.server.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TARGET}, burla_ledger")
        connection.execute(PREPARATION[job].format(target=TARGET, table=table, sql=SQL))  # type: ignore[arg-type]
        connection.execute(f"VACUUM ANALYZE {TARGET}")
        connection.execute("CHECKPOINT")  # the WAL of each side has the same full pages
        [(place, size)] = connection.execute(MEASURE).fetchall()
        source = TARGET if job == "in_place" else table
        result: dict[str, Any] = running.run(data.task(job, source, WORKERS, target=TARGET))
        [(after, grown)] = connection.execute(MEASURE).fetchall()
        print(f"    {job}: {result['seconds']:.2f} s", flush=True)
        wanted, there = f"SELECT {SQL} FROM {table}", f"SELECT id, cents, label FROM {TARGET}"
        wrong = f"({wanted} EXCEPT ALL {there}) UNION ALL ({there} EXCEPT ALL {wanted})"
        [(differences,)] = connection.execute(f"SELECT count(*) FROM ({wrong}) AS d").fetchall()  # type: ignore[arg-type]
    result.pop("details", None)
    return result | {"wal": int(after - place), "growth": grown - size, "differences": differences}


MEASURE = f"SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_total_relation_size('{TARGET}')"


if __name__ == "__main__":
    main()
