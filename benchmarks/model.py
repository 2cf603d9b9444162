"""What to expect beyond the machine that was measured: ``python -m benchmarks.model``.

A job's seconds are a fixed part, and the longest of four things that go on at the same time: the database's work, the
workers' work, the bytes on the wire, and the handing out of ranges.
Every constant is calibrated by the newest results.
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
    "a row costs the database, the workers and the wire what it cost here, however many rows and workers there are: "
    "the table is in memory, as here, or the disks keep up",
    "the database's cores and the workers' cores are as fast as those of the machine that was measured",
    "ranges are handed out one after the other, at the pace of the many ranges on two workers above",
    "the fixed part (plan, start of the client, the cluster's answer) stays what it was at 100,000 rows",
    "nodes are up and have the packages",
    "every worker holds one connection, so max_connections is at least 5 % above the number of workers; where it is "
    "not, the provider itself uses fewer workers",
)


@dataclass(frozen=True)
class Costs:
    """Of one job. Seconds of one core, and bytes, for one row; ``a_range`` and ``fixed`` in seconds."""

    database: float
    worker: float
    wire: float
    a_range: float
    fixed: float


@dataclass(frozen=True)
class Site:
    """:param cores: of the database server.
    :param gigabits: of its network, each second.
    """

    cores: int
    gigabits: float


SITES = (Site(8, 10), Site(64, 25))


@dataclass(frozen=True)
class Forecast:
    seconds: float
    limit: str


def forecast(costs: Costs, rows: int, workers: int, site: Site) -> Forecast:
    """How long it takes, and what it waits for."""
    ranges = RangeSizing(parallelism=workers, rows=rows).range_count(rows)
    parts = {
        "database": rows * costs.database / min(site.cores, workers),
        "workers": rows * (costs.worker + costs.database) / workers,
        "network": rows * costs.wire * 8 / (site.gigabits * 1e9),
        "handing out": ranges * costs.a_range,
    }
    limit = max(parts, key=lambda name: parts[name])
    return Forecast(costs.fixed + parts[limit], limit)


def enough_workers(costs: Costs, site: Site) -> tuple[float, str]:
    """More workers than this only wait: for the database, or for its network."""
    a_row = {"database": costs.database / site.cores, "network": costs.wire * 8 / (site.gigabits * 1e9)}
    limit = max(a_row, key=lambda name: a_row[name])
    return (costs.worker + costs.database) / a_row[limit], limit


def calibrate(sides: dict[str, Any], scale: dict[str, Any]) -> dict[str, Costs]:
    """Job -> costs, from the runs on Burla where there are such, else from the local engine; empty without either."""
    for side in ("ours_burla", "ours_local"):
        runs = sides["sides"].get(side, {}).get("jobs", {})
        many = any(one["side"] == side and one.get("ranges", 0) >= 1_000 for one in scale["ranges"])
        if many and all("seconds" in runs.get(f"{job} orders", {}) for job in JOBS):
            return {job: _costs_of(sides, scale, side, job) for job in JOBS}
    return {}


def _costs_of(sides: dict[str, Any], scale: dict[str, Any], side: str, job: str) -> Costs:
    run = sides["sides"][side]["jobs"][f"{job} orders"]
    rows = run["rows"]
    small = next(one for one in scale["rows"] if (one["side"], one["job"]) == (side, job))
    steps = [one for one in scale["ranges"] if one["side"] == side and "seconds" in one]
    few, many = (
        max((one for one in steps if one["ranges"] <= most), key=lambda one: one["ranges"]) for most in (150, 20_000)
    )
    worked = run["cpu_workers"] if side == "ours_burla" else run["cpu_task"] - small["cpu_task"]
    return Costs(
        database=run["cpu_database"] / rows,
        worker=worked / rows,
        wire=(run["bytes"] or 0) / rows,
        a_range=max(many["seconds"] - few["seconds"], 0.0) / (many["ranges"] - few["ranges"]),
        fixed=small["seconds"],
    )


def table(costs: dict[str, Costs]) -> list[str]:
    """The forecasts, as Markdown."""
    places = [f"{site.cores} cores, {site.gigabits:g} Gbit/s" for site in SITES]
    lines = [f"| job | rows | workers | {' | '.join(places)} |", f"|---|---:|---:|{'---|' * len(SITES)}"]
    for job, cost in costs.items():
        for rows in ROWS:
            for workers in WORKERS:
                cells = [forecast(cost, rows, workers, site) for site in SITES]
                shown = " | ".join(f"{duration(cell.seconds)}, {cell.limit}" for cell in cells)
                lines.append(f"| {job} | {rows:,} | {workers:,} | {shown} |")
    return lines


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def text(sides: dict[str, Any], scale: dict[str, Any]) -> list[str]:
    """The model's section of the results."""
    costs = calibrate(sides, scale)
    if not costs:
        return ["Not calibrated: of the runs above, too few of this provider's are there."]
    lines = ["Calibrated by the runs above:", ""]
    lines += ["| job | database, µs a row | worker, µs a row | bytes a row | ms a range | fixed, s |"]
    lines += ["|---|---:|---:|---:|---:|---:|"]
    for job, cost in costs.items():
        parts = [cost.database * 1e6, cost.worker * 1e6, cost.wire, cost.a_range * 1e3, cost.fixed]
        lines.append(f"| {job} | {' | '.join(f'{part:.2f}' for part in parts)} |")
    lines += ["", "Forecasts, with what the job would wait for:", "", *table(costs), ""]
    for job, cost in costs.items():
        limits = ((site, *enough_workers(cost, site)) for site in SITES)
        enough = "; ".join(f"with {site.cores} cores {count:,.0f} ({limit})" for site, count, limit in limits)
        lines.append(f"- {job}: so many workers meet the limit of the database or of its network: {enough}.")
    return [*lines, "", "Assumed: " + "; ".join(ASSUMPTIONS) + "."]


if __name__ == "__main__":
    print("\n".join(text(*(json.loads((RESULTS / f"{name}.json").read_text()) for name in ("sides", "scale")))))
