"""Compare everything that the DAGs of a soak have returned and written with SQL. A check returns what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import psycopg

from burla_provider.task.watermark import WINDOW
from tests.soak.airflow import Run, SoakAirflow, descendants, is_of_provider
from tests.soak.tables import ask, totals_of
from tests.support.waiting import wait_for

Connection = psycopg.Connection[Any]
_TOTALS = ("soak_rows", "soak_range", "soak_sql", "soak_batches")
_INCREMENTAL = ("soak_incremental", "soak_insert")
_SHOWN = 5


class Checks:
    """:ivar done: name -> how many times it was compared."""

    def __init__(self, airflow: SoakAirflow, source: Connection, target: Connection) -> None:
        self.done: Counter[str] = Counter()
        self._airflow = airflow
        self._source = source
        self._target = target
        self._runs = airflow.runs()

    def failures(self) -> list[str]:
        """Make all checks."""
        checks = (
            self._states,
            self._totals,
            self._map,
            self._incremental,
            self._insert,
            self._upsert,
            self._update,
            self._overwrite,
            self._left,
        )
        return [failure for check in checks for failure in check()]

    def _of(self, *dags: str) -> list[Run]:
        return [run for run in self._runs if run.dag in dags and run.state == "success"]

    def _states(self) -> Iterator[str]:
        for run in self._runs:
            self.done["runs"] += 1
            if run.state not in ("success", "queued"):  # queued: when its DAG was paused
                yield f"{run.dag} {run.id} is {run.state}"

    def _totals(self) -> Iterator[str]:
        for run in self._of(*_TOTALS):
            value = run.value
            snapshots = value["seen"] if "seen" in value else sorted({value["first"], value["last"]})
            self.done["totals"] += 1
            if len(snapshots) != 1:
                yield f"{run.dag} {run.id} has read {len(snapshots)} snapshots: {snapshots[:_SHOWN]}"
                continue
            found = value["row_count"], Decimal(value["amount"])
            if found != (true := totals_of(self._source, snapshots[0])):
                yield f"{run.dag} {run.id} has returned {found}, and SQL {true} in the snapshot {snapshots[0]}"

    def _map(self) -> Iterator[str]:
        for run in self._of("soak_map"):
            self.done["maps"] += 1
            if run.value != [number * run.minute for number in range(100)]:
                yield f"{run.dag} {run.id} has returned {run.value}"

    def _incremental(self) -> Iterator[str]:
        values = [run.value for run in self._of("soak_incremental")]
        found = tuple(sum(Decimal(value[name] or 0) for value in values) for name in ("row_count", "amount", "ids"))
        query = "SELECT count(*), coalesce(sum(amount), 0), coalesce(sum(id), 0) FROM events WHERE id < %s"
        yield from self._equal("watermark", f"{len(values)} increments", found, query, self._watermark("soak_numbers"))

    def _insert(self) -> Iterator[str]:
        events = "SELECT * FROM events WHERE created_at < %s"
        end = self._watermark("soak_copies")
        self.done["rows inserted"] += ask(self._source, "SELECT count(*) FROM event_copies")
        for name, query in (
            ("missing", f"({events}) EXCEPT ALL TABLE event_copies"),
            ("too many", f"TABLE event_copies EXCEPT ALL ({events})"),
        ):
            yield from self._none(f"event_copies: {name}", self._source.execute(query.encode(), [end]).fetchall())

    def _upsert(self) -> Iterator[str]:
        labels = dict(self._pairs("SELECT order_id, (label, version)::text FROM order_labels", self._target))
        orders = dict(self._pairs("SELECT id, (amount::text, version)::text FROM orders", self._source))
        self.done["rows upserted"] += len(orders)
        yield from self._none("order_labels", [(k, v, labels.get(k)) for k, v in orders.items() if labels.get(k) != v])
        found = ask(self._target, "SELECT sum(touches) FROM order_labels")
        yield from self._equal("touches", "touches", found, "SELECT sum(touches) FROM writes", on=self._target)

    def _update(self) -> Iterator[str]:
        runs = len(self._of("soak_update"))
        query = "SELECT id, n - 1000 * writes FROM counters"
        counters = self._pairs(query, self._source)
        self.done["rows updated"] += len(counters)
        yield from self._none(f"counters after {runs} runs", [pair for pair in counters if pair[1] != runs])

    def _overwrite(self) -> Iterator[str]:
        query = "SELECT order_id, trim_scale(score) FROM order_scores WHERE source = 'burla'"
        scores = set(self._pairs(query, self._target))
        orders = set(self._pairs("SELECT id, trim_scale(amount * 2) FROM orders", self._source))
        self.done["rows overwritten"] += len(orders)
        yield from self._none("order_scores", sorted(scores ^ orders))
        found = ask(self._target, "SELECT count(*) FROM order_scores WHERE source = 'other'")
        yield from self._equal("scores", "other scores", found, "SELECT sum(scores) FROM writes", on=self._target)

    def _left(self) -> Iterator[str]:
        """Find what no task may leave behind."""
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'soak%'"
        try:
            wait_for(lambda: not ask(self._source, sessions), 20)
        except AssertionError:
            yield f"{ask(self._source, sessions)} database sessions are left"
        try:
            wait_for(lambda: not any(map(is_of_provider, descendants())), 20)
        except AssertionError:
            left = [process for process in descendants() if is_of_provider(process)]
            yield f"processes are left: {left}"
        for name, connection in (("source", self._source), ("target", self._target)):
            yield from self._none(f"tables left in the {name}", self._staging_tables(connection))
            locks = "SELECT * FROM pg_locks WHERE locktype = 'advisory'"
            yield from self._none(f"locks left in the {name}", connection.execute(locks.encode()).fetchall())
        expected = {"watermark": len(_INCREMENTAL), WINDOW: len(self._of(*_INCREMENTAL))}
        rows = self._airflow.state_rows()
        if rows != expected:
            yield f"the state stores have {rows} instead of {expected}"

    def _staging_tables(self, connection: Connection) -> list[str]:
        query = """
            SELECT relname::text, obj_description(oid, 'pg_class')::jsonb FROM pg_class
            WHERE relname LIKE 'burla\\_%' AND relkind = 'r'
        """
        tables = connection.execute(query.encode()).fetchall()
        # A later run drops these.
        without_callback = self._airflow.runs_without_callback()
        return [name for name, of in tables if of is None or (of["dag"], of["run"]) not in without_callback]

    def _watermark(self, asset: str) -> Any:
        self.done["watermarks"] += 1
        return self._airflow.watermark(asset)

    def _equal(
        self, kind: str, name: str, found: Any, query: str, *parameters: Any, on: Connection | None = None
    ) -> Iterator[str]:
        self.done[kind] += 1
        if found != (true := ask(on or self._source, query, *parameters)):
            yield f"{name}: {found}, and SQL has {true}"

    def _none(self, name: str, wrong: Sequence[Any]) -> Iterator[str]:
        if wrong:
            yield f"{name}: {len(wrong)}, such as {wrong[:_SHOWN]}"

    def _pairs(self, query: str, connection: Connection) -> list[tuple[Any, Any]]:
        return connection.execute(query.encode()).fetchall()


def check_overwrite(source: Connection, target: Connection, known: set[str]) -> str | None:
    """Compare the rows of ``order_scores`` with the snapshot that they are from. Return what is wrong.

    A retry reads a new snapshot, but only up to the maximum id at the first try of its run.

    :param known: snapshots that were compared before; the new one is added.
    """
    query = """
        SELECT count(*), sum(score), min(snapshot), max(snapshot), max(order_id) FROM order_scores
        WHERE source = 'burla'
    """
    count, score, first, last, end = ask(target, query)
    if first is None or first != last or first in known:  # a retry continues with the rows of the try before
        return None
    known.add(first)
    if (count, score / 2) != (true := totals_of(source, first, end)):
        return f"order_scores has {count} rows and the total {score / 2}, and SQL {true} in the snapshot {first}"
    return None
