"""Ten DAGs, one for each kind of work, every minute. At each minute, five run on one engine and five on the other."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from airflow.sdk import DAG, Asset, task

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator

LATE = datetime.timedelta(seconds=20)
"""Longer than a transaction of the writers."""
LATE_IDS = 2_000
"""More ids than the writers take in this time."""
NUMBERS = Asset("soak_numbers")
COPIES = Asset("soak_copies")
# Several values of one run show that its ranges did not read the same snapshot.
SNAPSHOT = {"amount": "amount", "snapshot": "read_snapshot()"}

_numbers = itertools.count()


def every_minute(name: str, make: Callable[..., Any]) -> None:
    """Make a DAG of one task. ``make`` gets the arguments of the task."""
    engine = f"{{{{ ['burla_one', 'burla_two'][(dag_run.run_after.minute + {next(_numbers)}) % 2] }}}}"
    with DAG(
        f"soak_{name}",
        schedule="* * * * *",
        start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"retries": 50, "retry_delay": datetime.timedelta(seconds=1)},
    ):
        make(task_id=name, burla_conn_id=engine, max_parallelism=2)


def on_table(table: str, **arguments: Any) -> dict[str, Any]:
    """Return the arguments that tasks on a table have in common."""
    return {"postgres_conn_id": "soak_source", "table": table, "ranges": 6, "range_retries": 8, **arguments}


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Combine the results of ranges."""
    snapshots = {snapshot for part in parts for snapshot in part["seen"]}
    return {
        "amount": sum((Decimal(part["amount"]) for part in parts), Decimal(0)),
        "seen": sorted(snapshots),
        "row_count": sum(part["row_count"] for part in parts),
    }


def add_rows(rows: Iterable[tuple[Decimal, str]]) -> dict[str, Any]:
    import time
    from decimal import Decimal

    total, snapshots, count = Decimal(0), set(), 0
    for amount, snapshot in rows:
        total += amount
        snapshots.add(snapshot)
        count += 1
    time.sleep(0.3)  # time to be killed
    return {"amount": total, "seen": sorted(snapshots), "row_count": count}


def add_range(connection: Any, key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("SELECT count(*), coalesce(sum(amount), 0), read_snapshot() FROM orders WHERE {}")
    [(count, amount, snapshot)] = connection.execute(query.format(key_range.where)).fetchall()
    connection.execute("SELECT pg_sleep(0.3)")
    return {"amount": amount, "seen": [snapshot], "row_count": count}


def add_batches(batches: Iterable[Any]) -> dict[str, Any]:
    import time
    from decimal import Decimal

    total, snapshots, count = Decimal(0), set(), 0
    for batch in batches:
        total += batch["amount"].sum()
        snapshots.update(batch["snapshot"])
        count += len(batch)
    time.sleep(0.3)
    return {"amount": total, "seen": sorted(snapshots), "row_count": count}


def copy_events(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.1)
    return rows


def label_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    number, amount, version = row
    return number, str(amount), version


def count_run(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    import time

    time.sleep(0.1)
    return [(n + 1,) for _, n in rows]


def score_order(row: tuple[Any, ...]) -> tuple[Any, ...]:
    number, amount, snapshot = row
    return number, "burla", amount * 2, snapshot


def multiply(number: int, factor: str) -> int:
    import time

    time.sleep(0.02)
    return number * int(factor)


def _rows(**arguments: Any) -> None:
    BurlaPostgresOperator(
        **on_table("orders"), columns=SNAPSHOT, process_rows=add_rows, combine=merge, verify="count", **arguments
    )


def _range(**arguments: Any) -> None:
    BurlaPostgresOperator(
        **on_table("orders", key="id"), consistency="snapshot", process_range=add_range, combine=merge, **arguments
    )


def _sql(**arguments: Any) -> None:
    totals = {"amount": "sum(amount)", "first": "min(read_snapshot())", "last": "max(read_snapshot())"}
    BurlaPostgresOperator(**on_table("orders"), totals=totals, **arguments)


def _batches(**arguments: Any) -> None:
    # The decorator.
    function = task.burla_postgres(
        **on_table("orders"), columns=SNAPSHOT, batch_format="pandas", combine=merge, **arguments
    )(add_batches)
    function()


def _incremental(**arguments: Any) -> None:
    BurlaPostgresOperator(
        **on_table("events", key="id"),
        totals={"amount": "sum(amount)", "ids": "sum(id)"},
        incremental=True,
        lag=LATE_IDS,
        outlets=[NUMBERS],
        **arguments,
    )


def _insert(**arguments: Any) -> None:
    BurlaPostgresTransformOperator(
        **on_table("events", key="created_at"),
        map_batch=copy_events,
        batch_size=50,
        target_table="event_copies",
        write_mode="insert",
        ledger="public.soak_ledger",
        incremental=True,
        lag=LATE,
        outlets=[COPIES],
        **arguments,
    )


def _upsert(**arguments: Any) -> None:
    BurlaPostgresTransformOperator(
        **on_table("orders", columns=["id", "amount", "version"]),
        map_row=label_order,
        target_conn_id="soak_target",
        target_table="order_labels",
        target_columns=["order_id", "label", "version"],
        version_column="version",
        write_mode="upsert",
        ledger="public.soak_ledger",
        **arguments,
    )


def _update(**arguments: Any) -> None:
    BurlaPostgresTransformOperator(
        **on_table("counters", columns=["id", "n"]),
        map_batch=count_run,
        batch_size=250,
        write_mode="update",
        update_columns=["n"],
        ledger="public.soak_ledger",
        **arguments,
    )


def _overwrite(**arguments: Any) -> None:
    BurlaPostgresTransformOperator(
        **on_table("orders", columns={"id": "id", **SNAPSHOT}),
        map_row=score_order,
        target_conn_id="soak_target",
        target_table="order_scores",
        write_mode="overwrite",
        overwrite_where="source = 'burla'",
        **arguments,
    )


def _map(**arguments: Any) -> None:
    BurlaMapOperator(
        python_callable=multiply,
        inputs=list(range(100)),
        op_kwargs={"factor": "{{ dag_run.run_after.minute }}"},
        **arguments,
    )


for kind in (_rows, _range, _sql, _batches, _incremental, _insert, _upsert, _update, _overwrite, _map):
    every_minute(kind.__name__.removeprefix("_"), kind)
