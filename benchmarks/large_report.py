"""The section of RESULTS.md about the largest jobs."""

from __future__ import annotations

from typing import Any

from benchmarks.sides.large import JOBS, LARGE

HEADING = "## The largest jobs"
START, END = (f"<!-- --8<-- [{mark}:large] -->" for mark in ("start", "end"))
"""The documentation includes the lines in between."""


def text(runs: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the section of RESULTS.md."""
    return [
        HEADING,
        "",
        START,
        *lines(runs),
        "",
        "Two workers. Memory, MB: of the task's process; and of the task, its client and, on the local engine, its "
        "workers together (the memory of both includes the XComs, which a real Airflow sends to its database). State: "
        "characters of the largest value in the task state store, for which Airflow has a limit of 64 KB. Report: "
        "characters of what the Ranges tab shows. SQL: one statement over the same rows.",
        END,
    ]


def lines(runs: list[dict[str, Any]]) -> list[str]:
    """Return a table of the runs, and the errors."""
    titles = "job|engine|items|rows|seconds|CPU seconds|task, MB|all, MB|state|report|SQL, seconds|same as SQL|load"
    table = [f"| {titles.replace('|', ' | ')} |", f"|---|---|{'---:|' * 9}---|---:|"]
    failed = [f"- {JOBS[run['job']].title}: {run['error']}" for run in runs if "error" in run]
    for run in runs:
        if "error" in run:
            continue
        sql = run.get("sql")
        is_same = "" if sql is None else "yes" if is_right(run) else "**no**"
        figures = [
            f"{run['ranges']:,}",
            f"{run['rows']:,}",
            f"{run['seconds']:,.0f}",
            f"{run['cpu_task'] + run['cpu_workers'] + run['cpu_database']:,.0f}",
            f"{run['task_peak']:,.0f}",
            f"{run['memory_task']:,.0f}",
            f"{run['largest_state']:,}",
            f"{run['report']:,}",
            "" if sql is None else f"{sql['seconds']:,.0f}",
        ]
        names = f"{JOBS[run['job']].title} | {LARGE[run['side']].title}"
        table.append(f"| {names} | {' | '.join(figures)} | {is_same} | {run['load']:g} |")
    return [*table, *([""] if failed else []), *failed]


def is_right(run: dict[str, Any]) -> bool:
    """Return whether rows and total are those of the SQL statement. The total of ``part`` is not a sum in SQL."""
    sql = run["sql"]
    return run["rows"] == sql["rows"] and (run["job"] == "part" or str(run["value"]) == sql["value"])


def not_measured() -> list[str]:
    """Return the section without results."""
    return [HEADING, "", START, "Not measured.", END]
