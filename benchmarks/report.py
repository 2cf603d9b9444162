"""RESULTS.md and its plots, from what the runs wrote. Every figure in it comes from there."""

from __future__ import annotations

import ast
import io
import json
import tokenize
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import model
from benchmarks.chart import Axis, Points, line_chart
from benchmarks.compare import LONG
from benchmarks.meter import PAUSE
from benchmarks.scale import MINUTES, SKEW_RANGES
from benchmarks.sides import SIDES
from benchmarks.verdict import verdict

HERE = Path(__file__).parent
WHEN = "%Y-%m-%d %H:%M"
OURS = ("ours_local", "ours_burla", "ours_rows")
NAMES = {"ours_local": "local engine", "ours_burla": "Burla", "sql": "one SQL query"}
JOBS = {
    "totals orders": "Count and sum(amount) of all orders",
    "checksum orders": "A Python function on every order",
    "checksum wide": "The same function on wide rows",
}


def write(results: Path) -> None:
    """:param results: directory of the JSON files."""
    sides = json.loads((results / "sides.json").read_text())
    lines = [
        *introduction(sides),
        *load(sides),
        *gaps(sides),
        *moments(sides),
        *[line for key in JOBS for line in ["", *comparison(sides, key)]],
        "",
        *not_ahead(sides),
        "",
        *behaviour(sides),
        "",
        *cost(sides),
        "",
        *beyond(sides, results / "scale.json"),
    ]
    (HERE / "RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
    print("Wrote benchmarks/RESULTS.md.")


def introduction(sides: dict[str, Any]) -> list[str]:
    machine, rows = sides["machine"], sides["rows"]
    wide = rows_of(sides["tables"]["wide"])
    packages = {name: version for found in machine["versions"].values() for name, version in found.items()}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(packages.items()))
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, {machine['system']}"
    return [
        "# Side by side",
        "",
        "Made by `make bench`; the figures are in `results/`, and nothing here was typed by hand but the words.",
        "",
        f"- **Machine**: {hardware}, Python {machine['python']}, {machine['date']}. Database, workers and everything "
        "else share these cores. Ratios carry over to other machines, seconds do not.",
        f"- **Versions**: PostgreSQL 16, {versions}.",
        f"- **Tables**: `orders`, {rows:,} rows: its older half has one id in nine, its newer half lacks every 96th. "
        f"`wide`, {wide:,} rows of about 400 bytes. All of it fits into memory. At most two workers for everybody.",
        "- **Start-up** (interpreter, imports, engine; for dynamic task mapping a whole Airflow) is apart from the "
        f"job. Runs of each job: {most_runs(sides)}, of those above {LONG} s mostly one; the fastest counts. A first "
        "run on Burla installs packages.",
        "- **Memory** is that of the side's processes, and for Burla that of the cluster's above its idle state; not "
        "the database's. **Lines** are those that a user writes, for all jobs, without blanks, comments and imports.",
    ]


def rows_of(table: str) -> int:
    """Tables of the benchmark are named after their size."""
    return int(table.rpartition("_")[2])


def moments(sides: dict[str, Any]) -> list[str]:
    """When each side was measured, where that was not in one go."""
    moments = {SIDES[name].title: side["when"] for name, side in sides["sides"].items() if "when" in side}
    times = sorted(datetime.strptime(when, WHEN) for when in moments.values())
    if not times or times[-1] - times[0] <= timedelta(hours=1):
        return []
    said = "; ".join(f"{title} {when}" for title, when in moments.items())
    return ["", f"> **Not measured in one go**, so that the machine may have been another one to each: {said} (UTC)."]


def load(sides: dict[str, Any]) -> list[str]:
    """A warning where other programs were at work."""
    loads = [side["load"] for side in sides["sides"].values() if "load" in side]
    cores = sides["machine"]["cores"]
    if not loads or max(loads) <= 2 * cores:
        return []
    return [
        "",
        f"> **Other programs were at work during this run**: the load average was {min(loads):g} to {max(loads):g} on "
        f"{cores} cores. Seconds, start-ups and rows/s say little then, and a ratio of them less; CPU seconds, memory, "
        "connections, bytes and whether a result is right can be compared. A run on a quiet machine replaces this.",
    ]


