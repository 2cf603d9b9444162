"""Publish the report of a try: in the task state store while it runs, and in XCom at its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError

from burla_provider.task.report import Report, State

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

KEY = "burla_report"
"""Key of the report: in the task state store while the job runs, and in XCom afterwards."""
REPORT_SECONDS = 3.0
"""Seconds between two updates of the report."""
_REPORT_SHARE = 20
"""Building the report takes at most this fraction (1/20) of the time: with a million items it takes seconds."""


class Reporter:
    """Owns the report of a try and publishes it.

    :param context: of Airflow.
    :param log: the task's log.
    :param report: the report.
    """

    def __init__(self, context: Context, log: Any, report: Report) -> None:
        self.report = report
        self._context = context
        self._log = log
        self._store = context.get("task_state_store")
        self._next = 0.0
        self._has_warned = False

    def enter(self, state: State, detail: str = "", until: float | None = None) -> None:
        """Set what the try does now, and publish it at once."""
        self.report.set_status(state, detail, until)
        self.publish()

    def tick(self) -> None:
        """Publish the report if it is time."""
        if time.monotonic() >= self._next:
            self.publish()

    def publish(self) -> None:
        """Store the report. An error of Airflow's API server is logged once."""
        if self._store is None:
            return
        started = time.monotonic()
        report = self.report.as_dict()
        seconds = time.monotonic() - started
        with self.best_effort():
            self._store.set(KEY, report)
        self._next = time.monotonic() + max(REPORT_SECONDS, _REPORT_SHARE * seconds)

    def finish(self, state: State, detail: str = "") -> None:
        """Store the final report in XCom."""
        self.report.set_status(state, detail)
        with self.best_effort():
            self._context["ti"].xcom_push(key=KEY, value=self.report.as_dict())
            if self._store is not None:
                self._store.delete(KEY)

    @contextmanager
    def best_effort(self) -> Iterator[None]:
        """Log an error of Airflow's API server, once. The job continues while the server is unavailable."""
        try:
            yield
        except AirflowRuntimeError as error:
            if not self._has_warned:
                self._log.warning("Airflow could not store the state of the job. The job continues: %s", error)
            self._has_warned = True
