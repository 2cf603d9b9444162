"""Measure how fast rows are read, how much memory it takes, and whether the totals are exact.

    python benchmarks/reading.py                       all parts that this machine can run
    python benchmarks/reading.py --rows 1000000 ways   one part, on a smaller table

Parts: ``ways`` (ways to read in one process, narrow and wide rows; ADBC and DuckDB need the packages of
``requirements.txt``), ``memory`` (one worker, one range of all rows), ``outcomes`` (the cost of 100,000 outcomes in the
task), ``cluster`` (a real Burla cluster, with concurrent writes).
The commands of a part run alternately, each in a new process; the fastest of ``--times`` runs counts.
``benchmarks/compare.py`` compares this provider with other tools.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.reading_ways import WAYS
from burla_provider.combine.combiners import SumByKey, Totals
from burla_provider.combine.sql_combiner import SqlCombiner
from burla_provider.database.connect import connection_parameters
from burla_provider.demo.cluster import WORKER_NETWORKS, find_bridge
from burla_provider.demo.orders import create_orders
from burla_provider.demo.postgres import EmbeddedPostgres
from burla_provider.exceptions import ClusterNotFoundError
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import Engine, ItemSucceeded, Job, JobOptions
from burla_provider.jobs.requirements import resolve_requirements
from burla_provider.jobs.runner import run_job
from burla_provider.ranges import plan_ranges
from burla_provider.task.sql_totals import check_totals, parse_totals
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRows, SqlTotals
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source
from tests.support.snapshots import open_snapshot

LOCAL = Engine(name="local")
BURLA = Engine(name="burla")

WIDE = """
    CREATE TABLE wide AS
    SELECT id, amount, created_at, rpad(md5(id::text), 80, md5(id::text || 'x')) AS label,
           jsonb_build_object('customer', customer_id, 'status', status) AS document
    FROM orders LIMIT %s
"""
TEXTS = """
    CREATE TABLE texts AS
    SELECT id, amount, created_at, rpad(md5(id::text), 400, md5(id::text || 'x')) AS label FROM orders LIMIT %s
"""
TABLES = {
    "orders": ("id", "amount"),
    "wide": ("id", "amount", "created_at", "label", "document"),
    "texts": ("id", "amount", "created_at", "label"),
}
"""Tables that the part ``ways`` reads, with their columns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "burla-benchmark")
    arguments = parser.parse_args()
    with orders(arguments.home, arguments.rows) as conninfo:
        for part in arguments.parts:
            PARTS[part](conninfo, arguments.rows, arguments.times)


