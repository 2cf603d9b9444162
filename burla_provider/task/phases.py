"""Where the time of a run goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from burla_provider.task.metrics import open_span, send_duration, tags_of

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class Phases:
    """The phases of a run, one after the other: each a span and a metric, all of them a line at the end.

    A phase that comes back (the second job after a trial) goes on where it was.
    """

    def __init__(self, context: Context) -> None:
        self.seconds: dict[str, float] = {}
        self._tags = tags_of(context)
        self._name = ""
        self._began = 0.0
        self._span: Any = None

    def enter(self, name: str) -> None:
        """The phase that goes on ends, ``name`` begins."""
        self._leave()
        self._name = name
        self._began = time.monotonic()
        self._span = open_span(f"burla.{name}", self._tags)

    def end(self) -> None:
        """The last phase ends; Airflow's metrics are told of all of them."""
        self._leave()
        for name, seconds in self.seconds.items():
            send_duration(f"burla.phase.{name.replace(' ', '_')}", seconds, self._tags)

    def __str__(self) -> str:
        """``Took 3.4 s: snapshot 0.1 s, planning 0.2 s, ...``"""
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        return f"Took {sum(self.seconds.values()):.1f} s: {parts}."

    def _leave(self) -> None:
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + time.monotonic() - self._began
            if self._span is not None:
                self._span.end()
            self._name = ""
