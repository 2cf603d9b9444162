"""Compare ways to call a vectorised function on batches of rows: seconds, memory, and whether the result is right.

    python -m benchmarks.batches                          all sides that this machine can run, 10,000,000 rows
    python -m benchmarks.batches --rows 1000000 --only ours_arrow,duckdb
    python -m benchmarks.batches --save                   write results/batches.json, then RESULTS.md

Jobs: ``points`` reads narrow rows, and ``score`` a fifth as many wide rows (see ``sides/batches/work.py``). The sides
run in turn, each with two workers; the fastest of ``--times`` runs counts. A ratio above 1 is slower than this
provider with Arrow batches. First, the instances of a class are counted, while worker processes are killed.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import report
from benchmarks.__main__ import RESULTS, now, save
from benchmarks.batches_report import comparison, constructors
from benchmarks.data import HOME, Data, running
from benchmarks.environments import exists
from benchmarks.machine import describe
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideFailed, find_nodes, running_side
from benchmarks.sides.batches import BATCHERS, CONSTRUCTORS, JOBS
from benchmarks.sides.batches.work import SQL

TOOLS = [name for name in BATCHERS if name != CONSTRUCTORS]
WORKERS = 2
KILLS = (0, 1, 3)
"""Numbers of worker processes that are killed while instances are counted."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=JOBS, help=", ".join(JOBS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", default=",".join(TOOLS), help="names of sides, separated by commas")
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--save", action="store_true", help="write results/batches.json and RESULTS.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the iptables rules are removed
    with running(options.home, options.rows) as data:
        counts = [count_constructors(data, kills) for kills in KILLS]
        results = measure(data, options.only.split(","), options.jobs, options.times) | {"constructors": counts}
    print("\n".join(line for job in options.jobs for line in ("", *comparison(results, job))))
    print("\n".join(["", *constructors(results["constructors"])]))
    if options.save:
        save(RESULTS / "batches.json", results)
        report.write(RESULTS)


def measure(data: Data, names: list[str], jobs: list[str], times: int) -> dict[str, Any]:
    """Return the figures of each side and job."""
    tables = {"points": data.orders(), "score": data.notes()}
    results: dict[str, Any] = {"when": now(), "machine": describe(), "sides": {}}
    results["expected"] = {job: compute(data, job, tables[job]) for job in jobs}
    with Wire(data.server.port) as wire:
        for name in names:
            print(f"  {name}", flush=True)
            results["sides"][name] = run_side(data, name, tables, results["expected"], times, wire)
    return results


def compute(data: Data, job: str, table: str) -> tuple[int, str]:
    """Return the number of rows and the result of a job, from one SQL query."""
    with psycopg.connect(data.server.conninfo()) as connection:
        [(rows, value)] = connection.execute(f"SELECT count(*), ({SQL[job]})::text FROM {table}").fetchall()
        return rows, value


def run_side(
    data: Data, name: str, tables: dict[str, str], expected: dict[str, tuple[int, str]], times: int, wire: Wire
) -> dict[str, Any]:
    side = BATCHERS[name]
    if not exists(side.environment):
        return {"missing": "its environment does not exist: run `make bench`"}
    if side.cluster and not find_nodes():
        return {"missing": "there is no cluster: run `make cluster`"}
    figures: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    first = next(iter(expected))
    try:
        with running_side(f"batches.{name}", data, data.task(first, tables[first], WORKERS), wire) as running:
            figures["start_up"] = running.start_up
            for job, (rows, value) in expected.items():
                run = fastest_run(data, running, job, tables[job], times)
                figures[job] = run | {"expected_rows": rows, "expected_value": value}
    except SideFailed as error:
        figures["missing"] = str(error)
    return figures


def count_constructors(data: Data, kills: int) -> dict[str, Any]:
    """Return how many instances of a class, and how many worker processes, a job had in which some were killed."""
    table, events = data.orders(), "constructor_events"
    with psycopg.connect(data.server.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {events}")
        connection.execute(f"CREATE TABLE {events} (event text, value bigint)")
        connection.execute(f"CREATE UNIQUE INDEX ON {events} (event, value) WHERE event <> 'made'")
        task = data.task(f"constructors {kills}", table, WORKERS, target=events, ranges=24)
        with running_side(f"batches.{CONSTRUCTORS}", data, task, Wire(data.server.port)) as running:
            run = running.run(task)
        query = f"SELECT count(*) FILTER (WHERE event = %s) FROM {events}"
        made, called, killed = (
            connection.execute(query, [event]).fetchall()[0][0] for event in ("made", "called", "killed")
        )
    return {"killed": killed, "made": made, "called": called, "rows": run["rows"], "expected_rows": data.rows}


def fastest_run(data: Data, running: RunningSide, job: str, table: str, times: int) -> dict[str, Any]:
    runs = [running.run(data.task(job, table, WORKERS)) for _ in range(times)]
    fastest = min(runs, key=lambda run: run["seconds"])
    del fastest["details"]
    return fastest | {"all_seconds": [run["seconds"] for run in runs]}


if __name__ == "__main__":
    main()
