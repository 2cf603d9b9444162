"""Airflow's metrics and OpenTelemetry's spans of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.providers.common.compat.sdk import Stats
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges import KeyRange
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow


class Heard:
    """The counters and timings of our own that were sent, with their tags."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.timings: dict[str, int] = {}
        self.tags: list[dict[str, Any]] = []

    def incr(self, name: str, count: int = 1, *_: Any, tags: Any = None, **__: Any) -> None:
        self._hear(self.counts, name, count, tags)

    def timing(self, name: str, _: Any, *, tags: Any = None) -> None:
        self._hear(self.timings, name, 1, tags)

    def _hear(self, numbers: dict[str, int], name: str, count: int, tags: Any) -> None:
        if name.startswith("burla."):
            numbers[name] = numbers.get(name, 0) + count
            self.tags.append(tags)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr(Stats, "incr", heard.incr, raising=False)
    monkeypatch.setattr(Stats, "timing", heard.timing, raising=False)
    return heard


@pytest.fixture(scope="module")
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # A process has one provider for good: what others trace in it from now on goes nowhere.
    trace.set_tracer_provider(provider)
    yield exporter
    provider.shutdown()


def operator(**options: Any) -> BurlaPostgresOperator:
    work = {} if {"process_rows", "process_range"} & options.keys() else {"totals": {"total": "sum(amount)"}}
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 4}
    return BurlaPostgresOperator(**{**defaults, **work, **options})


def test_ranges_and_rows_are_counted_by_dag_and_task(airflow: Airflow, orders: Orders, heard: Heard) -> None:
    airflow.run(operator())
    assert heard.counts == {"burla.ranges.done": 4, "burla.rows": 20_000}
    assert all(tags == {"dag_id": "test_dag", "task_id": "t"} for tags in heard.tags)


def test_every_range_and_every_phase_is_timed(airflow: Airflow, orders: Orders, heard: Heard) -> None:
    airflow.run(operator())
    phases = ("starting", "connecting", "snapshot", "planning", "starting_the_client", "working", "combining")
    assert heard.timings == {"burla.ranges.duration": 4, **{f"burla.phase.{phase}": 1 for phase in phases}}


def test_failed_ranges_are_counted_separately(airflow: Airflow, orders: Orders, heard: Heard) -> None:
    def fail_first(rows: Iterable[tuple[int]]) -> dict[str, Any]:
        if any(id == 3 for (id,) in rows):
            raise ValueError("the first")
        return {}

    airflow.run(operator(process_rows=fail_first, columns=["id"]))
    assert (heard.counts["burla.ranges.done"], heard.counts["burla.ranges.failed"]) == (3, 1)


def test_a_range_that_was_retried_is_counted(airflow: Airflow, orders: Orders, heard: Heard, tmp_path: Path) -> None:
    ended = tmp_path / "ended"

    def lose_the_connection_once(connection: psycopg.Connection[Any], key_range: KeyRange) -> dict[str, Any]:
        if key_range.index == 2 and not ended.exists():
            ended.touch()
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return {}

    airflow.run(operator(process_range=lose_the_connection_once))
    assert heard.counts["burla.ranges.retried"] == 1
    assert heard.counts["burla.ranges.done"] == 4


def test_inputs_are_counted_as_inputs(airflow: Airflow, heard: Heard) -> None:
    airflow.run(BurlaMapOperator(task_id="m", python_callable=lambda number: number, inputs=[1, 2, 3]))
    assert heard.counts == {"burla.inputs.done": 3}


def test_every_phase_is_a_child_span_of_the_task(
    airflow: Airflow, orders: Orders, exporter: InMemorySpanExporter
) -> None:
    with trace.get_tracer("airflow").start_as_current_span("worker.t") as task:
        airflow.run(operator())
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("burla.")]
    names = ["connecting", "snapshot", "planning", "starting the client", "working", "combining"]
    assert [span.name for span in spans] == [f"burla.{name}" for name in names]
    assert all(span.context.trace_id == task.get_span_context().trace_id for span in spans)
