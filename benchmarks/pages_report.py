"""The section of RESULTS.md about keys, pages and one query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.cold import SHARED_BUFFERS_MB
from benchmarks.pages import LONG_SECONDS, TIMES, WORKERS
from benchmarks.sides import SIDES
from benchmarks.verdict import verdict

HEADING = "## By key, by pages, and in one query"
START, END = (f"<!-- --8<-- [{mark}:pages] -->" for mark in ("start", "end"))
"""The documentation includes the lines in between."""

ENGINES = {"ours_local": "local", "ours_burla": "Burla"}
PEERS = ("sql", "duckdb")
LIMIT = 1.5
"""Totals should not take longer than this number of queries, plus a job over one row."""

Run = dict[str, Any]


def text(results: dict[str, Any]) -> list[str]:
    """Return the lines of the section."""
    return [
        HEADING,
        "",
        START,
        f"Seconds, all tables in memory, {WORKERS} workers, the fastest of {TIMES} runs, of one if it takes longer "
        f"than {LONG_SECONDS} s. By key: `key='id'`. By pages: `split='pages'`. DuckDB counts and sums outside of the "
        "database. The rows of `uuids` are on disk in random order of their key.",
        "",
        *in_memory(results["memory"]),
        "",
        *problems(results),
        f"Measured on {results['when']}; the load average at the start was {results['load']:g}.",
        "",
        "### From disk",
        "",
        f"Before each run PostgreSQL was restarted, with shared_buffers = {SHARED_BUFFERS_MB} MB, and its files were "
        "removed from the page cache (`posix_fadvise`; dropping the complete cache would also slow down the imports of "
        "Python). One run each. The storage of the machine can have a cache of its own. Reads per page: how often "
        "PostgreSQL read a page of the table into its buffers, on average.",
        "",
        *from_disk(results["disk"]),
        "",
        "### Where the time goes",
        "",
        *breakdown(results),
        END,
    ]


def not_measured() -> list[str]:
    return [HEADING, "", START, "Not measured.", END]


def in_memory(points: list[Run]) -> Iterator[str]:
    """Yield the table: one line per job and engine, beside the peers."""
    yield "| job | engine | by key | by pages | one SQL query | DuckDB |"
    yield "|---|---|---:|---:|---:|---:|"
    for job, role in dict.fromkeys((point["job"], point["table"]) for point in points if "job" in point):
        peers = [cell(find(points, name, "auto", job, role)) for name in PEERS]
        for name, engine in ENGINES.items():
            runs = [find(points, name, way, job, role) for way in ("key", "pages")]
            if role == "one_row":
                runs = [find(points, name, "auto", job, role)] * 2
            if any(runs):
                yield f"| {title(job, role, points)} | {engine} | {' | '.join([*map(cell, runs), *peers])} |"


def title(job: str, role: str, points: list[Run]) -> str:
    rows = next(point["rows"] for point in points if (point.get("job"), point.get("table")) == (job, role))
    orders = f"{rows:,} rows with a random uuid key" if role == "uuids" else f"{rows:,} order{'s' if rows > 1 else ''}"
    return f"a Python function on {orders}" if job == "checksum" else f"totals of {orders}"


def find(points: list[Run], name: str, way: str, job: str, role: str) -> Run | None:
    wanted = {"side": name, "way": way, "job": job, "table": role}
    return next((point for point in points if wanted.items() <= point.items()), None)


def cell(run: Run | None) -> str:
    return f"{run['seconds']:.2f}" if run else ""


def problems(results: dict[str, Any]) -> Iterator[str]:
    """Yield what was not measured, and results that are wrong."""
    for point in [*results["memory"], *results["disk"]]:
        name = SIDES[point["side"]].title
        if "missing" in point:
            yield f"> **Not measured**: {name}: {point['missing']}."
            yield ""
        elif verdict(point) != "yes":
            yield f"> **Wrong result** of {name}: {verdict(point)}."
            yield ""


def from_disk(points: list[Run]) -> Iterator[str]:
    yield "| table | MB | side | seconds | read from disk, MB | reads per page |"
    yield "|---|---:|---|---:|---:|---:|"
    for point in points:
        if "seconds" in point:
            way = f", by {point['way']}" if point["side"] in ENGINES else ""
            cells = [f"`{point['table']}`", f"{point['pages'] * 8192 / 1e6:,.0f}", SIDES[point["side"]].title + way]
            cells += [f"{point['seconds']:.2f}", f"{point['disk_bytes'] / 1e6:,.0f}"]
            yield f"| {' | '.join(cells)} | {point['pages_read'] / max(point['pages'], 1):,.1f} |"


def breakdown(results: dict[str, Any]) -> Iterator[str]:
    """Yield where the time of totals by pages goes, compared with plain queries."""
    queries, points = results["queries"], results["memory"]
    runs = {name: find(points, name, "pages", "totals", "orders") for name in ENGINES}
    fixed = {name: find(points, name, "auto", "totals", "one_row") for name in ENGINES}
    pairs = {name: (run, small) for name in ENGINES if (run := runs[name]) and (small := fixed[name])}
    if not pairs:
        yield "Not measured."
        return
    rows = next(iter(pairs.values()))[0]["rows"]
    yield f"Totals of {rows:,} orders in memory, without and with this provider:"
    yield ""
    yield "| | seconds |"
    yield "|---|---:|"
    yield f"| one SQL query; PostgreSQL reads with up to three processes | {queries['parallel']:.2f} |"
    yield f"| one SQL query in one process | {queries['serial']:.2f} |"
    yield f"| two SQL queries at the same time, half of the pages each | {queries['halves']:.2f} |"
    for name, (run, small) in pairs.items():
        yield f"| a job over one row, {ENGINES[name]} | {small['seconds']:.2f} |"
        yield f"| by pages, {ENGINES[name]} | {run['seconds']:.2f} |"
        if "ranges_seconds" in run:
            yield f"| from the start of its first range to the end of the last one | {run['ranges_seconds']:.2f} |"
            yield f"| seconds of all its ranges, divided by {WORKERS} workers | {run['work_seconds'] / WORKERS:.2f} |"
    yield ""
    for name, (run, small) in pairs.items():
        yield f"- {ENGINES[name]}: {compare_with_limit(run, small['seconds'], queries)}"
    query = find(points, "sql", "auto", "totals", "orders")
    if query:
        used = ", ".join(f"{run['cpu_database']:.1f} ({ENGINES[name]})" for name, (run, _) in pairs.items())
        yield f"- CPU seconds of the database: {query['cpu_database']:.1f} for one query, {used} by pages."


def compare_with_limit(run: Run, fixed: float, queries: dict[str, float]) -> str:
    """Return whether totals are as fast as they should be, and the parts of their time if they are not."""
    limit = LIMIT * queries["parallel"] + fixed
    formula = f"{LIMIT:g} times one query plus a job over one row ({limit:.2f} s)"
    if run["seconds"] <= limit:
        return f"{run['seconds']:.2f} s is within {formula}."
    ranges = run.get("ranges_seconds", queries["halves"])
    parts = {
        "the start, which a job over one row needs too": fixed,
        "reading the pages with two plain queries": queries["halves"],
        "the ranges, in addition to these queries": ranges - queries["halves"],
        "all else: planning, and waiting for the first and after the last range": run["seconds"] - fixed - ranges,
    }
    lines = "; ".join(f"{name} {seconds:.2f} s" for name, seconds in parts.items())
    return (
        f"{run['seconds']:.2f} s is more than {formula}. It consists of: {lines}. A range of pages is read by one "
        "process, and one query by all processes that PostgreSQL starts for it."
    )
