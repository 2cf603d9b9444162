"""The section of RESULTS.md about functions of batches."""

from __future__ import annotations

from typing import Any

from benchmarks.sides.batches import BATCHERS
from benchmarks.verdict import verdict

HEADING = "## Vectorised functions on batches"
START, END = (f"<!-- --8<-- [{mark}:batches] -->" for mark in ("start", "end"))
"""The documentation includes the lines in between."""

OURS = "ours_arrow"
TITLES = {
    "points": "points for amount, status and weekday of {rows:,} orders",
    "score": "a score from the note and the jsonb of {rows:,} wide rows",
}


def text(results: dict[str, Any]) -> list[str]:
    """Return the lines of the section."""
    return [
        HEADING,
        "",
        START,
        "The same two cores, the same rows, the same function on batches in the format of each tool. Seconds without "
        "the start of the tool, memory with it.",
        "",
        *[line for job in results["expected"] for line in (*comparison(results, job), "")],
        f"Measured on {results['when']}; the load average at the start was {results['machine']['load']:g}.",
        "",
        *constructors(results["constructors"]),
        "",
        *[f"- {side.title}: {side.note}." for name, side in BATCHERS.items() if name in results["sides"]],
        END,
    ]


def not_measured() -> list[str]:
    return [HEADING, "", START, "Not measured.", END]


def constructors(counts: list[dict[str, Any]]) -> list[str]:
    """Return the table of the instances of a class."""
    lines = [
        "A class as function: its instances, and the processes that called one. A process that takes the place of a "
        "killed one makes its own.",
        "",
        "| killed processes | instances | processes | rows |",
        "|---:|---:|---:|---|",
    ]
    for count in counts:
        rows = "all, once" if count["rows"] == count["expected_rows"] else f"**{count['rows']:,}**"
        lines.append(f"| {count['killed']} | {count['made']} | {count['called']} | {rows} |")
    return lines


def comparison(results: dict[str, Any], job: str) -> list[str]:
    """Return the table of a job as Markdown, the fastest side first."""
    sides = results["sides"]
    ours = sides.get(OURS, {}).get(job, {}).get("seconds")
    lines = [
        f"**{job}**: {TITLES[job].format(rows=results['expected'][job][0])}",
        "",
        "| | seconds | x this provider | rows/s | CPU seconds | memory, MB | correct |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    timed = {name: figures[job] for name, figures in sides.items() if job in figures}
    for name, run in sorted(timed.items(), key=lambda item: item[1]["seconds"]):
        cells = [
            BATCHERS[name].title,
            f"{run['seconds']:.2f}",
            f"{run['seconds'] / ours:.2f}" if ours else "",
            f"{run['rows'] / run['seconds']:,.0f}",
            f"{run['cpu_database'] + run['cpu_workers'] + run['cpu_task']:.1f}",
            f"{run['memory_task'] + run['memory_workers']:,.0f}",
            verdict(run),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    missing = {name: figures["missing"] for name, figures in sides.items() if job not in figures}
    lines += [f"| {BATCHERS[name].title} | | | | | | {reason[:160]} |" for name, reason in missing.items()]
    return lines
