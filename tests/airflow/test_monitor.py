"""What is published about a running job, and how often."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from burla_provider.jobs.job import Tick
from burla_provider.task import monitor, reporter
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.failure_groups import FailureGroups
from burla_provider.task.failure_policy import FailurePolicy
from burla_provider.task.monitor import JobMonitor
from burla_provider.task.report import Report
from burla_provider.task.reporter import Reporter


class Store(dict[str, Any]):
    set = dict.__setitem__


class Clock:
    """Seconds that pass when somebody says so."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.mark.parametrize(("takes", "reports"), [(0.0, 30), (5.0, 1)])
def test_a_slow_report_is_made_less_often(monkeypatch: pytest.MonkeyPatch, takes: float, reports: int) -> None:
    clock, made = Clock(), []

    def as_dict(self: Any) -> dict[str, Any]:
        made.append(self)
        clock.now += takes
        return {}

    monkeypatch.setattr(monitor, "time", clock)
    monkeypatch.setattr(reporter, "time", clock)
    monkeypatch.setattr(Report, "as_dict", as_dict)
    context: Any = {"ti": SimpleNamespace(dag_id="d", task_id="t"), "task_state_store": Store()}
    failures = FailurePolicy("finish", 0, FailureGroups(str))
    log = logging.getLogger()
    one = JobMonitor(context, log, Reporter(context, log, Report("orders")), 10, str, failures, Checkpoint(None), [])
    for _ in range(720):  # a minute and a half
        one.handle(Tick())
        clock.now += 0.125
    assert len(made) == reports
