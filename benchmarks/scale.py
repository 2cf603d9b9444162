"""How cost grows: with rows, ranges, workers and skew. Ours, beside one SQL query and beside fixed ranges."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from benchmarks.compare import LONG, run_patiently
from benchmarks.data import SKEWS, Data
from benchmarks.meter import Wire
from benchmarks.runs import RunningSide, SideFailed, running_side
from benchmarks.sides import SIDES

RANGES = (10, 100, 1_000, 10_000, 100_000)
SKEW_RANGES = 64
MINUTES = 19
"""What would end later than that after the start of the benchmarks is left out, and the results say so."""

Point = dict[str, Any]


def scale(data: Data, workers: Sequence[int], engines: Sequence[str], begun: float) -> dict[str, Any]:
    """:param engines: of "ours_local" and "ours_burla".
    :param begun: when the benchmarks did, on the monotonic clock.
    :returns: "rows", "ranges", "workers", "skew" -> lists of points, each of plain JSON.
    """
    results: dict[str, Any] = {
        "load": round(os.getloadavg()[0], 1),
        "rows": [],
        "ranges": [],
        "workers": [],
        "skew": [],
    }
    steps: dict[str, Callable[[Data, RunningSide, str], list[Point]]] = {
        "rows": rows,
        "workers": partial(of_workers, counts=workers),
        "skew": skew,
        "ranges": partial(ranges, deadline=begun + MINUTES * 60),
    }

    def grow(name: str, *kinds: str) -> None:
        print(f"  {name}: {', '.join(kinds)}", flush=True)
        try:
            with running_side(name, data, data.task("totals", data.orders(), max(workers)), wire) as running:
                for kind in kinds:
                    results[kind] += steps[kind](data, running, name)
        except SideFailed as error:
            print(f"    {error}", flush=True)

    with Wire(data.server.port) as wire:
        grow("sql", "rows")
        for name in engines:
            grow(name, "rows", "workers", *(["skew"] if name == "ours_local" else []))
        for name in engines:  # last, because they take what time is left
            grow(name, "ranges")
    return results


def rows(data: Data, running: RunningSide, name: str) -> list[Point]:
    """Over parts of the orders: the whole table is what the sides work."""
    sizes = [size for size in (100_000, 1_000_000) if size < data.rows] or [data.rows]
    found = []
    for job in SIDES[name].jobs:
        for size in sizes:
            run = work(running, data, job, data.orders(size))
            if seconds(run) < LONG:
                run = min(run, work(running, data, job, data.orders(size)), key=seconds)
            found.append({"side": name, "job": job, "rows": size, **costs(run)})
    return found


def ranges(data: Data, running: RunningSide, name: str, deadline: float) -> list[Point]:
    """Over so few rows that ranges are all that counts."""
    table = data.orders(min(1_000_000, data.rows))
    found: list[Point] = []
    for count in RANGES:
        point = {"side": name, "wanted": count}
        # Ten times the step before is more than it takes: a part of that does not grow.
        needed = found[-1]["seconds"] * 10 if found else 0
        if time.monotonic() + needed > deadline:
            return [*found, point | {"missing": f"left out: it could take {needed:.0f} s"}]
        running.patience = max(running.patience, needed * 2)
        try:
            run = work(running, data, "totals", table, ranges=count)
        except SideFailed as error:
            return [*found, point | {"missing": str(error)}]
        found.append(point | {"ranges": run["details"]["ranges"], **costs(run)})
    return found


def of_workers(data: Data, running: RunningSide, name: str, counts: Iterable[int]) -> list[Point]:
    orders = min(2_000_000, data.rows)
    table = data.orders(orders)
    found = []
    for count in counts:
        run = work(running, data, "checksum", table, workers=count)
        used = len({span[0] for span in run["details"]["timeline"].get("spans", [])})
        found.append({"side": name, "orders": orders, "workers": count, "used": used, **costs(run)})
    return found


def skew(data: Data, running: RunningSide, _: str) -> list[Point]:
    """The same number of ranges, of fixed width as the guide has them, and as the planner makes them."""
    found = []
    for percent in SKEWS:
        table = data.skewed(percent)
        for split in ("width", "auto"):
            run = min(
                (work(running, data, "checksum", table, ranges=SKEW_RANGES, split=split) for _ in range(2)), key=seconds
            )
            spans = run["details"]["timeline"]["spans"]
            lasted = [span[2] for span in sorted(spans, key=lambda span: span[1])]
            sizes = [span[4] for span in spans]
            found.append(
                {
                    "percent": percent,
                    "split": split,
                    "ranges": len(spans),
                    "largest_to_average": max(sizes) * len(sizes) / sum(sizes),
                    "makespan_16": makespan(lasted, 16),
                    "work": sum(lasted),
                    **costs(run),
                }
            )
    return found


def makespan(lasted: Iterable[float], workers: int) -> float:
    """Seconds until the last of the ranges is done, when each next one goes to the worker that is free first."""
    free = [0.0] * workers
    for one in lasted:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def work(running: RunningSide, data: Data, job: str, table: str, workers: int = 2, **options: Any) -> dict[str, Any]:
    return run_patiently(running, data, job, table, workers, **options)


def seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def costs(run: dict[str, Any]) -> Point:
    return {name: value for name, value in run.items() if name not in ("details", "value", "rows")}
