"""The ways to read that ``reading.py`` compares: one function each, run in a separate process.

A function gets a connection string, a table and its columns, and returns the number of rows and the sum of ``amount``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import tuple_row

from burla_provider.combine.combiners import SumByKey, Totals
from burla_provider.database.connect import connection_parameters
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.logs import Progress
from burla_provider.worker.outcome import Outcome, decode, encode
from burla_provider.worker.processors import ProcessRows
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.source import Source

Counted = tuple[int, Any]
TYPES = {"id": "int8", "amount": "numeric", "created_at": "timestamptz", "label": "text", "document": "jsonb"}


def add_up(rows: Iterator[Any]) -> Counted:
    count, total = 0, 0
    for row in rows:
        count += 1
        total += row[1]
    return count, total


def stream(binary: bool, size: int) -> Callable[..., Counted]:
    def way(conninfo: str, table: str, columns: str) -> Counted:
        with psycopg.connect(conninfo) as connection:
            cursor = connection.cursor(binary=binary)
            return add_up(cursor.stream(f"SELECT {columns} FROM {table}", size=size))

    return way


def server_cursor(size: int) -> Callable[..., Counted]:
    def way(conninfo: str, table: str, columns: str) -> Counted:
        with psycopg.connect(conninfo) as connection, connection.cursor("rows") as cursor:
            cursor.execute(f"SELECT {columns} FROM {table}")
            return add_up(row for rows in iter(lambda: cursor.fetchmany(size), []) for row in rows)

    return way


def fetchall(conninfo: str, table: str, columns: str) -> Counted:
    with psycopg.connect(conninfo) as connection:
        return add_up(connection.execute(f"SELECT {columns} FROM {table}").fetchall())


def copy_binary(conninfo: str, table: str, columns: str) -> Counted:
    query = f"COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT binary)"
    with psycopg.connect(conninfo) as connection, connection.cursor().copy(query) as copy:
        copy.set_types([TYPES[name] for name in columns.split(",")])
        return add_up(copy.rows())


def copy_discarded(conninfo: str, table: str, columns: str) -> Counted:
    query = f"COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT binary)"
    with psycopg.connect(conninfo) as connection, connection.cursor().copy(query) as copy:
        return sum(1 for _ in copy) - 1, None


def psycopg2_fetchall(conninfo: str, table: str, columns: str) -> Counted:
    import psycopg2

    cursor = psycopg2.connect(conninfo).cursor()
    cursor.execute(f"SELECT {columns} FROM {table}")
    return add_up(cursor.fetchall())


def psycopg2_cursor(conninfo: str, table: str, columns: str) -> Counted:
    import psycopg2

    cursor = psycopg2.connect(conninfo).cursor("rows")
    cursor.itersize = 20_000
    cursor.execute(f"SELECT {columns} FROM {table}")
    return add_up(cursor)


def adbc(conninfo: str, table: str, columns: str) -> Counted:
    import adbc_driver_postgresql.dbapi as dbapi
    import pyarrow as pa
    import pyarrow.compute as pc

    count, total = 0, 0
    with dbapi.connect(as_uri(conninfo)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {table}")
        for batch in cursor.fetch_record_batch():
            amounts = batch.column("amount")
            storage = amounts.storage if isinstance(amounts, pa.ExtensionArray) else amounts
            count += batch.num_rows
            total += pc.sum(storage.cast(pa.decimal128(38, 2))).as_py()
    return count, total


def duckdb(conninfo: str, table: str, columns: str) -> Counted:
    import duckdb as driver
    import pyarrow.compute as pc

    extension = Path(next(iter(find_spec("duckdb_extension_postgres_scanner").submodule_search_locations)))
    database = driver.connect(config={"threads": 1})
    database.execute(f"LOAD '{extension}/extensions/v{driver.__version__}/postgres_scanner.duckdb_extension'")
    database.execute(f"ATTACH '{as_uri(conninfo)}' AS source (TYPE postgres, READ_ONLY)")
    query = f"SELECT * FROM postgres_query('source', 'SELECT {columns} FROM {table}')"
    count, total = 0, 0
    for batch in database.execute(query).to_arrow_reader(50_000):
        count += batch.num_rows
        total += pc.sum(batch.column("amount")).as_py()
    return count, total


def ours(row_format: str) -> Callable[..., Counted]:
    def way(conninfo: str, table: str, columns: str) -> Counted:
        arrow = ProcessRows(add_batches, batch_format="arrow")  # type: ignore[arg-type]
        processor = arrow if row_format == "arrow" else ProcessRows(add_rows, row_format)  # type: ignore[arg-type]
        return process_table(conninfo, table, columns, processor)

    return way


def add_rows(rows: Iterator[Any]) -> dict[str, Any]:
    return {"total": sum(row[1] for row in rows)}


def add_batches(batches: Iterator[Any]) -> dict[str, Any]:
    import pyarrow.compute as pc

    return {"total": sum(pc.sum(batch.column("amount")).as_py() for batch in batches)}


def process_table(conninfo: str, table: str, columns: str, processor: ProcessRows, limit: int | None = None) -> Counted:
    """Process one range of all rows, or of ids up to ``limit``, as on a worker."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        parameters = connection_parameters(connection)
    key = Key((KeyColumn("id", "bigint"),))
    upper = None if limit is None else (str(limit + 1),)
    task = RangeTask(parameters, Source("public", table, tuple(columns.split(","))), key, processor)
    outcome = decode(task(0, KeyRange(key, 0, None, upper).to_item()))
    assert outcome.failure is None, outcome.failure
    task.close()
    return outcome.row_count or 0, outcome.value["total"]


