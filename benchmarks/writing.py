"""Compare ways to write what Python makes of each row: seconds, WAL, growth of the target, and whether it is right.

    python -m benchmarks.writing                          all sides that this machine can run, 1,000,000 rows
    python -m benchmarks.writing --rows 100000 --only ours_local,execute_values,copy

Jobs: ``insert`` (the target is empty), ``upsert`` (half of the rows are there, with other values), ``repeat`` (upsert,
and every row is there as it will be written), ``update`` (every row is there, with other values). The sides of a job
run in turn, each on a new target; the fastest of ``--times`` runs counts. A ratio above 1 is slower than this provider.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.__main__ import RESULTS, now, save
from benchmarks.data import HOME, Data, running
from benchmarks.environments import exists
from benchmarks.machine import describe
from benchmarks.meter import Wire
from benchmarks.runs import SideFailed, find_nodes, running_side
from benchmarks.sides.writing import ALL, WRITERS
from benchmarks.sides.writing.rows import SQL

TARGET = "order_cents"
OURS = "ours_local"
WORKERS = 2

FILLS = {
    "insert": "",
    "upsert": "INSERT INTO {target} SELECT id, -1, 'old' FROM {table} WHERE id % 2 = 0",
    "repeat": "INSERT INTO {target} SELECT {sql} FROM {table}",
    "update": "INSERT INTO {target} SELECT id, -1, 'old' FROM {table}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=ALL, help=", ".join(ALL))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--only", default=",".join(WRITERS), help="names of sides, separated by commas")
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--save", action="store_true", help="write results/writing.json")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the iptables rules are removed
    with running(options.home, options.rows) as data:
        table = data.orders()
        results: dict[str, Any] = {"when": now(), "rows": options.rows, "machine": describe(), "sides": {}}
        with Wire(data.server.port) as wire:
            for name in options.only.split(","):
                print(f"  {name}", flush=True)
                results["sides"][name] = run_side(data, name, table, options.jobs, options.times, wire)
    for job in options.jobs:
        print("\n".join(comparison(results, job)))
    if options.save:
        save(RESULTS / "writing.json", results)


def run_side(data: Data, name: str, table: str, jobs: list[str], times: int, wire: Wire) -> dict[str, Any]:
    side = WRITERS[name]
    if not exists(side.environment):
        return {"missing": "its environment does not exist: run `make bench`"}
    if side.cluster and not find_nodes():
        return {"missing": "there is no cluster: run `make cluster`"}
    figures: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
    try:
        task = data.task("insert", table, WORKERS, target=TARGET)
        with running_side(f"writing.{name}", data, task, wire) as running:
            for job in jobs:
                if job in side.jobs:
                    runs = [run_once(data, running, job, table) for _ in range(times)]
                    figures[job] = min(runs, key=lambda run: run["seconds"])
    except SideFailed as error:
        figures["missing"] = str(error)
    return figures


def run_once(data: Data, running: Any, job: str, table: str) -> dict[str, Any]:
    """Run a job on a new target."""
    with psycopg.connect(data.server.conninfo(), autocommit=True) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TARGET}, burla_ledger")
        connection.execute(f"CREATE TABLE {TARGET} (id bigint PRIMARY KEY, cents bigint NOT NULL, label text NOT NULL)")
        connection.execute(FILLS[job].format(target=TARGET, table=table, sql=SQL) or "SELECT")  # type: ignore[arg-type]
        connection.execute(f"VACUUM ANALYZE {TARGET}")
        connection.execute("CHECKPOINT")  # the WAL of each side has the same full pages
        [(place, size)] = connection.execute(MEASURE).fetchall()
        result: dict[str, Any] = running.run(data.task(job, table, WORKERS, target=TARGET))
        [(after, grown)] = connection.execute(MEASURE).fetchall()
        wanted = f"SELECT {SQL} FROM {table}"
        wrong = " UNION ALL ".join(
            f"({one} EXCEPT ALL {other})" for one, other in ((wanted, f"TABLE {TARGET}"), (f"TABLE {TARGET}", wanted))
        )
        [(differences,)] = connection.execute(f"SELECT count(*) FROM ({wrong}) AS d").fetchall()  # type: ignore[arg-type]
    result.pop("details", None)
    return result | {"wal": int(after - place), "growth": grown - size, "differences": differences}


MEASURE = f"SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_total_relation_size('{TARGET}')"


def comparison(results: dict[str, Any], job: str) -> list[str]:
    """Return the table of a job as Markdown."""
    sides = results["sides"]
    ours = sides.get(OURS, {}).get(job, {}).get("seconds")
    lines = [
        "",
        f"**{job}**, {results['rows']:,} rows",
        "",
        "| | seconds | to this provider | WAL, MB | growth, MB | memory of the task, MB | rows |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    timed = {name: figures[job] for name, figures in sides.items() if job in figures}
    for name, run in sorted(timed.items(), key=lambda item: item[1]["seconds"]):
        ratio = f"{run['seconds'] / ours:.2f}" if ours else ""
        right = f"{run['differences']:,} differ" if run["differences"] else "all right"
        sizes = (run["wal"] / 1e6, run["growth"] / 1e6, run["memory_task"])
        figures = " | ".join(f"{size:,.0f}" for size in sizes)
        lines.append(f"| {WRITERS[name].title} | {run['seconds']:.2f} | {ratio} | {figures} | {right} |")
    missing = {name: figures["missing"] for name, figures in sides.items() if "missing" in figures}
    lines += [f"| {WRITERS[name].title} | {reason} | | | | | |" for name, reason in missing.items()]
    return lines


if __name__ == "__main__":
    main()
