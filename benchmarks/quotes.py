"""Write the figures that README and the documentation quote: ``python -m benchmarks report`` does it.

A sentence is found by its words, and its figures are replaced. Sentences that compare figures in words ("a quarter")
have to be checked by hand after a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

SENTENCES: dict[str, tuple[str, ...]] = {
    "README.md": (
        "the largest range had {skew.key:.1f} times the average number of rows. With ranges of equal width, it had "
        "{skew.width:.0f} times",
        "Totals of 10,000,000 rows took {totals.ours_burla:.1f} s on Burla, with two cores. Spark took "
        "{totals.spark/totals.ours_burla:.1f} times as long, Airflow's dynamic task mapping "
        "{totals.mapping/totals.ours_burla:.1f} times",
        "totals of 5,000,000 rows took {uuids.ours_local.pages:.1f} s by pages on the local engine, and "
        "{uuids.ours_local.key:.1f} s by key",
        "A job on 10,000,000 rows needed {memory.ours_local:.0f} MB",
        "A Python function on each of 10,000,000 rows took {checksum.ours_local:.0f} s on two cores. Polars took "
        "{checksum.polars/checksum.ours_local:.1f} times as long, Spark {checksum.spark/checksum.ours_local:.1f} "
        "times, dynamic task mapping {checksum.mapping/checksum.ours_local:.1f} times",
        "100,000 rows take {small.ours_local:.1f} s on the local engine and {small.ours_burla:.1f} s on Burla",
    ),
    "docs/alternatives.md": (
        "takes {totals.sql:.2f} s. This provider takes {totals.ours_local:.2f} s with the local engine and "
        "{totals.ours_burla:.2f} s on Burla",
        "the totals take {totals.mapping:.2f} s, and a Python function on every row {checksum.mapping:.2f} s, against "
        "{totals.ours_local:.2f} s and {checksum.ours_local:.2f} s here",
        "Polars takes {totals.polars:.2f} s for the totals, and {checksum.polars:.2f} s for",
        "It takes {totals.spark:.2f} s for the totals and {checksum.spark:.2f} s for a Python function on every row, "
        "and {start.spark:.1f} s to start",
        "100,000 rows take {small.ours_local:.2f} s with the local engine, and {small.sql:.2f} s in one query",
    ),
    "docs/reference/benchmarks.md": (
        "({wide.guide_pool:.2f} s against {wide.ours_local:.2f} s)",
        "100,000 rows take {small.ours_local:.2f} s with the local engine and {small.ours_burla:.2f} s on Burla; one "
        "SQL query takes {small.sql:.2f} s",
        "{start.ours_local:.1f} s for the provider (imports of Airflow), {start.polars:.1f} s for Polars, "
        "{start.dask:.1f} s for Dask, {start.spark:.1f} s for Spark",
    ),
}
"""File -> sentences with names of figures. "a/b:.1f" is a ratio."""

TABLES = {
    "docs/reference/benchmarks.md": {
        "Totals": "Count and sum(amount) of all orders",
        "Python per row": "A Python function on every order",
    }
}
"""File -> its headings -> the headings in RESULTS.md whose tables it shows, with fewer columns."""

ROWS = 10_000_000
"""The rows that the sentences name."""

_PLACE = re.compile(r"\{([^:}]+):([^}]+)\}")
_NUMBER = r"(\d[\d,]*(?:\.\d+)?)"
_JOBS = {"totals": "totals orders", "checksum": "checksum orders", "wide": "checksum wide"}


def write(results: Path) -> None:
    """Write the figures into all files that quote them."""
    rows = json.loads((results / "sides.json").read_text())["rows"]
    if rows != ROWS:
        print(f"README and docs/ quote {ROWS:,} rows, so they do not get the figures of {rows:,} rows.")
        return
    figures, report = read_figures(results), (ROOT / "benchmarks" / "RESULTS.md").read_text()
    for name in SENTENCES:
        path = ROOT / name
        old = path.read_text()
        new = update(name, old, figures, report)
        if new != old:
            path.write_text(new)
            print(f"Wrote new figures into {name}. Check the words around them.")


def update(name: str, text: str, figures: dict[str, float], report: str) -> str:
    """Return the text of a file with the figures of the results.

    :raises ValueError: if a sentence is not there exactly once.
    """
    for sentence in SENTENCES[name]:
        text = update_sentence(text, sentence, figures)
    for heading, source in TABLES.get(name, {}).items():
        text = update_table(text, heading, report, source)
    return text


def update_sentence(text: str, sentence: str, figures: dict[str, float]) -> str:
    """Return the text with new figures in a sentence; unchanged if one was not measured."""
    words = _PLACE.sub("{}", sentence).split("{}")
    pattern = _NUMBER.join(r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in words)
    found = list(re.finditer(pattern, text))
    if len(found) != 1:
        raise ValueError(f"found {len(found)} times instead of once: {sentence}")
    try:
        values = [format(value_of(name, figures), form) for name, form in _PLACE.findall(sentence)]
    except KeyError as error:
        print(f"Not measured: {error}. The old figures stay: {sentence}")
        return text
    for number in range(len(values), 0, -1):
        start, end = found[0].span(number)
        text = text[:start] + values[number - 1] + text[end:]
    return text


def value_of(name: str, figures: dict[str, float]) -> float:
    dividend, _, divisor = name.partition("/")
    return figures[dividend] / figures[divisor] if divisor else figures[dividend]


def update_table(text: str, heading: str, report: str, source: str) -> str:
    """Return the text with the rows of a table of the report: all that were measured, in the table's columns."""
    before, mark, rest = text.partition(f"\n## {heading}\n")
    table = re.search(r"^\|.*?(?=^[^|]|\Z)", rest, re.M | re.S)
    measured = re.search(r"^\|.*?(?=^[^|]|\Z)", report.partition(f"\n## {source}\n")[2], re.M | re.S)
    if table is None or measured is None:
        raise ValueError(f"no table below {heading!r} or {source!r}")
    titles, line, *_ = table[0].splitlines()
    names, _, *rows = map(cells, measured[0].splitlines())
    wanted = [names.index(title) for title in cells(titles)]
    shown = [[row[index] for index in wanted] for row in rows if row[names.index("seconds")]]
    lines = [titles, line, *(f"| {' | '.join(row)} |" for row in shown)]
    return before + mark + rest[: table.start()] + "\n".join(lines) + "\n" + rest[table.end() :]


