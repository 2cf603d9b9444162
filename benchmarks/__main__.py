"""Run the benchmarks: ``make bench`` runs all of them, ``make bench-quick`` a small version in a minute.

python -m benchmarks                        run everything and write RESULTS.md
python -m benchmarks sides --only ray,dask  run some sides again; the other results stay
python -m benchmarks pages report           measure whole tables by key, by pages, and in one query
python -m benchmarks writing report         measure writes: 1,000,000 rows by each tool
python -m benchmarks.large --save           measure the largest jobs: 1,000,000 inputs, 200,000,000 rows
python -m benchmarks report                 write RESULTS.md, and the figures that README and docs/ quote
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import quotes, report, writing
from benchmarks.compare import JOBS, compare
from benchmarks.data import HOME, Data, running
from benchmarks.environments import exists
from benchmarks.machine import describe
from benchmarks.pages import measure_pages
from benchmarks.runs import find_nodes
from benchmarks.scale import scale
from benchmarks.sides import SIDES
from benchmarks.verdict import find_faults
from benchmarks.writing import measure_writing

RESULTS = Path(__file__).with_name("results")
QUICK = ("sql", "copy", "ours_local", "ours_rows", "ours_arrow", "guide_pool", "duckdb", "connectorx", "polars")
EXACT = ("sql", "copy", "ours_local", "ours_rows", "ours_arrow", "duckdb")
"""Sides of ``QUICK`` whose results must be exact."""

PARTS = ("sides", "pages", "writing", "scale", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=2, help="runs per job; the fastest counts")
    parser.add_argument("--only", default=",".join(SIDES), help="names of sides, separated by commas")
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers for the part scale")
    parser.add_argument("--quick", action="store_true", help="100,000 rows, a few sides; writes no results")
    parser.add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the iptables rules are removed
    if options.quick:
        run_quick()
        return
    RESULTS.mkdir(exist_ok=True)
    started = time.monotonic()
    if set(options.parts) - {"report"}:
        with running(options.home, options.rows) as data:
            if "sides" in options.parts:
                run_sides(data, options.only.split(","), options.times)
            if "pages" in options.parts:
                run_pages(data)
            if "writing" in options.parts:
                run_writing(data, options.times)
            if "scale" in options.parts:
                run_scale(data, [int(count) for count in options.workers.split(",")], started)
        print(f"Measured in {(time.monotonic() - started) / 60:.1f} minutes.")
    if "report" in options.parts:
        report.write(RESULTS)
        quotes.write(RESULTS)


def run_quick() -> None:
    names = [name for name in QUICK if exists(SIDES[name].environment)]
    with tempfile.TemporaryDirectory(prefix="burla-benchmarks-") as home:
        Path(home).chmod(0o755)
        with running(Path(home), 100_000, cluster=False) as data:
            sides = dict(compare(data, names, tables(data), 1, 2))
    print("\n".join(report.comparison({"rows": data.rows, "sides": sides}, "totals orders")))
    print("\n".join(report.comparison({"rows": data.rows, "sides": sides}, "checksum orders")))
    if faults := find_faults(sides, EXACT):
        raise SystemExit("\n".join(faults))
    print(f"All sides work. {data.rows:,} rows are too few for a comparison: `make bench` uses 10,000,000.")


def run_sides(data: Data, names: list[str], times: int) -> None:
    print("Sides", flush=True)
    path = RESULTS / "sides.json"
    results = json.loads(path.read_text()) if path.exists() else {"sides": {}}
    created = tables(data)
    if results.get("tables") != created:
        results = {"sides": {}}  # results of other tables cannot be compared
    for job, role in JOBS:
        data.expected(job, created[role])
    for name, figures in compare(data, names, created, times, 2):
        results |= {"rows": data.rows, "machine": describe(), "tables": created}
        results["sides"][name] = figures | {"when": now()}
        save(path, results)


def run_pages(data: Data) -> None:
    print("Pages", flush=True)
    save(RESULTS / "pages.json", {"when": now()} | measure_pages(data))


def run_writing(data: Data, times: int) -> None:
    print("Writing", flush=True)
    save(RESULTS / "writing.json", {"when": now()} | measure_writing(data, min(writing.ROWS, data.rows), times))


def run_scale(data: Data, workers: list[int], started: float) -> None:
    print("Scale", flush=True)
    engines = ["ours_local", "ours_burla"] if find_nodes() else ["ours_local"]
    facts = {"when": now(), "rows": data.rows, "nodes": len(find_nodes())}
    save(RESULTS / "scale.json", facts | scale(data, workers, engines, started))


def now() -> str:
    return time.strftime(report.WHEN, time.gmtime())


def tables(data: Data) -> dict[str, str]:
    return {"orders": data.orders(), "wide": data.wide(), "null_keys": data.null_keys()}


def save(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
