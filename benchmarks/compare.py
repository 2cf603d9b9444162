"""Run the same jobs on the same tables with one side after another."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.data import Data
from benchmarks.environments import exists
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideBusy, SideFailed, find_nodes, running_side
from benchmarks.sides import SIDES, Side

BUSY = ("AllNodesBusy", "NoNodes")
"""Errors of the guide's script while the cluster still cleans up the previous job. It has no queue."""

LONG_SECONDS = 10
"""A job that takes longer is run once, because its time varies little."""

MAX_JOB_SECONDS = 50
"""If a job over all orders takes longer, the next jobs are skipped. The guide always runs all."""

Job = tuple[str, str]
"""Name of the job and role of the table."""

JOBS: tuple[Job, ...] = (
    ("totals", "null_keys"),
    ("totals", "orders"),
    ("checksum", "orders"),
    ("checksum", "wide"),
)
"""All jobs. Totals of the wide table would add nothing to those of orders."""


def compare(
    data: Data, names: Iterable[str], tables: Mapping[str, str], times: int, workers: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the jobs of each side and yield its name and figures.

    :param tables: role ("orders", "wide", "null_keys") -> table.
    :param times: runs per job; the fastest counts.
    :returns: side -> ``start_up``, ``jobs`` ("totals orders" -> figures), and ``missing``: why there are no more.
    """
    with Wire(data.server.port) as wire:
        for name in names:
            print(f"  {name}", flush=True)
            yield name, run_side(data, name, tables, times, workers, wire)


def jobs_of(side: Side, tables: Mapping[str, str]) -> list[Job]:
    return [(job, role) for job, role in JOBS if job in side.jobs and role in tables]


def run_side(data: Data, name: str, tables: Mapping[str, str], times: int, workers: int, wire: Wire) -> dict[str, Any]:
    side = SIDES[name]
    if reason := unavailable_reason(name, side):
        return {"missing": reason, "jobs": {}}
    started = time.perf_counter()
    jobs: dict[str, Any] = {}
    figures: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), "jobs": jobs}
    last_seconds = 0.0
    try:
        with running_side(name, data, data.task("totals", tables["orders"], workers), wire) as running:
            figures["start_up"] = running.start_up
            for job, role in jobs_of(side, tables):
                if last_seconds > MAX_JOB_SECONDS and not name.startswith("guide"):
                    jobs[f"{job} {role}"] = {"error": f"skipped: a job over all orders took {last_seconds:.0f} s"}
                    continue
                has_nulls = role == "null_keys"
                split = "key" if has_nulls else "auto"  # by pages, no tool can lose rows with a NULL key
                once = has_nulls or name == "mapping"
                run = jobs[f"{job} {role}"] = fastest_run(
                    data, running, job, tables[role], 1 if once else times, workers, split=split
                )
                last_seconds = run.get("seconds", 0.0) if role == "orders" else last_seconds
    except SideFailed as error:
        figures["missing"] = str(error)
    print(f"    {time.perf_counter() - started:.0f} s", flush=True)
    return figures


def unavailable_reason(name: str, side: Side) -> str | None:
    """Return why a side cannot run; None if it can."""
    if not exists(side.environment):
        return "its environment does not exist: run `make bench`"
    if side.cluster and not find_nodes():
        return "there is no cluster: run `make cluster`"
    if name == "guide_burla" and "BURLA_CLUSTER_DASHBOARD_URL" not in os.environ:
        return "no cluster is configured: run `make bench`, which uses the cluster of this machine"
    return None


def fastest_run(
    data: Data, running: RunningSide, job: str, table: str, times: int, workers: int, **options: Any
) -> dict[str, Any]:
    """Return the figures of the fastest run and the seconds of all runs, or ``error`` if a run failed."""
    runs = []
    for _ in range(times):
        try:
            runs.append(run_when_free(running, data, job, table, workers, **options))
        except SideBusy:
            raise
        except SideFailed as error:
            return {"error": str(error)}
        if runs[-1]["seconds"] > LONG_SECONDS:
            break
    fastest = min(runs, key=lambda run: run["seconds"])
    fastest["expected_rows"], fastest["expected_value"] = data.expected(job, table)
    del fastest["details"]
    return fastest | {"all_seconds": [run["seconds"] for run in runs]}


def run_when_free(
    running: RunningSide, data: Data, job: str, table: str, workers: int, **options: Any
) -> dict[str, Any]:
    """Run a job. If the cluster is busy, retry for a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return running.run(data.task(job, table, workers, **options))
        except SideFailed as error:
            if not any(name in str(error) for name in BUSY) or time.monotonic() > deadline:
                raise
            time.sleep(2)