def cells(line: str) -> list[str]:
    return [part.strip() for part in line.strip().removeprefix("|").removesuffix("|").split("|")]


def read_figures(results: Path) -> dict[str, float]:
    """Return the figures by name, such as "totals.spark": seconds, unless the name says something else."""
    sources = {"sides": _side_figures, "scale": _scale_figures, "pages": _page_figures}
    paths = {name: results / f"{name}.json" for name in sources}
    parts = (sources[name](json.loads(path.read_text())) for name, path in paths.items() if path.exists())
    return dict(chain.from_iterable(parts))


def _side_figures(sides: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for name, side in sides["sides"].items():
        if "start_up" in side:
            yield f"start.{name}", side["start_up"]
        for job, key in _JOBS.items():
            run = side["jobs"].get(key, {})
            if "seconds" in run:
                yield f"{job}.{name}", run["seconds"]
        if "seconds" in (run := side["jobs"].get("checksum orders", {})):
            yield f"memory.{name}", run["memory_task"] + run["memory_workers"]


def _scale_figures(scale: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for point in scale["rows"]:
        if (point["job"], point["rows"]) == ("totals", 100_000):
            yield f"small.{point['side']}", point["seconds"]
    for point in scale["skew"]:
        if point["percent"] == 99:
            yield f"skew.{point['split']}", point["largest_to_average"]


def _page_figures(pages: dict[str, Any]) -> Iterator[tuple[str, float]]:
    is_complete = pages["tables"]["orders"] == f"orders_{ROWS}"
    for point in pages["memory"] if is_complete else ():
        if point.get("job") == "totals":
            yield f"{point['table']}.{point['side']}.{point['way']}", point["seconds"]
