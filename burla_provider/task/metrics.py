"""Airflow's metrics and traces of a job, if they are enabled: ``burla.*``, tagged with DAG and task."""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Stats

from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class Metrics:
    """Counts outcomes, and adds the counts to Airflow's counters. An outcome listener.

    :param unit: "range" or "input".
    """

    def __init__(self, context: Context, unit: str) -> None:
        self._tags = _tags(context)
        self._prefix = f"burla.{unit}s"
        self._counts: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome, and send its duration."""
        self._counts[f"{self._prefix}.{'done' if outcome.ok else 'failed'}"] += 1
        self._counts[f"{self._prefix}.retried"] += outcome.attempts - 1
        self._counts["burla.rows"] += outcome.row_count or 0
        # One timing per range, so that percentiles show skew.
        _send_duration(f"{self._prefix}.duration", outcome.seconds, self._tags)

    def flush(self) -> None:
        """Send the counts since the last call."""
        for name, count in self._counts.items():
            if count:
                Stats.incr(name, count, tags=self._tags)
        self._counts.clear()


class Phases:
    """Measures the consecutive phases of a try. Each is a span and a metric; a log line lists them.

    A phase that is entered again (the job after its trial) adds to its time.
    """

    def __init__(self, context: Context) -> None:
        self.seconds: dict[str, float] = {}
        self._tags = _tags(context)
        self._name = ""
        self._started = 0.0
        self._span: Any = None

    def enter(self, name: str) -> None:
        """End the current phase, and begin the phase ``name``."""
        self._leave()
        self._name = name
        self._started = time.monotonic()
        self._span = _open_span(f"burla.{name}", self._tags)

    def end(self) -> None:
        """End the current phase, and send the durations of all phases."""
        self._leave()
        for name, seconds in self.seconds.items():
            _send_duration(f"burla.phase.{name.replace(' ', '_')}", seconds, self._tags)

    def __str__(self) -> str:
        """Return, for example, ``Took 3.4 s: snapshot 0.1 s, planning 0.2 s, ...``."""
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return f"Took {sum(self.seconds.values()):.1f} s: {parts}."

    def _leave(self) -> None:
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + time.monotonic() - self._started
            if self._span is not None:
                self._span.end()
            self._name = ""


def _tags(context: Context) -> dict[str, Any]:
    ti = context["ti"]
    return {"dag_id": ti.dag_id, "task_id": ti.task_id}


def _send_duration(name: str, seconds: float, tags: dict[str, Any]) -> None:
    Stats.timing(name, timedelta(seconds=seconds), tags=tags)


def _open_span(name: str, tags: dict[str, Any]) -> Any:
    """Return an OpenTelemetry span below the task's own, or None if Airflow does not trace."""
    # Airflow 3.1 does not trace in tasks: if OpenTelemetry is not loaded, do not import it.
    trace = sys.modules.get("opentelemetry.trace")
    return None if trace is None else trace.get_tracer("burla_provider").start_span(name, attributes=tags)
