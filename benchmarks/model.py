"""Estimate the duration of larger jobs on larger machines: ``python -m benchmarks.model``.

The duration is a fixed part plus the longest of four parts that run at the same time: the database, the workers, the
network, and the distribution of ranges. All constants come from the newest results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from burla_provider.ranges.sizing import RangeSizing

RESULTS = Path(__file__).with_name("results")
START, END = (f"<!-- --8<-- [{mark}:limits] -->" for mark in ("start", "end"))
"""The documentation includes the lines in between."""

ROWS = (10**8, 10**9, 10**10)
WORKERS = (10, 100, 1_000)
MAX_CONNECTIONS = 100
"""The default of PostgreSQL."""
CONNECTIONS_LEFT = 0.05
"""Share of the connections that the provider leaves to others if ``max_parallelism`` is given."""
OTHER_CONNECTIONS = 6
"""Those that PostgreSQL reserves for superusers, and those of the task."""
GROW_VCPUS = 2_560
"""vCPUs that Burla's head (1.8.4) boots for ``grow=True``, unless its setting ``max_vcpus`` is another."""
NODE_VCPUS = (2, 32)
RESULT_SECONDS = 15
"""Seconds in which Burla's client (1.8.4) must have received a response of a node: about 1 MB of results, or one."""
JOBS = ("totals", "checksum")
ASSUMPTIONS = (
    "the cost per row for database, workers and network is the one measured here, for any number of rows and workers: "
    "the table is in memory, as here, or the disks are fast enough",
    "the cores of the database and of the workers are as fast as those of this machine",
    "ranges are distributed one after another, as fast as in the measurement with many ranges on two workers",
    "the fixed part (plan, start of the client, response of the cluster) is the same as for 100,000 rows",
    "nodes are running and have the packages installed",
    "each worker uses one connection, so max_connections is at least 5 % above the number of workers; otherwise the "
    "provider uses fewer workers",
)


@dataclass(frozen=True)
class Costs:
    """The costs of a job: seconds of one core and bytes per row, seconds per range, and fixed seconds."""

    database: float
    worker: float
    wire: float
    per_range: float
    fixed: float


@dataclass(frozen=True)
class Site:
    """A database server.

    :param cores: number of processor cores.
    :param gigabits: network bandwidth in Gbit/s.
    """

    cores: int
    gigabits: float


SITES = (Site(8, 10), Site(64, 25))


@dataclass(frozen=True)
class Forecast:
    seconds: float
    limit: str


def forecast(costs: Costs, rows: int, workers: int, site: Site) -> Forecast:
    """Return the duration of a job, and the part that limits it."""
    ranges = RangeSizing(parallelism=workers, rows=rows).range_count(rows)
    parts = {
        "database": rows * costs.database / min(site.cores, workers),
        "workers": rows * (costs.worker + costs.database) / workers,
        "network": rows * costs.wire * 8 / (site.gigabits * 1e9),
        "distribution": ranges * costs.per_range,
    }
    limit = max(parts, key=lambda name: parts[name])
    return Forecast(costs.fixed + parts[limit], limit)


def enough_workers(costs: Costs, site: Site) -> tuple[float, str]:
    """Return the number of workers that use the database or its network fully, and which of both."""
    per_row = {"database": costs.database / site.cores, "network": costs.wire * 8 / (site.gigabits * 1e9)}
    limit = max(per_row, key=lambda name: per_row[name])
    return (costs.worker + costs.database) / per_row[limit], limit


def calibrate(sides: dict[str, Any], scale: dict[str, Any]) -> dict[str, Costs]:
    """Return the costs of each job: from the runs on Burla, otherwise on the local engine. Empty without such runs."""
    for side in ("ours_burla", "ours_local"):
        runs = sides["sides"].get(side, {}).get("jobs", {})
        has_many = any(run["side"] == side and run.get("ranges", 0) >= 1_000 for run in scale["ranges"])
        if has_many and all("seconds" in runs.get(f"{job} orders", {}) for job in JOBS):
            return {job: _costs_of(sides, scale, side, job) for job in JOBS}
    return {}


def _costs_of(sides: dict[str, Any], scale: dict[str, Any], side: str, job: str) -> Costs:
    run = sides["sides"][side]["jobs"][f"{job} orders"]
    rows = run["rows"]
    small = next(run for run in scale["rows"] if (run["side"], run["job"]) == (side, job))
    steps = [step for step in scale["ranges"] if step["side"] == side and "seconds" in step]
    few, many = (
        max((step for step in steps if step["ranges"] <= maximum), key=lambda step: step["ranges"])
        for maximum in (150, 20_000)
    )
    worker_seconds = run["cpu_workers"] if side == "ours_burla" else run["cpu_task"] - small["cpu_task"]
    return Costs(
        database=run["cpu_database"] / rows,
        worker=worker_seconds / rows,
        wire=(run["bytes"] or 0) / rows,
        per_range=max(many["seconds"] - few["seconds"], 0.0) / (many["ranges"] - few["ranges"]),
        fixed=small["seconds"],
    )


