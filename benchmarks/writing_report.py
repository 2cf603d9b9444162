"""The section of RESULTS.md about writing rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.compare import LONG_SECONDS
from benchmarks.load import load_warning
from benchmarks.sides.writing import ALL, CALL_PYTHON, LIMITS, WRITERS

HEADING = "## Writing rows"
START, END = (f"<!-- --8<-- [{mark}:writing] -->" for mark in ("start", "end"))
"""The documentation includes the lines in between."""

OURS = "ours_local"
AIMS = {"copy": 2}
"""Limits that this provider should not exceed by more than this factor."""
FASTER = 3
"""How many times as fast as other tools this provider should be."""

TITLES = {
    "insert": "Insert into an empty table",
    "upsert": "Upsert: half of the rows are there, with other values",
    "repeat": "The same upsert again: every row is there as it will be written",
    "update": "Update: every row is there, with other values",
    "in_place": "Update in place: two columns of the table that is read",
}


def text(results: dict[str, Any]) -> list[str]:
    """Return the lines of the section."""
    return [
        HEADING,
        "",
        START,
        f"Each side reads {results['rows']:,} rows (a bigint and a numeric), calls a Python function on each, and "
        "writes a row of a bigint key, a bigint and a text to a table of the same database. At most "
        f"{results['workers']} workers per side; the fastest of {results['times']} runs, of one if it takes longer "
        f"than {LONG_SECONDS} s. The server runs without fsync and autovacuum. After each run all rows are compared "
        "with those of one SQL statement.",
        *load_warning(results["sides"], results["machine"]["cores"]),
        *[line for job in ALL for line in ["", *comparison(results, job)]],
        "",
        *notes(),
        "",
        f"Measured on {results['when']}.",
        END,
    ]


def not_measured() -> list[str]:
    """Return the lines of the section without results."""
    return [HEADING, "", START, "Not measured.", END]


def comparison(results: dict[str, Any], job: str) -> list[str]:
    """Return the table of a job as Markdown."""
    sides = results["sides"]
    timed = {name: figures[job] for name, figures in sides.items() if job in figures}
    ours = timed.get(OURS, {}).get("seconds")
    lines = [
        f"### {TITLES[job]}",
        "",
        "| | seconds | x this provider | CPU seconds | WAL, MB | growth, MB | memory of the task, MB | rows |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, run in sorted(timed.items(), key=lambda item: item[1]["seconds"]):
        ratio = f"{run['seconds'] / ours:.2f}" if ours else ""
        right = f"{run['differences']:,} differ" if run["differences"] else "all right"
        sizes = " | ".join(f"{size:,.0f}" for size in (run["wal"] / 1e6, run["growth"] / 1e6, run["memory_task"]))
        used = run["cpu_task"] + run["cpu_workers"] + run["cpu_database"]
        times = f"{run['seconds']:.2f} | {ratio} | {used:.1f}"
        lines.append(f"| {WRITERS[name].title} | {times} | {sizes} | {right} |")
    for name, figures in sides.items():
        if "missing" in figures and job in WRITERS[name].jobs and job not in figures:
            lines.append(f"| {WRITERS[name].title} | failed: {figures['missing']} | | | | | | |")
    return [*lines, *([""] if ours else []), *verdicts(timed)]


def verdicts(timed: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield whether this provider is as fast as it should be."""
    if OURS not in timed:
        return
    ours = timed[OURS]["seconds"]
    for name in (one for one in LIMITS if one in timed):
        aim = f" (aim: at most {AIMS[name]})" if name in AIMS else ""
        factor = ours / timed[name]["seconds"]
        yield f"- This provider takes {factor:.1f} times as long as {WRITERS[name].title}{aim}."
    others = {name: timed[name]["seconds"] for name in CALL_PYTHON if name in timed}
    if others:
        fastest = min(others, key=lambda name: others[name])
        speed = f"{others[fastest] / ours:.1f} times as fast as {WRITERS[fastest].title}"
        yield f"- This provider is {speed}, the fastest other side that calls Python (aim: at least {FASTER})."


def notes() -> Iterator[str]:
    """Yield what readers of the figures must know about each side."""
    for side in WRITERS.values():
        yield f"- {side.title}: {side.note}."
