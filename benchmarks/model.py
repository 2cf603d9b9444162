"""Estimate the duration of larger jobs on larger machines: ``python -m benchmarks.model``.

The duration is a fixed part plus the longest of four parts that run at the same time: the database, the workers, the
network, and the distribution of ranges. All constants come from the newest results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burla_provider.ranges.sizing import RangeSizing

RESULTS = Path(__file__).with_name("results")
ROWS = (10**8, 10**9, 10**10)
WORKERS = (10, 100, 1_000)
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


def text(sides: dict[str, Any], scale: dict[str, Any]) -> list[str]:
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
        limits = ((site, *enough_workers(cost, site)) for site in SITES)
        enough = "; ".join(f"with {site.cores} cores {count:,.0f} ({limit})" for site, count, limit in limits)
        lines.append(f"- {job}: number of workers that use the database or its network fully: {enough}.")
    return [*lines, "", "Assumptions: " + "; ".join(ASSUMPTIONS) + "."]


if __name__ == "__main__":
    print("\n".join(text(*(json.loads((RESULTS / f"{name}.json").read_text()) for name in ("sides", "scale")))))