def table(costs: dict[str, Costs]) -> list[str]:
    """Return the forecasts as a Markdown table."""
    titles = [f"{site.cores} cores, {site.gigabits:g} Gbit/s" for site in SITES]
    lines = [f"| job | rows | workers | {' | '.join(titles)} |", f"|---|---:|---:|{'---|' * len(SITES)}"]
    for job, cost in costs.items():
        for rows in ROWS:
            for workers in WORKERS:
                cells = [forecast(cost, rows, workers, site) for site in SITES]
                row = " | ".join(f"{duration(cell.seconds)}, {cell.limit}" for cell in cells)
                lines.append(f"| {job} | {rows:,} | {workers:,} | {row} |")
    return lines


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def limits(costs: dict[str, Costs], large: list[dict[str, Any]]) -> list[str]:
    """Return what the largest forecast needs, beside the limits of the database and of Burla, as a Markdown table.

    :param large: the runs of ``benchmarks/large.py``.
    """
    workers, rows = WORKERS[-1], ROWS[-1]
    sizing = RangeSizing(parallelism=workers, rows=rows)
    ranges = sizing.range_count(rows)
    connections = ceil(workers / (1 - CONNECTIONS_LEFT)) + OTHER_CONNECTIONS
    backend = max((run["backend_mb"] for run in large if "backend_mb" in run), default=None)
    memory = "" if backend is None else f": {backend:.1f} MB per connection, {backend * connections / 1e3:.1f} GB here"
    per_range = max(cost.per_range for cost in costs.values())
    nodes = ", ".join(f"{ceil(workers / vcpus):,} with {vcpus} vCPUs each" for vcpus in NODE_VCPUS)
    enough = "; ".join(f"{job} {enough_workers(cost, SITES[-1])[0]:,.0f}" for job, cost in costs.items())
    rows_of_table = [
        ("workers that make the job faster", enough, f"{workers:,}", "fewer workers, or a larger database or network"),
        ("`max_connections` of PostgreSQL", f"{MAX_CONNECTIONS} (default)", f"{connections:,}", f"raise it{memory}"),
        ("ranges of a plan", f"{sizing.max_ranges:,}", f"{ranges:,}", "nothing"),
        ("time to distribute the ranges", "", f"{ranges * per_range:.1f} s", "one client distributes: fewer ranges"),
        ("vCPUs that Burla boots for `grow=True`", f"{GROW_VCPUS:,} (default)", f"{workers:,}", "nothing"),
        (
            "nodes that report to Burla's head every second",
            "2 vCPUs (default head)",
            nodes,
            "large nodes",
        ),
        ("result of one range", f"received within {RESULT_SECONDS} s", "some hundred bytes", "nothing"),
    ]
    return [
        "| | limit | needed | what would have to change |",
        "|---|---:|---:|---|",
        *[f"| {' | '.join(line)} |" for line in rows_of_table],
    ]


def check(costs: dict[str, Costs], large: list[dict[str, Any]]) -> list[str]:
    """Return how the costs compare with those of the largest table that was measured."""
    run = next((run for run in large if run["job"] == "pages" and "error" not in run), None)
    if run is None:
        return []
    measured = run["cpu_database"] / run["rows"] * 1e6
    return [
        "",
        f"Check: totals of {run['rows']:,} rows took {measured:.2f} µs of the database's CPU per row, with a load "
        f"average of {run['load']:g}; the forecasts use {costs['totals'].database * 1e6:.2f} µs.",
    ]


def text(sides: dict[str, Any], scale: dict[str, Any], large: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the section of the results."""
    costs = calibrate(sides, scale)
    if not costs:
        return ["Not calibrated: there are too few runs of this provider."]
    lines = ["Costs from the runs above:", ""]
    lines += ["| job | database, µs per row | worker, µs per row | bytes per row | ms per range | fixed, s |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for job, cost in costs.items():
        parts = [cost.database * 1e6, cost.worker * 1e6, cost.wire, cost.per_range * 1e3, cost.fixed]
        lines.append(f"| {job} | {' | '.join(f'{part:.2f}' for part in parts)} |")
    lines += ["", "Forecasts, with the part that limits the job:", "", *table(costs), ""]
    for job, cost in costs.items():
        sites = ((site, *enough_workers(cost, site)) for site in SITES)
        enough = "; ".join(f"with {site.cores} cores {count:,.0f} ({limit})" for site, count, limit in sites)
        lines.append(f"- {job}: number of workers that use the database or its network fully: {enough}.")
    lines += [
        "",
        START,
        f"{WORKERS[-1]:,} workers on {ROWS[-1]:,} rows need:",
        "",
        *limits(costs, large),
        *check(costs, large),
        END,
    ]
    return [*lines, "", "Assumptions: " + "; ".join(ASSUMPTIONS) + "."]


if __name__ == "__main__":
    results = [json.loads((RESULTS / f"{name}.json").read_text()) for name in ("sides", "scale", "large")]
    print("\n".join(text(*results)))
