"""Measure how the cost grows with rows, ranges, workers and skew, of this provider and of one SQL query."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.compare import LONG_SECONDS, run_when_free
from benchmarks.data import SKEWS, Data
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideFailed, running_side
from benchmarks.sides import SIDES

RANGES = (10, 100, 1_000, 10_000, 100_000)
SKEW_RANGES = 64
MAX_MINUTES = 19
"""Steps of many ranges that would end later than this after the start of the benchmarks are skipped. The results say
so."""

QUICK_RANGES = 1_000
"""Up to this number of ranges, steps are never skipped: the forecasts need them."""

Point = dict[str, Any]


def scale(data: Data, workers: Sequence[int], engines: Sequence[str], started: float) -> dict[str, Any]:
    """Run all measurements.

    :param engines: "ours_local" and "ours_burla", or one of them.
    :param started: start of the benchmarks on the monotonic clock.
    :returns: "rows", "ranges", "workers", "skew" -> lists of points, as JSON.
    """
    results: dict[str, Any] = {
        "load": round(os.getloadavg()[0], 1),
        "rows": [],
        "ranges": [],
        "workers": [],
        "skew": [],
    }
    measurements: dict[str, Callable[[Data, RunningSide, str], list[Point]]] = {
        "rows": measure_rows,
        "workers": partial(measure_workers, counts=workers),
        "skew": measure_skew,
        "ranges": partial(measure_ranges, deadline=started + MAX_MINUTES * 60),
    }

    def measure(name: str, *kinds: str) -> None:
        print(f"  {name}: {', '.join(kinds)}", flush=True)
        try:
            with running_side(name, data, data.task("totals", data.orders(), max(workers)), wire) as running:
                for kind in kinds:
                    results[kind] += measurements[kind](data, running, name)
        except SideFailed as error:
            print(f"    {error}", flush=True)

    with Wire(data.server.port) as wire:
        measure("sql", "rows")
        for name in engines:
            measure(name, "rows", "workers", *(["skew"] if name == "ours_local" else []))
        for name in engines:  # last, because they use the remaining time
            measure(name, "ranges")
    return results


def measure_rows(data: Data, running: RunningSide, name: str) -> list[Point]:
    """Run each job over parts of the orders. The comparison of the sides runs them over the whole table."""
    sizes = [size for size in (100_000, 1_000_000) if size < data.rows] or [data.rows]
    points = []
    for job in SIDES[name].jobs:
        for size in sizes:
            run = run_task(running, data, job, data.orders(size))
            if seconds(run) < LONG_SECONDS:
                run = min(run, run_task(running, data, job, data.orders(size)), key=seconds)
            points.append({"side": name, "job": job, "rows": size, **costs(run)})
    return points


def measure_ranges(data: Data, running: RunningSide, name: str, deadline: float) -> list[Point]:
    """Run totals over few rows, so that only the number of ranges matters. The key: there are fewer pages."""
    table = data.orders(min(1_000_000, data.rows))
    points: list[Point] = []
    for count in RANGES:
        point = {"side": name, "wanted": count}
        # Ten times the previous step is an upper limit, because a part of it is fixed.
        needed = points[-1]["seconds"] * 10 if points else 0
        if count > QUICK_RANGES and time.monotonic() + needed > deadline:
            return [*points, point | {"missing": f"skipped: it could take {needed:.0f} s"}]
        running.timeout = max(running.timeout, needed * 2)
        try:
            run = run_task(running, data, "totals", table, ranges=count, split="key")
        except SideFailed as error:
            return [*points, point | {"missing": str(error)}]
        points.append(point | {"ranges": run["details"]["ranges"], **costs(run)})
    return points


def measure_workers(data: Data, running: RunningSide, name: str, counts: Iterable[int]) -> list[Point]:
    orders = min(2_000_000, data.rows)
    table = data.orders(orders)
    points = []
    for count in counts:
        run = run_task(running, data, "checksum", table, workers=count)
        used = len({span[0] for span in run["details"]["timeline"].get("spans", [])})
        points.append({"side": name, "orders": orders, "workers": count, "used": used, **costs(run)})
    return points


def measure_skew(data: Data, running: RunningSide, _: str) -> list[Point]:
    """Run the same number of ranges, once with fixed width as in the guide, once as the planner creates them."""
    points = []
    for percent in SKEWS:
        table = data.skewed(percent)
        for split in ("width", "key"):
            run = min(
                (run_task(running, data, "checksum", table, ranges=SKEW_RANGES, split=split) for _ in range(2)),
                key=seconds,
            )
            spans = run["details"]["timeline"]["spans"]
            durations = [span[2] for span in sorted(spans, key=lambda span: span[1])]
            sizes = [span[4] for span in spans]
            points.append(
                {
                    "percent": percent,
                    "split": split,
                    "ranges": len(spans),
                    "largest_to_average": max(sizes) * len(sizes) / sum(sizes),
                    "makespan_16": makespan(durations, 16),
                    "work": sum(durations),
                    **costs(run),
                }
            )
    return points


def makespan(durations: Iterable[float], workers: int) -> float:
    """Return the seconds until the last range is done, if each range goes to the first free worker."""
    free = [0.0] * workers
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def run_task(
    running: RunningSide, data: Data, job: str, table: str, workers: int = 2, **options: Any
) -> dict[str, Any]:
    return run_when_free(running, data, job, table, workers, **options)


def seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def costs(run: dict[str, Any]) -> Point:
    return {name: value for name, value in run.items() if name not in ("details", "value", "rows")}