def most_runs(sides: dict[str, Any]) -> int:
    runs = [run for side in sides["sides"].values() for run in side["jobs"].values()]
    return max((len(run.get("all_seconds", [])) for run in runs), default=0)


def gaps(sides: dict[str, Any]) -> list[str]:
    """The sides of which there is nothing here."""
    absent = [side.title for name, side in SIDES.items() if name not in sides["sides"]]
    return ["", f"> **Not run this time**: {', '.join(absent)}."] if absent else []


def not_ahead(sides: dict[str, Any]) -> list[str]:
    """Who was faster than the fastest of ours, and whose runs took less processor time."""
    lines = ["## Where this provider is not ahead", ""]
    lines += [f"- {title}: {ahead(good_runs(sides, key))}." for key, title in JOBS.items()]
    outside = good_runs(sides, "totals orders", without=("sql", "ours_local", "ours_burla"))
    lines.append(f"- The first of these, where all amounts leave the database to be summed: {ahead(outside)}.")
    return [
        *lines,
        "",
        "Part of a job here does not grow with its rows: the plan, the shared snapshot, a client process and its "
        "workers, the totals' way through Airflow. On small tables it is most of the cost: see the column of the task.",
        "",
        "Dynamic task mapping is not like for like: a scheduler, and the start of a process for every mapped task, are "
        "in its seconds. Ours is one task, run by Airflow's task runner without a scheduler. In a scheduled DAG it "
        "waits for the scheduler and a start, too: once, and not for every range.",
    ]


