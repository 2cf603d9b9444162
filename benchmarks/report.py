"""Write RESULTS.md and its plots from the results of the runs. All figures come from there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import balance, batches_report, large_report, model, pages_report, writing_report
from benchmarks.chart import Axis, Points, line_chart
from benchmarks.code_lines import code_lines
from benchmarks.compare import LONG_SECONDS
from benchmarks.load import load_warning
from benchmarks.meter import INTERVAL
from benchmarks.scale import MAX_MINUTES, QUICK_RANGES, SKEW_RANGES
from benchmarks.sides import SIDES
from benchmarks.verdict import verdict

HERE = Path(__file__).parent
WHEN = "%Y-%m-%d %H:%M"
OURS = ("ours_local", "ours_burla", "ours_rows", "ours_arrow")
NAMES = {"ours_local": "local engine", "ours_burla": "Burla", "sql": "one SQL query"}
JOBS = {
    "totals orders": "Count and sum(amount) of all orders",
    "checksum orders": "A Python function on every order",
    "checksum wide": "The same function on wide rows",
}


def write(results: Path) -> None:
    """Write RESULTS.md.

    :param results: directory of the JSON files.
    """
    sides = json.loads((results / "sides.json").read_text())
    lines = [
        *introduction(sides),
        *load_warning(sides["sides"], sides["machine"]["cores"]),
        *missing_sides(sides),
        *measuring_times(sides),
        *[line for key in JOBS for line in ["", *comparison(sides, key)]],
        "",
        *section(pages_report, results / "pages.json"),
        "",
        *section(writing_report, results / "writing.json"),
        "",
        *section(batches_report, results / "batches.json"),
        "",
        *faster_tools(sides),
        "",
        *null_keys(sides),
        "",
        *cost(sides),
        "",
        *balance.text(json.loads((results / "balance.json").read_text())),
        "",
        *section(large_report, results / "large.json"),
        "",
        *scale_and_forecasts(sides, results),
    ]
    (HERE / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
    print("Wrote benchmarks/RESULTS.md.")


def section(report: Any, path: Path) -> list[str]:
    lines: list[str] = report.text(json.loads(path.read_text())) if path.exists() else report.not_measured()
    return lines


def introduction(sides: dict[str, Any]) -> list[str]:
    machine, rows = sides["machine"], sides["rows"]
    wide = row_count(sides["tables"]["wide"])
    packages = {name: version for environment in machine["versions"].values() for name, version in environment.items()}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}"
    return [
        "# Comparison with other tools",
        "",
        "Written by `make bench`. All figures come from `results/`.",
        "",
        f"- **Machine**: {hardware}, Python {machine['python']}, {machine['date']}. Database, workers and all other "
        "processes share these cores. Ratios are similar on other machines, seconds are not.",
        f"- **Versions**: PostgreSQL 16, {versions}.",
        f"- **Tables**: `orders`, {rows:,} rows: one in nine ids exists in its older half, every 96th is missing in "
        f"its newer half. `wide`, {wide:,} rows of about 400 bytes. Both fit in memory. At most two workers per side.",
        "- **Start-up** (interpreter, imports, engine; for dynamic task mapping a complete Airflow) is not part of the "
        f"seconds. Runs per job: {max_runs(sides)}, mostly one for jobs above {LONG_SECONDS} s; the fastest counts. "
        "The first run on Burla installs packages.",
        "- **Memory** is the memory of the side's processes, and for Burla the cluster's above its idle state, "
        "without the database. **Lines** are the lines of code that a user writes for all jobs, without blank lines, "
        "comments and imports.",
    ]


def row_count(table: str) -> int:
    """Return the number of rows, which is in the name of a table."""
    return int(table.rpartition("_")[2])


def measuring_times(sides: dict[str, Any]) -> list[str]:
    """Return when each side was measured, unless all were measured within an hour."""
    measured = {SIDES[name].title: side["when"] for name, side in sides["sides"].items() if "when" in side}
    times = sorted(datetime.strptime(when, WHEN) for when in measured.values())
    if not times or times[-1] - times[0] <= timedelta(hours=1):
        return []
    times_text = "; ".join(f"{title} {when}" for title, when in measured.items())
    return ["", f"> **Measured at different times**, so the machine may have differed: {times_text} (UTC)."]


def max_runs(sides: dict[str, Any]) -> int:
    runs = [run for side in sides["sides"].values() for run in side["jobs"].values()]
    return max((len(run.get("all_seconds", [])) for run in runs), default=0)


def missing_sides(sides: dict[str, Any]) -> list[str]:
    """Return the sides without results."""
    absent = [side.title for name, side in SIDES.items() if name not in sides["sides"]]
    return ["", f"> **Not measured**: {', '.join(absent)}."] if absent else []


def faster_tools(sides: dict[str, Any]) -> list[str]:
    """Return which tools were faster than this provider, and which needed less processor time."""
    lines = ["## Where other tools are ahead", ""]
    lines += [f"- {title}: {list_faster(successful_runs(sides, key))}." for key, title in JOBS.items()]
    outside = successful_runs(sides, "totals orders", without=("sql", "ours_local", "ours_burla"))
    lines.append(f"- The first job, without the sides that sum in SQL: {list_faster(outside)}.")
    return [
        *lines,
        "",
        "Some costs of this provider do not depend on the number of rows: the plan, the shared snapshot, the client "
        "process and its workers, the transfer of the totals through Airflow. They dominate on small tables: see the "
        "column `task`.",
        "",
        "Dynamic task mapping is not directly comparable: its seconds include the scheduler and the start of a process "
        "for each mapped task. This provider runs one task, in Airflow's task runner without a scheduler. In a "
        "scheduled DAG it also waits for the scheduler and a process, but once, not per range.",
    ]


def successful_runs(sides: dict[str, Any], key: str, without: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    runs = {name: side["jobs"].get(key, {}) for name, side in sides["sides"].items() if name not in without}
    return {name: run for name, run in runs.items() if "seconds" in run}


def list_faster(runs: dict[str, dict[str, Any]]) -> str:
    """Return the tools that are faster, by time and by processor time."""
    ours = [run for name, run in runs.items() if name in OURS]
    if not ours:
        return "not measured"
    others = {SIDES[name].title: run for name, run in runs.items() if name not in OURS}
    faster = [title for title, run in others.items() if seconds(run) < min(map(seconds, ours))]
    cheaper = [title for title, run in others.items() if cpu(run) < min(map(cpu, ours))]
    by_time, by_cpu = (", ".join(names) or "none" for names in (faster, cheaper))
    return f"fewer seconds: {by_time}; fewer CPU seconds: {by_cpu}"


def seconds(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def cpu(run: dict[str, Any]) -> float:
    """Return the CPU seconds of all processes."""
    return float(run["cpu_database"] + run["cpu_workers"] + run["cpu_task"])


def scale_and_forecasts(sides: dict[str, Any], results: Path) -> list[str]:
    """Return how the cost grows, and the forecasts; write the plots."""
    path, large = results / "scale.json", results / "large.json"
    if not path.exists():
        return ["## How cost grows", "", "Not measured, so there are no plots and no forecasts."]
    scale = json.loads(path.read_text())
    full_runs = list(full_table_runs(sides, scale["rows"]))
    scale["rows"] = sorted(
        [*scale["rows"], *full_runs],
        key=lambda point: (list(SIDES).index(point["side"]), point["job"] != "totals", point["rows"]),
    )
    (HERE / "plots").mkdir(exist_ok=True)
    for name, chart in plots(scale).items():
        (HERE / "plots" / f"{name}.svg").write_text(chart)
    note = f"Measured on {scale['when']}; the load average at the start was {scale['load']:g}. This provider only."
    if full_runs:
        note += f" The runs with {sides['rows']:,} rows are those of the comparison above."
    runs = json.loads(large.read_text()) if large.exists() else []
    return [*growth(scale), "", note, "", "## Forecasts for larger machines", "", *model.text(sides, scale, runs)]


def comparison(sides: dict[str, Any], key: str) -> list[str]:
    """Return a table of one job, the fastest side first.

    Ratios are relative to the fastest side of this provider, and to this provider on Burla.
    """
    runs = {name: side["jobs"][key] for name, side in sides["sides"].items() if key in side.get("jobs", {})}
    successful = {name: run for name, run in runs.items() if "seconds" in run}
    ours = min((run["seconds"] for name, run in successful.items() if name in OURS), default=None)
    burla = successful["ours_burla"]["seconds"] if "ours_burla" in successful else None
    lines = [
        f"## {JOBS[key]}",
        "",
        "| side | start-up | seconds | rows/s | x this provider | x this provider on Burla | CPU seconds | "
        "memory, MB | connections | correct |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, run in sorted(successful.items(), key=lambda item: item[1]["seconds"]):
        memory = run["memory_task"] + run["memory_workers"]
        cells = [
            SIDES[name].title,
            f"{sides['sides'][name]['start_up']:.1f}",
            f"{run['seconds']:.2f}",
            f"{run['rows'] / run['seconds']:,.0f}",
            ratio(run, ours),
            ratio(run, burla),
            f"{cpu(run):.1f}",
            f"{memory:,.0f}",
            f"{run['connections']}",
            verdict(run),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, side in sides["sides"].items():
        reason = runs[name]["error"] if name in runs and name not in successful else side.get("missing")
        if reason and key.split()[0] in SIDES[name].jobs and name not in successful:
            skipped = reason.startswith(("skipped", "left out"))
            text = reason if skipped else f"failed: {reason}"
            lines.append(f"| {SIDES[name].title} | | | | | | | | | {cell(text)} |")
    return lines


def ratio(run: dict[str, Any], reference: float | None) -> str:
    return f"{run['seconds'] / reference:.2f}" if reference else ""


def null_keys(sides: dict[str, Any]) -> list[str]:
    lines = ["## NULL keys and lines of code", ""]
    lines += ["In the table `null_keys`, the key of every hundredth row is NULL.", ""]
    lines += ["| side | rows with a NULL key | lines | remarks |", "|---|---|---:|---|"]
    for name, side in sides["sides"].items():
        run = side.get("jobs", {}).get("totals null_keys")
        lines.append(f"| {SIDES[name].title} | {null_key_result(run)} | {user_lines(name)} | {SIDES[name].note} |")
    return lines


def null_key_result(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    if "error" in run:
        return f"fails: {cell(run['error'])}"
    lost = run["expected_rows"] - run["rows"]
    return f"**{lost:,} of {run['expected_rows']:,} rows are lost without an error**" if lost else "counted"


def user_lines(name: str) -> int:
    return sum(code_lines((HERE / "sides" / file).read_text()) for file in SIDES[name].files)


def cost(sides: dict[str, Any]) -> list[str]:
    lines = [
        "## What a job costs",
        "",
        "CPU seconds, over all `orders`; bytes between the database and its clients.",
        "",
    ]
    lines += ["| job | side | database | workers | task | MB over the network |", "|---|---|---:|---:|---:|---:|"]
    for key in ("totals orders", "checksum orders"):
        for name, side in sides["sides"].items():
            run = side.get("jobs", {}).get(key, {})
            if "seconds" in run:
                sent = "not measured" if run["bytes"] is None else f"{run['bytes'] / 1e6:,.1f}"
                parts = [f"{run[f'cpu_{part}']:.1f}" for part in ("database", "workers", "task")]
                lines.append(f"| {key.split()[0]} | {SIDES[name].title} | {' | '.join(parts)} | {sent} |")
    return [
        *lines,
        "",
        "Worker processes outside the cluster are part of `task`; `workers` are those of the cluster. If a parent does "
        f"not wait for its processes, as with Ray's workers, their time is sampled every {INTERVAL:g} s.",
    ]


def full_table_runs(sides: dict[str, Any], parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the runs over all rows of the sides and jobs that were also run over parts of them."""
    for side, job in dict.fromkeys((point["side"], point["job"]) for point in parts):
        run = sides["sides"].get(side, {}).get("jobs", {}).get(f"{job} orders", {})
        if "seconds" in run and run["rows"] > max(point["rows"] for point in parts):
            yield {"side": side, "job": job, **run}


