"""Runs the benchmarks: ``make bench`` for all of it, ``make bench-quick`` for a look in a minute.

python -m benchmarks                       everything, and RESULTS.md
python -m benchmarks sides --only ray,dask  some of it again; the rest of the results stays
python -m benchmarks report                 RESULTS.md from the results of before
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.compare import compare
from benchmarks.data import HOME, Data, running
from benchmarks.environments import is_there
from benchmarks.machine import describe
from benchmarks.runs import find_nodes
from benchmarks.scale import scale
from benchmarks.sides import SIDES
from benchmarks.verdict import faults

RESULTS = Path(__file__).with_name("results")
QUICK = ("sql", "copy", "ours_local", "ours_rows", "guide_pool", "connectorx", "polars")
EXACT = ("sql", "copy", "ours_local", "ours_rows")
"""Of these, those that lose no row and drift by no digit, or something is broken."""

PARTS = ("sides", "scale", "report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, help=", ".join(PARTS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=2, help="runs of each job; the fastest counts")
    parser.add_argument("--only", default=",".join(SIDES), help="sides, with commas between")
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers for the scale")
    parser.add_argument("--quick", action="store_true", help="100,000 rows, a few sides, nothing written")
    parser.add_argument("--home", type=Path, default=HOME)
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the rules of iptables are to be removed
    if asked.quick:
        look_quickly()
        return
    RESULTS.mkdir(exist_ok=True)
    begun = time.monotonic()
    if "sides" in asked.parts or "scale" in asked.parts:
        with running(asked.home, asked.rows) as data:
            if "sides" in asked.parts:
                run_sides(data, asked.only.split(","), asked.times)
            if "scale" in asked.parts:
                run_scale(data, [int(count) for count in asked.workers.split(",")], begun)
        print(f"Measured in {(time.monotonic() - begun) / 60:.1f} minutes.")
    if "report" in asked.parts:
        report.write(RESULTS)


def look_quickly() -> None:
    names = [name for name in QUICK if is_there(SIDES[name].environment)]
    with tempfile.TemporaryDirectory(prefix="burla-benchmarks-") as home:
        Path(home).chmod(0o755)
        with running(Path(home), 100_000, cluster=False) as data:
            found = dict(compare(data, names, tables(data), 1, 2))
    print("\n".join(report.comparison({"rows": data.rows, "sides": found}, "totals orders")))
    print("\n".join(report.comparison({"rows": data.rows, "sides": found}, "checksum orders")))
    if wrong := faults(found, EXACT):
        raise SystemExit("\n".join(wrong))
    print(f"The harness works. {data.rows:,} rows are too few to compare by: `make bench` has 10,000,000.")


def run_sides(data: Data, names: list[str], times: int) -> None:
    print("Sides", flush=True)
    path = RESULTS / "sides.json"
    known = json.loads(path.read_text()) if path.exists() else {"sides": {}}
    made = tables(data)
    known = known if known.get("tables") == made else {"sides": {}}  # sides over other tables cannot be compared
    for table in made.values():
        data.expected(table)
    for name, found in compare(data, names, made, times, 2):
        known |= {"rows": data.rows, "machine": describe(), "tables": made}
        known["sides"][name] = found | {"when": now()}
        save(path, known)


def run_scale(data: Data, workers: list[int], begun: float) -> None:
    print("Scale", flush=True)
    engines = ["ours_local", "ours_burla"] if find_nodes() else ["ours_local"]
    facts = {"when": now(), "rows": data.rows, "nodes": len(find_nodes())}
    save(RESULTS / "scale.json", facts | scale(data, workers, engines, begun))


def now() -> str:
    return time.strftime(report.WHEN, time.gmtime())


def tables(data: Data) -> dict[str, str]:
    return {"orders": data.orders(), "wide": data.wide(), "null_keys": data.null_keys()}


def save(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