def good_runs(sides: dict[str, Any], key: str, without: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    runs = {name: side["jobs"].get(key, {}) for name, side in sides["sides"].items() if name not in without}
    return {name: run for name, run in runs.items() if "seconds" in run}


def ahead(runs: dict[str, dict[str, Any]]) -> str:
    """Which of the others are, by the clock and by what the processors did."""
    ours = [run for name, run in runs.items() if name in OURS]
    if not ours:
        return "not run this time"
    others = {SIDES[name].title: run for name, run in runs.items() if name not in OURS}
    faster = [title for title, run in others.items() if run["seconds"] < min(map(wall, ours))]
    cheaper = [title for title, run in others.items() if cpu(run) < min(map(cpu, ours))]
    quick, cheap = (", ".join(names) or "nobody" for names in (faster, cheaper))
    return f"in seconds {quick}; in CPU seconds {cheap}"


def wall(run: dict[str, Any]) -> float:
    return float(run["seconds"])


def cpu(run: dict[str, Any]) -> float:
    """Seconds of one core, of everybody who took part."""
    return float(run["cpu_database"] + run["cpu_workers"] + run["cpu_task"])


def beyond(sides: dict[str, Any], path: Path) -> list[str]:
    """How cost grows, and the forecasts; the plots are written beside."""
    if not path.exists():
        return ["## How cost grows", "", "Not measured in this run: no scale, so no plots and no forecasts."]
    scale = json.loads(path.read_text())
    borrowed = list(whole(sides, scale["rows"]))
    scale["rows"] = sorted(
        [*scale["rows"], *borrowed],
        key=lambda one: (list(SIDES).index(one["side"]), one["job"] != "totals", one["rows"]),
    )
    (HERE / "plots").mkdir(exist_ok=True)
    for name, chart in plots(scale).items():
        (HERE / "plots" / f"{name}.svg").write_text(chart)
    busy = f"Measured on {scale['when']}; the load average was {scale['load']:g} when this part began. Ours only."
    if borrowed:
        busy += f" Runs over all {sides['rows']:,} rows are those of the comparison above."
    return [*growth(scale), "", busy, "", "## Beyond this machine", "", *model.text(sides, scale)]


def comparison(sides: dict[str, Any], key: str) -> list[str]:
    """A table of one job, the fastest first; ratios are the side's seconds in those of the fastest of ours, and of
    ours on Burla.
    """
    found = {name: side["jobs"][key] for name, side in sides["sides"].items() if key in side.get("jobs", {})}
    good = {name: run for name, run in found.items() if "seconds" in run}
    ours = min((run["seconds"] for name, run in good.items() if name in OURS), default=None)
    burla = good["ours_burla"]["seconds"] if "ours_burla" in good else None
    lines = [
        f"## {JOBS[key]}",
        "",
        "| side | start-up | seconds | rows/s | times ours | times ours on Burla | CPU seconds | memory, MB | "
        "connections | right |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, run in sorted(good.items(), key=lambda item: item[1]["seconds"]):
        memory = run["memory_task"] + run["memory_workers"]
        cells = [
            SIDES[name].title,
            f"{sides['sides'][name]['start_up']:.1f}",
            f"{run['seconds']:.2f}",
            f"{run['rows'] / run['seconds']:,.0f}",
            times(run, ours),
            times(run, burla),
            f"{cpu(run):.1f}",
            f"{memory:,.0f}",
            f"{run['connections']}",
            verdict(run),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for name, side in sides["sides"].items():
        reason = found[name]["error"] if name in found and name not in good else side.get("missing")
        if reason and key.split()[0] in SIDES[name].jobs and name not in good:
            said = reason if reason.startswith("left out") else f"failed: {reason}"
            lines.append(f"| {SIDES[name].title} | | | | | | | | | {cell(said)} |")
    return lines


def times(run: dict[str, Any], ours: float | None) -> str:
    return f"{run['seconds'] / ours:.2f}" if ours else ""


def behaviour(sides: dict[str, Any]) -> list[str]:
    lines = ["## NULL keys, and what a user writes", ""]
    lines += ["The table `null_keys` has a key that is NULL in every hundredth row.", ""]
    lines += ["| side | rows with a NULL key | lines | remarks |", "|---|---|---:|---|"]
    for name, side in sides["sides"].items():
        run = side.get("jobs", {}).get("totals null_keys")
        lines.append(f"| {SIDES[name].title} | {nulls(run)} | {user_lines(name)} | {SIDES[name].note} |")
    return lines


def nulls(run: dict[str, Any] | None) -> str:
    if run is None:
        return ""
    if "error" in run:
        return f"fails: {cell(run['error'])}"
    lost = run["expected_rows"] - run["rows"]
    return f"**{lost:,} of {run['expected_rows']:,} rows are lost, silently**" if lost else "counted"


def user_lines(name: str) -> int:
    return sum(code_lines((HERE / "sides" / file).read_text()) for file in SIDES[name].files)


def code_lines(source: str) -> int:
    """Lines that hold code: no docstrings, comments, imports or blank lines."""
    left_out = {
        number
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom) or is_text(node)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)  # type: ignore[attr-defined]
    }
    shape = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in shape]
    lines = {number for token in tokens for number in range(token.start[0], token.end[0] + 1)}
    return len(lines - left_out)


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def cost(sides: dict[str, Any]) -> list[str]:
    lines = [
        "## What a job costs",
        "",
        "Seconds of one core, over all `orders`; bytes between the database and everybody.",
        "",
    ]
    lines += ["| job | side | database | workers | task | MB over the wire |", "|---|---|---:|---:|---:|---:|"]
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
        "Workers on this machine count as the task's; the column is for those of the cluster. Of processes that nobody "
        f"waits for, such as Ray's workers, it is what was seen of them every {PAUSE:g} s.",
    ]


