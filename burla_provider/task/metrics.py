"""Airflow's metrics and traces of a job, if they are enabled: ``burla.*``, tagged with DAG and task."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

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


PhaseName = Literal[
    "starting",
    "connecting",
    "snapshot",
    "planning",
    "preparing",
    "waiting for a node",
    "starting workers",
    "trial",
    "working",
    "combining",
    "pausing",
]
"""What a try does, one after the other. A phase may be entered again."""
_METRIC_NAMES: dict[PhaseName, str] = {"starting workers": "starting the client"}
"""Names in metrics and spans, where they differ: dashboards use the names of earlier versions."""

_MAX_PHASES = 24
"""With more, the report has one entry per name."""


@dataclass
class _Phase:
    name: PhaseName
    began: float  # seconds since the epoch
    seconds: float = 0.0


class Phases:
    """Measures the consecutive phases of a try. Each is a span and a metric; a log line lists them.

    The first one, "starting", has begun when Airflow has started the try.
    """

    def __init__(self, context: Context) -> None:
        self._tags = _tags(context)
        self._span: Any = None
        self._is_over = False
        started = getattr(context["ti"], "start_date", None)
        now = time.time()
        self.began = now if started is None else min(started.timestamp(), now)
        """When the try began, seconds since the epoch."""
        self._since = time.monotonic() - (now - self.began)
        self._phases = [_Phase("starting", self.began)]

    @property
    def seconds(self) -> dict[PhaseName, float]:
        """The seconds of each phase, in the order in which the phases were entered first."""
        seconds: dict[PhaseName, float] = {}
        for phase in self._phases:
            seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
        return seconds

    def enter(self, name: PhaseName) -> None:
        """End the current phase, and begin the phase ``name``, unless it is the current one."""
        if name == self._phases[-1].name or self._is_over:
            return
        self._leave()
        self._since = time.monotonic()
        self._phases.append(_Phase(name, time.time()))
        self._span = _open_span(f"burla.{_metric_name(name)}", self._tags)

    def end(self) -> None:
        """End the current phase, and send the durations of all phases."""
        self._leave()
        self._is_over = True
        for name, seconds in self.seconds.items():
            _send_duration(f"burla.phase.{_metric_name(name).replace(' ', '_')}", seconds, self._tags)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the part ``phases`` of the report: the phases in their order, the last one with its seconds so far."""
        self._measure()
        phases = self._phases
        if len(phases) > _MAX_PHASES:  # a job that is paused again and again
            first = {phase.name: phase.began for phase in reversed(phases)}
            phases = [_Phase(name, first[name], seconds) for name, seconds in self.seconds.items()]
        return [
            {"name": phase.name, "began": round(phase.began, 3), "seconds": round(phase.seconds, 3)} for phase in phases
        ]

    def __str__(self) -> str:
        """Return, for example, ``Took 3.4 s: starting 0.9 s, snapshot 0.1 s, planning 0.2 s, ...``."""
        self._measure()
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return f"Took {sum(self.seconds.values()):.1f} s: {parts}."

    def _measure(self) -> None:
        if not self._is_over:
            self._phases[-1].seconds = time.monotonic() - self._since

    def _leave(self) -> None:
        self._measure()
        if self._span is not None:
            self._span.end()
        self._span = None


def _metric_name(name: PhaseName) -> str:
    return _METRIC_NAMES.get(name, name)


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
