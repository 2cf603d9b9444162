"""What Airflow's metrics and traces are told, where Airflow has them on: ``burla.*``, tagged with DAG and task."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Stats

from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class Metrics:
    """Counts outcomes, and adds what it counted to Airflow's counters. A collector.

    :param unit: what an item is: "range" or "input".
    """

    def __init__(self, context: Context, unit: str) -> None:
        self._tags = tags_of(context)
        self._items = f"burla.{unit}s"
        self._counts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self._counts[f"{self._items}.{'done' if outcome.ok else 'failed'}"] += 1
        self._counts[f"{self._items}.retried"] += outcome.attempts - 1
        self._counts["burla.rows"] += outcome.row_count or 0
        # A metric of its own a range, so that its percentiles show skew.
        send_duration(f"{self._items}.duration", outcome.seconds, self._tags)

    def flush(self) -> None:
        """Tell of what came since the last time."""
        for name, count in self._counts.items():
            if count:
                Stats.incr(name, count, tags=self._tags)
        self._counts.clear()


def tags_of(context: Context) -> dict[str, Any]:
    """Which task it is, for metrics and spans."""
    ti = context["ti"]
    return {"dag_id": ti.dag_id, "task_id": ti.task_id}


def send_duration(name: str, seconds: float, tags: dict[str, Any]) -> None:
    """A timing among Airflow's metrics."""
    Stats.timing(name, timedelta(seconds=seconds), tags=tags)


def open_span(name: str, tags: dict[str, Any]) -> Any:
    """An OpenTelemetry span below the task's own, to be ended; None where Airflow does not trace."""
    # Airflow 3.1 does not trace in tasks: what nobody has loaded is not worth its import.
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else trace.get_tracer("burla_provider").start_span(name, attributes=tags)