def whole(sides: dict[str, Any], parts: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The runs over all rows, of the sides and jobs that were run over parts of them."""
    for side, job in dict.fromkeys((one["side"], one["job"]) for one in parts):
        run = sides["sides"].get(side, {}).get("jobs", {}).get(f"{job} orders", {})
        if "seconds" in run and run["rows"] > max(one["rows"] for one in parts):
            yield {"side": side, "job": job, **run}


def growth(scale: dict[str, Any]) -> list[str]:
    lines = ["## How cost grows", "", "![seconds by rows](plots/rows.svg)", ""]
    lines += ["| side | job | rows | seconds | memory, MB |", "|---|---|---:|---:|---:|"]
    for one in scale["rows"]:
        memory = one["memory_task"] + one["memory_workers"]
        lines.append(
            f"| {NAMES[one['side']]} | {one['job']} | {one['rows']:,} | {one['seconds']:.2f} | {memory:,.0f} |"
        )
    lines += [
        "",
        "![seconds by ranges](plots/ranges.svg)",
        "",
        "Totals of 1,000,000 rows, which take no time themselves. `make bench` leaves out what would end later than "
        f"{MINUTES} minutes after its start; `python -m benchmarks scale` has more time for these.",
        "",
    ]
    lines += ["| side | ranges | seconds | ms a range | memory, MB |", "|---|---:|---:|---:|---:|"]
    for one in scale["ranges"]:
        if "missing" in one:
            lines.append(f"| {NAMES[one['side']]} | {one['wanted']:,} | {cell(one['missing'])} | | |")
            continue
        memory = one["memory_task"] + one["memory_workers"]
        each = one["seconds"] / one["ranges"] * 1e3
        lines.append(
            f"| {NAMES[one['side']]} | {one['ranges']:,} | {one['seconds']:.2f} | {each:.2f} | {memory:,.0f} |"
        )
    lines += [
        "",
        "![seconds by workers](plots/workers.svg)",
        "",
        f"A Python function on every order (`checksum`), {scale['nodes']} node(s):",
        "",
    ]
    lines += [
        "| side | rows | max_parallelism | workers that worked | seconds | connections |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in scale["workers"]:
        cells = [NAMES[one["side"]], f"{one['orders']:,}", one["workers"], one["used"]]
        cells += [f"{one['seconds']:.2f}", one["connections"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return [*lines, "", *skew(scale["skew"])]


def skew(points: list[dict[str, Any]]) -> list[str]:
    lines = ["![makespan by skew](plots/skew.svg)", ""]
    lines += [f"A table with so many percent of its rows in one percent of its ids, `checksum`, {SKEW_RANGES} ranges."]
    lines += [
        "The last column is computed: these ranges' own seconds, handed to 16 workers in the order of the run.",
        "",
    ]
    lines += [
        "| skew | ranges | largest/average | seconds, 2 workers | seconds, 16 workers |",
        "|---:|---|---:|---:|---:|",
    ]
    for one in points:
        split = "fixed width" if one["split"] == "width" else "planned"
        cells = [f"{one['largest_to_average']:.2f}", f"{one['seconds']:.2f}", f"{one['makespan_16']:.2f}"]
        lines.append(f"| {one['percent']} % | {split} | {' | '.join(cells)} |")
    return lines


def plots(scale: dict[str, Any]) -> dict[str, str]:
    """Name -> SVG."""
    engines = list(dict.fromkeys(one["side"] for one in scale["ranges"]))
    by_rows = {
        f"{NAMES[side]}, {job}": points(
            (one for one in scale["rows"] if (one["side"], one["job"]) == (side, job)), "rows", "seconds"
        )
        for side, job in dict.fromkeys((one["side"], one["job"]) for one in scale["rows"])
    }
    by_ranges = {NAMES[name]: points(of(scale["ranges"], name), "ranges", "seconds") for name in engines}
    by_workers = {NAMES[name]: points(of(scale["workers"], name), "workers", "seconds") for name in engines}
    by_skew = {
        f"{words}, {workers} workers": points((one for one in scale["skew"] if one["split"] == split), "percent", value)
        for split, words in (("width", "fixed width"), ("auto", "planned"))
        for workers, value in (("2", "seconds"), ("16", "makespan_16"))
    }
    seconds, linear = Axis("seconds"), Axis("seconds", logarithmic=False)
    return {
        "rows": line_chart("Seconds by rows", Axis("rows"), seconds, by_rows),
        "ranges": line_chart("Seconds by ranges", Axis("ranges"), seconds, by_ranges),
        "workers": line_chart("Seconds by workers", Axis("workers", logarithmic=False), linear, by_workers),
        "skew": line_chart(
            "Makespan by skew",
            Axis("percent of the rows in one percent of the ids", logarithmic=False),
            linear,
            by_skew,
        ),
    }


def of(found: list[dict[str, Any]], side: str) -> list[dict[str, Any]]:
    return [one for one in found if one["side"] == side and "seconds" in one]


def points(found: Iterable[dict[str, Any]], x: str, y: str) -> Points:
    return [(one[x], one[y]) for one in found]


def cell(text: str) -> str:
    """Text for a table's cell, not too long."""
    return " ".join(text.split())[:160].replace("|", "/")