def growth(scale: dict[str, Any]) -> list[str]:
    lines = ["## How cost grows", "", "![seconds by rows](plots/rows.svg)", ""]
    lines += ["| side | job | rows | seconds | memory, MB |", "|---|---|---:|---:|---:|"]
    for point in scale["rows"]:
        memory = point["memory_task"] + point["memory_workers"]
        lines.append(
            f"| {NAMES[point['side']]} | {point['job']} | {point['rows']:,} | {point['seconds']:.2f} | {memory:,.0f} |"
        )
    lines += [
        "",
        "![seconds by ranges](plots/ranges.svg)",
        "",
        "Totals of 1,000,000 rows by key, so that only the number of ranges matters. `make bench` skips steps of more "
        f"than {QUICK_RANGES:,} ranges that would end later than {MAX_MINUTES} minutes after its start; "
        "`python -m benchmarks scale` has more time for them.",
        "",
    ]
    lines += ["| side | ranges | seconds | ms per range | memory, MB |", "|---|---:|---:|---:|---:|"]
    for point in scale["ranges"]:
        if "missing" in point:
            lines.append(f"| {NAMES[point['side']]} | {point['wanted']:,} | {cell(point['missing'])} | | |")
            continue
        memory = point["memory_task"] + point["memory_workers"]
        each = point["seconds"] / point["ranges"] * 1e3
        lines.append(
            f"| {NAMES[point['side']]} | {point['ranges']:,} | {point['seconds']:.2f} | {each:.2f} | {memory:,.0f} |"
        )
    lines += [
        "",
        "![seconds by workers](plots/workers.svg)",
        "",
        f"A Python function on every order (`checksum`), {scale['nodes']} node(s):",
        "",
    ]
    lines += [
        "| side | rows | max_parallelism | workers used | seconds | connections |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for point in scale["workers"]:
        cells = [NAMES[point["side"]], f"{point['orders']:,}", point["workers"], point["used"]]
        cells += [f"{point['seconds']:.2f}", point["connections"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, "", *skew(scale["skew"])]


def skew(points: list[dict[str, Any]]) -> list[str]:
    lines = ["![seconds by skew](plots/skew.svg)", ""]
    lines += [
        f"Skew is the percentage of the rows that are in one percent of the ids; `checksum`, {SKEW_RANGES} ranges.",
        "The last column is computed from the seconds of the ranges, distributed to 16 workers in the same order.",
        "",
    ]
    lines += [
        "| skew | ranges | largest/average | seconds, 2 workers | seconds, 16 workers |",
        "|---:|---|---:|---:|---:|",
    ]
    for point in points:
        split = "fixed width" if point["split"] == "width" else "planned"
        cells = [f"{point['largest_to_average']:.2f}", f"{point['seconds']:.2f}", f"{point['makespan_16']:.2f}"]
        lines.append(f"| {point['percent']} % | {split} | {' | '.join(cells)} |")
    return lines


def plots(scale: dict[str, Any]) -> dict[str, str]:
    """Return the plots as SVG, by name."""
    engines = list(dict.fromkeys(point["side"] for point in scale["ranges"]))
    by_rows = {
        f"{NAMES[side]}, {job}": coordinates(
            (point for point in scale["rows"] if (point["side"], point["job"]) == (side, job)), "rows", "seconds"
        )
        for side, job in dict.fromkeys((point["side"], point["job"]) for point in scale["rows"])
    }
    by_ranges = {NAMES[name]: coordinates(measured_by(scale["ranges"], name), "ranges", "seconds") for name in engines}
    by_workers = {
        NAMES[name]: coordinates(measured_by(scale["workers"], name), "workers", "seconds") for name in engines
    }
    by_skew = {
        f"{title}, {workers} workers": coordinates(
            (point for point in scale["skew"] if point["split"] == split), "percent", value
        )
        for split, title in (("width", "fixed width"), ("key", "planned"))
        for workers, value in (("2", "seconds"), ("16", "makespan_16"))
    }
    seconds, linear = Axis("seconds"), Axis("seconds", logarithmic=False)
    return {
        "rows": line_chart("Seconds by rows", Axis("rows"), seconds, by_rows),
        "ranges": line_chart("Seconds by ranges", Axis("ranges"), seconds, by_ranges),
        "workers": line_chart("Seconds by workers", Axis("workers", logarithmic=False), linear, by_workers),
        "skew": line_chart(
            "Seconds by skew",
            Axis("percent of the rows in one percent of the ids", logarithmic=False),
            linear,
            by_skew,
        ),
    }


def measured_by(points: list[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    return [point for point in points if point["side"] == side and "seconds" in point]


def coordinates(points: Iterable[dict[str, Any]], x: str, y: str) -> Points:
    return [(point[x], point[y]) for point in points]


def cell(text: str) -> str:
    """Return the text as a table cell, shortened."""
    return " ".join(text.split())[:160].replace("|", "/")
