"""Let a task run out of time at a known point of its job, however fast the machine is."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from burla_provider.task.in_flight import InFlight


def time_out_when_alone(monkeypatch: pytest.MonkeyPatch, hanging: int, others: int) -> None:
    """Let the task's execution_timeout end when only one item is missing, and the task knows where it runs.

    :param hanging: the item.
    :param others: number of items that have an outcome by then.
    """

    def watched(method: Any) -> Any:
        def call(self: InFlight, *arguments: Any) -> Any:
            method(self, *arguments)
            if len(self._ended) == others and [item.index for item in self.running()] == [hanging]:
                signal.setitimer(signal.ITIMER_REAL, 0.1)  # the timer of Airflow's timeout

        return call

    for name in ("begin", "add"):
        monkeypatch.setattr(InFlight, name, watched(getattr(InFlight, name)))
