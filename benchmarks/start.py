"""Measure a job of one row, where only the fixed costs count: ``python -m benchmarks.start [local|burla]``.

Airflow runs each try of a task in a new process, so each measurement is a new process that has imported Airflow and the
operator. The first job of a process imports what it needs; the second one shows the time without these imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.data import running
from benchmarks.task import Task

RUNS = 3
CODE = "import sys; from benchmarks.start import measure; measure(*sys.argv[1:])"


def measure(engine: str, task: str) -> None:
    """Run the job twice in this process, and print the seconds and the seconds of each phase."""
    from benchmarks.sides import ours_burla, ours_local

    side = ours_burla if engine == "burla" else ours_local
    with side.ready(Task(**json.loads(task))) as run:
        # After Airflow's home is set.
        from burla_provider.task import metrics

        phases: list[metrics.Phases] = []
        end = metrics.Phases.end

        def end_and_keep(self: metrics.Phases) -> None:
            end(self)
            phases.append(self)

        metrics.Phases.end = end_and_keep  # type: ignore[method-assign]
        for _ in range(2):
            started = time.perf_counter()
            run(Task(**json.loads(task)))
            print(json.dumps({"whole": time.perf_counter() - started, **phases[-1].seconds}))


def describe(name: str, runs: list[dict[str, Any]]) -> str:
    """Return the fastest run as a line."""
    fastest = min(runs, key=lambda run: float(run["whole"]))
    parts = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in fastest.items() if phase != "whole")
    return f"one row, {name}: {fastest['whole']:.2f} s ({parts}; the rest is Airflow)"


def main(engine: str = "local") -> None:
    first, second = [], []
    with tempfile.TemporaryDirectory(prefix="burla-benchmarks-") as home:
        Path(home).chmod(0o755)
        with running(Path(home), 1, cluster=engine == "burla") as data:
            with psycopg.connect(data.server.conninfo(), autocommit=True) as connection:
                connection.execute("CREATE TABLE one_row (id bigint PRIMARY KEY, amount numeric(12, 2))")
                connection.execute("INSERT INTO one_row VALUES (1, 12.5); ANALYZE one_row")
            task = json.dumps(asdict(data.task("totals", "one_row")))
            for _ in range(RUNS):
                command = [sys.executable, "-c", CODE, engine, task]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
                jobs = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
                first.append(jobs[0])
                second.append(jobs[1])
    print(describe(f"{engine}, first job of a process", first))
    print(describe(f"{engine}, second job", second))


if __name__ == "__main__":
    main(*sys.argv[1:])
