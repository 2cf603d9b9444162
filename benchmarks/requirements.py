"""Measure the first call on a new node: with declared requirements, and with the complete environment (the default).

    python -m benchmarks.requirements

Restarts the nodes of the cluster of `make cluster` before each measurement, so that nothing is installed.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution, distributions
from pathlib import Path

from burla_provider.demo.cluster import find_login
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import Engine, ItemSucceeded, Job
from burla_provider.jobs.requirements import resolve_requirements
from burla_provider.jobs.runner import run_job

DECLARED = ["psycopg[binary]", "tenacity"]


def work(index: int, item: int) -> bytes:
    import psycopg

    return psycopg.__version__.encode()


def main() -> None:
    login = find_login()
    engine = Engine(url=login.url, email=login.email, token=login.token)
    sides: dict[str, Mapping[str, str] | None] = {
        "declared": resolve_requirements(DECLARED),
        "environment": None,
    }
    lines = {name: measure(engine, pins) for name, pins in sides.items()}
    print(f"{'requirements':<14}{'packages':>9}{'MB':>7}{'first call':>13}{'second call':>13}")
    for name, (cold, warm) in lines.items():
        packages = list(sides[name] or {package.name for package in distributions()})
        print(f"{name:<14}{len(packages):>9}{megabytes(packages):>7,.0f}{cold:>11.1f} s{warm:>11.1f} s")
    ratio = lines["environment"][0] / lines["declared"][0]
    print(json.dumps({"first_call_ratio": round(ratio, 1), "seconds": lines}))


def megabytes(packages: Iterable[str]) -> float:
    """Return the size of the installed packages on this machine."""
    files = (file.locate() for name in packages for file in distribution(name).files or ())
    return sum(path.stat().st_size for path in map(Path, map(str, files)) if path.is_file()) / 1e6


def measure(engine: Engine, pins: Mapping[str, str] | None) -> tuple[float, float]:
    """Return the seconds of the first and of the second job on new nodes."""
    restart(engine)
    return call(engine, pins), call(engine, pins)


def call(engine: Engine, pins: Mapping[str, str] | None) -> float:
    job = Job("cold_start", pickle_for_workers(work), {0: 0}, requirements=pins)
    started = time.perf_counter()
    results = [event.result for event in run_job(job, engine) if isinstance(event, ItemSucceeded)]
    assert len(results) == 1
    return round(time.perf_counter() - started, 2)


def restart(engine: Engine) -> None:
    """Replace the nodes and wait until they are ready."""
    headers = {"Authorization": f"Bearer {engine.token}", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{engine.url}/v1/cluster/restart", b"{}", headers))
    state = urllib.request.Request(f"{engine.url}/v1/cluster/state", headers=headers)
    while not json.load(urllib.request.urlopen(state))["ready_nodes"]:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
