"""What is published about a running job, and how often."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from burla_provider.jobs.job import JobStarted, Tick
from burla_provider.links.burla import BurlaJobLink
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.task import monitor, reporter
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.failure_groups import FailureGroups
from burla_provider.task.failure_policy import FailurePolicy
from burla_provider.task.monitor import JobMonitor
from burla_provider.task.report import Report
from burla_provider.task.reporter import Reporter
from tests.support.task_runner import Airflow


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

    monkeypatch.setattr(Report, "as_dict", as_dict)
    one = make_monitor(monkeypatch, clock, {})
    for _ in range(720):  # a minute and a half
        one.handle(Tick())
        clock.now += 0.125
    assert len(made) == reports


def test_the_link_is_published_until_airflow_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tried = Clock(), []

    def publish(context: Any, url: str) -> None:
        tried.append(url)
        if len(tried) < 3:
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR))

    monkeypatch.setattr(BurlaJobLink, "publish", publish)
    one = make_monitor(monkeypatch, clock, {"task": SimpleNamespace()})
    one.handle(JobStarted("job-1", "https://burla.example.com/jobs/job-1"))
    for _ in range(720):
        one.handle(Tick())
        clock.now += 0.125
    assert tried == ["https://burla.example.com/jobs/job-1"] * 3


class MapWithPage(BurlaMapOperator):
    """Says, as the Burla engine does, that its job has a page."""

    def execute_job(self, config: Any, runner: Any) -> Any:
        result = super().execute_job(config, runner)
        BurlaJobLink.publish(runner.context, "https://burla.example.com/jobs/job-1")
        return result


def test_the_link_stays_when_the_task_has_ended(airflow: Airflow) -> None:
    """Airflow replaces it at the end with what ``get_link`` returns."""
    result = airflow.run(MapWithPage(task_id="t", python_callable=abs, inputs=[-1]))
    assert result.value == [1], result.log
    assert result.xcoms["burla_job_url"] == "https://burla.example.com/jobs/job-1"


def make_monitor(monkeypatch: pytest.MonkeyPatch, clock: Clock, context: dict[str, Any]) -> JobMonitor:
    """A monitor of a job of ten items, with a state store and without Airflow."""
    monkeypatch.setattr(monitor, "time", clock)
    monkeypatch.setattr(reporter, "time", clock)
    given: Any = {"ti": SimpleNamespace(dag_id="d", task_id="t"), "task_state_store": Store(), **context}
    failures = FailurePolicy("finish", 0, FailureGroups(str))
    log = logging.getLogger()
    return JobMonitor(given, log, Reporter(given, log, Report("orders")), 10, str, failures, Checkpoint(None), [])