@contextmanager
def orders(home: Path, rows: int) -> Iterator[str]:
    """Run a server with the tables that a cluster on this machine can reach."""
    try:
        listen, networks = (find_bridge(), "127.0.0.1"), WORKER_NETWORKS
    except ClusterNotFoundError:
        listen, networks = ("127.0.0.1",), ()
    settings = {"shared_buffers": "1GB", "fsync": "off", "max_wal_size": "8GB", "autovacuum": "off"}
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    with EmbeddedPostgres(home / "server", listen=listen, networks=networks, settings=settings) as server:
        create_orders(server.conninfo(), rows, lambda done: print(f"  {done:,} orders created", flush=True))
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS wide, texts")
            connection.execute(WIDE, [rows // 10])
            connection.execute(TEXTS, [rows // 10])
            connection.execute("VACUUM ANALYZE orders, wide, texts")
        yield server.conninfo()


def ways(conninfo: str, rows: int, times: int) -> None:
    """Compare ways to read rows into Python, in one process."""
    for table, columns in TABLES.items():
        heading(f"ways to read {table} ({', '.join(columns)}), one process")
        best = run_in_turn(
            {name: [*way_command("way"), name, conninfo, table, ",".join(columns)] for name in WAYS}, times
        )
        show(best)


def memory(conninfo: str, rows: int, times: int) -> None:
    """Measure the peak memory of a worker that reads all rows as one range, and of one that reads a single row."""
    heading("memory of a worker, one range")
    commands = {f"{rows_:,} rows": [*way_command("worker"), conninfo, str(rows_)] for rows_ in (1, rows)}
    show(run_in_turn(commands, 1))


def outcomes(conninfo: str, rows: int, times: int) -> None:
    """Measure what the task does with each outcome: decode it, add it to the totals, count it."""
    heading("100,000 trivial outcomes in the task (rows are ranges here)")
    show(run_in_turn({"decode, add, count": way_command("outcomes", "100000")}, times))


def cluster(conninfo: str, rows: int, times: int) -> None:
    """Compare the guide's function and this provider on a real Burla cluster while the table is changed."""
    try:
        find_bridge()
    except ClusterNotFoundError as error:
        print(f"\ncluster: skipped. {error}")
        return
    heading("all orders on the Burla cluster of this machine, while a writer changes the table")
    with writing(conninfo):
        commands = {
            "the guide, with corrected arguments": [*way_command("guide"), conninfo],
            "process_rows": job(conninfo, "burla"),
            "process_rows, amount only": job(conninfo, "burla", "process_rows", "auto", "amount"),
            "process_rows, split='pages'": job(conninfo, "burla", "process_rows", "pages"),
            "totals": job(conninfo, "burla", "totals"),
            "totals, split='pages'": job(conninfo, "burla", "totals", "pages"),
        }
        show(run_in_turn(commands, times))


def way_command(*arguments: str) -> list[str]:
    """Return the command that runs one of the ways to read."""
    return [sys.executable, "-m", "benchmarks.reading_ways", *arguments]


def job(*arguments: str) -> list[str]:
    """Return the command that runs a job of this provider."""
    return [sys.executable, "-m", "benchmarks.reading", "ours", *arguments]


def run_in_turn(commands: dict[str, list[str]], times: int) -> dict[str, dict[str, Any]]:
    """Return the fastest result of each command. A command prints one line of JSON."""
    best: dict[str, dict[str, Any]] = {}
    for _ in range(times):
        for name, command in commands.items():
            process = subprocess.run(command, capture_output=True, text=True, check=False)
            if process.returncode:
                best[name] = {"error": process.stderr.strip().splitlines()[-1]}
                continue
            result = json.loads(process.stdout.splitlines()[-1])
            if name not in best or result["seconds"] < best[name].get("seconds", float("inf")):
                best[name] = result
    return best


def ours(
    conninfo: str, engine: str = "local", mode: str = "process_rows", split: str = "auto", columns: str = "id,amount"
) -> dict[str, Any]:
    """Run one job of this provider, from the plan to the totals."""
    source = Source("public", "orders", tuple(columns.split(",")))
    started = time.perf_counter()
    with psycopg.connect(conninfo, autocommit=True) as connection:
        parameters = connection_parameters(connection)
    with open_snapshot(parameters, "public", "orders") as held:
        key = None if split == "pages" else "id"
        plan = plan_ranges(held.connection, table="orders", key=key, split=split, parallelism=2)
        aggregates = check_totals(held.connection, source, parse_totals({"total": "sum(amount)"}))
        processor = SqlTotals(aggregates) if mode == "totals" else ProcessRows(add_up)
        combiner = SqlCombiner(aggregates, source) if mode == "totals" else SumByKey()
        totals = Totals(combiner, range(len(plan.ranges)))
        task = RangeTask(parameters, source, plan.key, processor, snapshot=held.snapshot)
        job = Job(
            name="benchmark",
            pickled_callable=pickle_for_workers(task),
            items={key_range.index: key_range.to_item() for key_range in plan.largest_first()},
            options=JobOptions(max_parallelism=2),
            requirements=resolve_requirements(["psycopg[binary]", "tenacity"]),
        )
        for event in run_job(job, BURLA if engine == "burla" else LOCAL):
            if isinstance(event, ItemSucceeded):
                totals.add(decode(event.result))
        result = totals.result()
        seconds = time.perf_counter() - started
        expected = held.connection.execute("SELECT count(*), sum(amount) FROM orders").fetchone()
    return {
        "seconds": seconds,
        "rows": result["row_count"],
        "total": str(result["total"]),
        "ranges": len(plan.ranges),
        "exact": (result["row_count"], result["total"]) == expected,
    }


def add_up(rows: Iterator[tuple[Any, ...]]) -> dict[str, Any]:
    return {"total": sum(row[-1] for row in rows)}


@contextmanager
def writing(conninfo: str) -> Iterator[None]:
    """Update, insert and delete orders a hundred times per second."""
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            (last,) = connection.execute("SELECT max(id) FROM orders").fetchone()  # type: ignore[misc]
            for number in range(1, 10**9):
                if stop.wait(0.01):
                    return
                connection.execute("UPDATE orders SET amount = amount + 1 WHERE id = %s", [number * 7919 % last])
                connection.execute(
                    "INSERT INTO orders VALUES (%s, 1, 1, 'open', now()) ON CONFLICT DO NOTHING", [last + number]
                )
                connection.execute("DELETE FROM orders WHERE id = %s", [last + number - 1])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def heading(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print one line per result, the slowest first, with the ratio to the slowest."""
    good = {name: result for name, result in results.items() if "seconds" in result}
    slowest = max((result["seconds"] for result in good.values()), default=0)
    for name, result in sorted(good.items(), key=lambda item: -item[1]["seconds"]):
        figures = [
            f"{result['seconds']:7.2f} s",
            f"{result['rows'] / result['seconds'] / 1e6:6.2f} M rows/s",
            f"x {slowest / result['seconds']:4.1f}",
            f"{result['cpu']:6.2f} s CPU" if "cpu" in result else "",
            f"{result['memory']:6.0f} MB above idle" if "memory" in result else "",
            {True: "exact", False: f"NOT exact: {result['total']}"}.get(result.get("exact"), ""),
        ]
        print(f"  {name:<34}", "  ".join(figure for figure in figures if figure), flush=True)
    for name in results.keys() - good.keys():
        print(f"  {name:<34} {results[name]['error']}")


PARTS: dict[str, Callable[[str, int, int], None]] = {
    "ways": ways,
    "memory": memory,
    "outcomes": outcomes,
    "cluster": cluster,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["ours"]:
        print(json.dumps(ours(*sys.argv[2:])))
    else:
        main()
