"""The sides, one after the other, each doing the same jobs over the same tables."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.data import Data
from benchmarks.environments import is_there
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideBusy, SideFailed, find_nodes, running_side
from benchmarks.sides import SIDES, Side

BUSY = ("AllNodesBusy", "NoNodes")
"""What the guide's script gets while the cluster still puts the last job away. It has no queue."""

LONG = 10
"""Seconds: what takes longer is run once. Chance is a small part of it, and everybody's time is short."""

PATIENCE = 60
"""Seconds: a side that took longer for one job over all orders is not asked for the other one, which takes longer. The
guide is: it is what all this began with."""

Job = tuple[str, str]
"""What is done, and over which table."""


def compare(
    data: Data, names: Iterable[str], tables: Mapping[str, str], times: int, workers: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """:param tables: role ("orders", "wide", "null_keys") -> table.
    :param times: how often each job is run; the best counts.
    :returns: side -> ``start_up``, ``jobs`` ("totals orders" -> figures), and ``missing``: why there are no (more).
    """
    with Wire(data.server.port) as wire:
        for name in names:
            print(f"  {name}", flush=True)
            yield name, run_side(data, name, tables, times, workers, wire)


def jobs_of(side: Side, tables: Mapping[str, str]) -> list[Job]:
    # Sums over the wide table say nothing that those over orders do not.
    wanted = (("totals", "null_keys"), ("totals", "orders"), ("checksum", "orders"), ("checksum", "wide"))
    return [(job, role) for job, role in wanted if job in side.jobs and role in tables]


def run_side(data: Data, name: str, tables: Mapping[str, str], times: int, workers: int, wire: Wire) -> dict[str, Any]:
    side = SIDES[name]
    if reason := why_not(name, side):
        return {"missing": reason, "jobs": {}}
    begun = time.perf_counter()
    jobs: dict[str, Any] = {}
    found: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), "jobs": jobs}
    took = 0.0
    try:
        with running_side(name, data, data.task("totals", tables["orders"], workers), wire) as running:
            found["start_up"] = running.start_up
            for job, role in jobs_of(side, tables):
                if role == "orders" and took > PATIENCE and not name.startswith("guide"):
                    jobs[f"{job} {role}"] = {"error": f"left out: the job before took {took:.0f} s"}
                    continue
                once = role == "null_keys" or name == "mapping"
                run = jobs[f"{job} {role}"] = best(data, running, job, tables[role], 1 if once else times, workers)
                took = run.get("seconds", 0.0) if role == "orders" else took
    except SideFailed as error:
        found["missing"] = str(error)
    print(f"    {time.perf_counter() - begun:.0f} s", flush=True)
    return found


def why_not(name: str, side: Side) -> str | None:
    """Why a side cannot be run at all."""
    if not is_there(side.environment):
        return "its environment has not been made"
    if side.cluster and not find_nodes():
        return "there is no cluster: `make cluster`"
    if name == "guide_burla" and "BURLA_CLUSTER_DASHBOARD_URL" not in os.environ:
        return "it would look for a cluster of yours: run `make bench`, which logs in to this machine's"
    return None


def best(data: Data, running: RunningSide, job: str, table: str, times: int, workers: int) -> dict[str, Any]:
    """The figures of the fastest run, and the seconds of all; ``error`` where it failed."""
    runs = []
    for _ in range(times):
        try:
            runs.append(run_patiently(running, data, job, table, workers))
        except SideBusy:
            raise
        except SideFailed as error:
            return {"error": str(error)}
        if runs[-1]["seconds"] > LONG:
            break
    found = min(runs, key=lambda run: run["seconds"])
    expected = data.expected(table)
    wanted = expected.total if job == "totals" else expected.checksum
    found["expected_rows"], found["expected_value"] = expected.rows, str(wanted)
    del found["details"]
    return found | {"all_seconds": [run["seconds"] for run in runs]}


def run_patiently(
    running: RunningSide, data: Data, job: str, table: str, workers: int, **options: Any
) -> dict[str, Any]:
    """A run; where the cluster is busy, tried again for a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return running.run(data.task(job, table, workers, **options))
        except SideFailed as error:
            if not any(name in str(error) for name in BUSY) or time.monotonic() > deadline:
                raise
            time.sleep(2)
