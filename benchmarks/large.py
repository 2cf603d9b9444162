"""Measure the largest jobs that the provider is made for: memory of the task, CPU seconds, and what Airflow stores.

    python -m benchmarks.large                         all jobs, on the local engine; the table needs 16 GB of disk
    python -m benchmarks.large inputs --side ours_burla --count 100000
    python -m benchmarks.large --save                  update results/large.json, then RESULTS.md

Jobs: ``inputs`` is a map of 1,000,000 inputs, ``totals`` of 100,000 ranges, ``results`` returns 200 results of 1 MB,
``refused`` the same with the default limit, ``range_results`` gives ``combine`` 2,000 results of 100 kB. ``rows`` calls
a Python function on 1,000,000 rows. ``pages`` and ``keyed`` sum a table of 200,000,000 rows, and ``part`` calls the
function on 10,000,000 of them. Each job runs in a new process, because the memory of a process does not shrink.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks import report
from benchmarks.__main__ import RESULTS, now, save
from benchmarks.data import HOME, Data, running
from benchmarks.large_report import lines
from benchmarks.meter import Wire
from benchmarks.runs import SideFailed, running_side
from benchmarks.sides.large import JOBS, LARGE
from benchmarks.sides.large.ours import PART_END

TIMEOUT = 3_600.0
"""Maximum seconds of a job."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", default=JOBS, help=", ".join(JOBS))
    parser.add_argument("--side", default="ours_local", help=", ".join(LARGE))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, help="inputs or ranges, instead of those of the job")
    parser.add_argument("--rows", type=int, default=200_000_000, help="rows of the largest table")
    parser.add_argument("--home", type=Path, default=HOME)
    parser.add_argument("--save", action="store_true", help="update results/large.json, and write RESULTS.md")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the iptables rules are removed
    with running(options.home, 1_000_000) as data, Wire(data.server.port) as wire:
        for name in options.jobs:
            run = measure(data, wire, name, options.side, options.workers, options.count, options.rows)
            print("\n".join(lines([run])), flush=True)
            if options.save:
                store(run)
    if options.save:
        report.write(RESULTS)


def store(run: dict[str, Any]) -> None:
    """Replace the stored run of the same job and side."""
    path = RESULTS / "large.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    others = [one for one in runs if (one["job"], one["side"]) != (run["job"], run["side"])]
    save(path, sorted([*others, run], key=lambda one: (list(JOBS).index(one["job"]), one["side"])))


def measure(data: Data, wire: Wire, name: str, side: str, workers: int, count: int | None, rows: int) -> dict[str, Any]:
    """Return the figures of one job, or its error."""
    job = JOBS[name]
    table = data.narrow(rows) if job.is_large else data.orders()
    options = {"ranges": count or job.count, "split": "auto" if name == "pages" else "key"}
    run: dict[str, Any] = {"job": name, "side": side, "when": now(), "load": round(os.getloadavg()[0], 1)}
    task = data.task("totals" if name in ("pages", "keyed") else name, table, workers, **options)
    with running_side(f"large.{side}", data, task, wire) as started:
        started.timeout = TIMEOUT
        try:
            run |= started.run(task)
        except SideFailed as error:
            return run | {"error": str(error)}
    run |= run.pop("details") | {"backend_mb": backend_memory(data)}
    del run["timeline"]
    return run | ({"sql": one_statement(data, table, name)} if job.is_large else {})


def backend_memory(data: Data) -> float:
    """Return the MB of the server's process of a connection, without the server's shared memory."""
    with psycopg.connect(data.server.conninfo()) as connection:
        connection.execute(f"SELECT sum(amount) FROM {data.orders()}")  # type: ignore[arg-type]
        memory = psutil.Process(connection.info.backend_pid).memory_info()
        return float((memory.rss - memory.shared) / 2**20)


def one_statement(data: Data, table: str, name: str) -> dict[str, Any]:
    """Return the result and the seconds of one SQL statement over the same rows."""
    where = f"WHERE id <= {PART_END}" if name == "part" else ""
    with psycopg.connect(data.server.conninfo()) as connection:
        started = time.perf_counter()
        query = f"SELECT count(*), sum(amount)::text FROM {table} {where}"
        [(rows, value)] = connection.execute(query).fetchall()  # type: ignore[arg-type]
    return {"rows": rows, "value": value, "seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