WAYS: dict[str, Callable[..., Counted]] = {
    "psycopg2 fetchall (the guide)": psycopg2_fetchall,
    "psycopg2 named cursor": psycopg2_cursor,
    "fetchall": fetchall,
    "server cursor, fetchmany(1000)": server_cursor(1_000),
    "COPY BINARY": copy_binary,
    "COPY BINARY, discarded": copy_discarded,
    "ADBC, Arrow": adbc,
    "DuckDB, Arrow": duckdb,
    "stream(1000), binary": stream(True, 1_000),
    "stream(1000), text": stream(False, 1_000),
    "stream(250), text": stream(False, 250),
    "stream(50), text": stream(False, 50),
    "this provider, tuples": ours("tuple"),
    "this provider, Arrow": ours("arrow"),
}


def guide_on_burla(conninfo: str) -> Counted:
    from burla import remote_parallel_map

    parameters = conninfo_to_dict(conninfo)

    def process_id_range(id_range: Any) -> dict[str, Any]:
        import psycopg2

        start_id, end_id = id_range
        connection = psycopg2.connect(**parameters)
        cursor = connection.cursor()
        cursor.execute("SELECT id, amount FROM orders WHERE id BETWEEN %s AND %s", (start_id, end_id))
        rows = cursor.fetchall()
        total_amount = sum(row[1] for row in rows)
        cursor.close()
        connection.close()
        return {"row_count": len(rows), "total_amount": float(total_amount)}

    with psycopg.connect(conninfo, row_factory=tuple_row) as connection:
        (last,) = connection.execute("SELECT max(id) FROM orders").fetchone()  # type: ignore[misc]
    # Lists, because Burla unpacks the guide's tuples into two arguments.
    id_ranges = [[start, min(start + 24_999, last)] for start in range(1, last + 1, 25_000)]
    results = remote_parallel_map(process_id_range, id_ranges, spinner=False)
    return sum(result["row_count"] for result in results), sum(result["total_amount"] for result in results)


def as_uri(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    return f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{parts['dbname']}"


def outcomes(count: str) -> Counted:
    totals, progress = Totals(SumByKey(), range(int(count))), Progress(int(count), now=0.0)
    for index in range(int(count)):
        outcome = decode(encode(Outcome(index, value={"total": Decimal("1.10")}, row_count=1, worker="host:1")))
        totals.add(outcome)
        progress.add(outcome)
    return totals.row_count, totals.result()["total"]


def worker(conninfo: str, limit: str) -> Counted:
    return process_table(conninfo, "orders", "id,amount", ProcessRows(add_rows), None if int(limit) > 1 else 1)


def measured(run: Callable[[], Counted]) -> dict[str, Any]:
    """Return the result of ``run``, its seconds and CPU seconds, and the increase of the process's memory."""
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    memory = status("VmRSS")
    idle = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    rows, total = run()
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rows": rows,
        "total": str(total),
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime - idle.ru_utime - idle.ru_stime,
        "memory": (status("VmHWM") - memory) / 1024,
    }


def status(name: str) -> int:
    """Return a value of /proc/self/status in KB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


COMMANDS: dict[str, Callable[..., Counted]] = {
    "way": lambda name, *arguments: WAYS[name](*arguments),
    "guide": guide_on_burla,
    "outcomes": outcomes,
    "worker": worker,
}

if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    for module in ("pyarrow.compute", "adbc_driver_postgresql.dbapi", "duckdb"):  # their import is not measured
        with suppress(ImportError):
            import_module(module)
    print(json.dumps(measured(lambda: COMMANDS[command](*arguments))))
