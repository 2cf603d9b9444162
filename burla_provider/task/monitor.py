"""Publish the events of a running job: log, report, link, job store, Airflow's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from burla_provider.jobs.job import ItemBegan, ItemCrashed, ItemSucceeded, JobEvent, JobStarted, JobWaiting, OutputLine
from burla_provider.links.burla import BurlaJobLink
from burla_provider.task.failure_log import FailureLog
from burla_provider.task.failure_policy import FailurePolicy, with_local_module_hint
from burla_provider.task.logs import Progress, SlowItems, WorkerOutput
from burla_provider.task.masking import masked
from burla_provider.task.metrics import Metrics, PhaseName
from burla_provider.task.report import Part, State
from burla_provider.task.reporter import REPORT_SECONDS, Reporter
from burla_provider.worker.outcome import Failure, Outcome, decode

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.pause import JobPause

_WAITING_LOG_SECONDS = 60.0
"""Seconds between two lines about the wait for a node."""
LAST_JOB = "burla_last_job"
"""Key of the task state store: id and page of the last job, until Airflow has stored the result."""


class OutcomeListener(Protocol):
    """Receives every outcome."""

    def add(self, outcome: Outcome) -> None:
        """Receive an outcome."""


class FlushableListener(OutcomeListener, Protocol):
    """Receives every outcome, and stores them from time to time."""

    def flush(self) -> None:
        """Store what is not stored yet."""


class JobMonitor:
    """Receives the events of a job, and passes them on.

    Use it as a context manager around everything that can fail the task after the job has started.

    :param log: the task's log.
    :param reporter: has the report, whose ``begin_items`` was called.
    :param total: number of items.
    :param describe: returns an item's name, given its number.
    :param failures: receives every outcome, and decides whether the job has failed.
    :param store: receives every outcome of this try, and is flushed every ``REPORT_SECONDS``.
    :param listeners: receive every outcome, including those of an earlier try.
    :param redact: removes secrets from what workers print.
    :ivar pause: pauses the workers; None: nothing does.
    """

    def __init__(
        self,
        context: Context,
        log: Any,
        reporter: Reporter,
        total: int,
        describe: Callable[[int], str],
        failures: FailurePolicy,
        store: FlushableListener,
        listeners: Iterable[OutcomeListener],
        redact: Callable[[str], str] = str,
    ) -> None:
        self._context = context
        self._log = log
        self._state_store = context.get("task_state_store")
        self._reporter = reporter
        self._report = reporter.report
        self.pause: JobPause | None = None
        self._part: Part = "all"
        self._part_items = self._missing = total
        self._has_job = False
        self._log_waiting_at = 0.0
        self._metrics = Metrics(context, self._report.unit)
        self._describe = describe
        self._output = WorkerOutput(log, total, describe)
        self._clean: Callable[[str], str] = lambda text: masked(redact(text))
        self._flush_at = 0.0
        self._unpublished_job: tuple[str, str | None] | None = None
        self.total = total
        self.failures = failures
        self._failure_log = FailureLog(log, self._report.failures)
        self._store = store
        self._listeners = list(listeners)
        self.progress = Progress(total, time.monotonic(), self._report.unit, self._report.estimate)
        self._slow = SlowItems(log, self._report.in_flight)

    def resume(self, outcomes: Iterable[Outcome]) -> None:
        """Add the outcomes of an earlier try."""
        earlier = list(outcomes)
        for outcome in earlier:
            self._report.resume(outcome)
            self.failures.add(outcome)
            for listener in self._listeners:
                listener.add(outcome)
        self.progress.resume(len(earlier))
        # If nothing is missing, no job is started: show the job that processed the last items.
        is_done = 0 < self.total == len(earlier)
        if self._state_store is not None and is_done:
            with self._reporter.best_effort():
                job: Any = self._state_store.get(LAST_JOB)
                if job:
                    job_id, url = job
                    self._show_job(job_id, url, 0, "all")

    def begin_job(self, part: Part, items: int) -> None:
        """Report that a job is about to start.

        :param part: which of the items it processes.
        :param items: the number of them.
        """
        self._part = part
        self._part_items = self._missing = items
        self._has_job = False
        self._enter("starting workers")

    def handle(self, event: JobEvent) -> None:
        """Pass on an event, and publish what is due.

        :raises UserFunctionError: if a worker reports an error for which the job must end; or ``WorkerSetupError``.
        """
        match event:
            case ItemSucceeded(_, encoded):
                self._record(decode(encoded))
            case ItemCrashed(index, error, is_loaded, attempts):
                failure = Failure("WorkerError", self._clean(error), ends_job=not is_loaded)
                outcome = Outcome(index, attempts=attempts, failure=failure)
                self._record(self._report.in_flight.complete(outcome))
            case OutputLine(text, None):
                self._output.add(self._clean(text))
            case OutputLine(text, int(index)):
                self._output.flush_item(index)
                self._log.warning("%s: %s", self._describe(index), self._clean(text))
            case ItemBegan():
                self._enter_work()
                self._report.in_flight.begin(event)
            case JobWaiting(reason, seconds):
                self._wait(reason, seconds)
            case JobStarted(job_id, url):
                self._start(job_id, url)
        self._tick()

    def __enter__(self) -> JobMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        """Flush everything."""
        self._slow.finish()
        self._output.flush()
        self._failure_log.finish()
        self._metrics.flush()
        with self._reporter.best_effort():
            self._store.flush()
        self._publish_link()

    def _enter(self, phase: PhaseName) -> None:
        state: State = "trial" if self._part == "trial" else "running"
        detail = f"{self._part_items:,} of {self.total:,} {self._report.unit}s first" if state == "trial" else ""
        self._reporter.enter(phase, state=state, detail=detail)

    def _enter_work(self) -> None:
        if self._reporter.phase in ("starting workers", "waiting for a node"):
            self._enter("trial" if self._part == "trial" else "working")

    def _wait(self, reason: str, seconds: float) -> None:
        until = time.time() + seconds
        now = time.monotonic()
        if now >= self._log_waiting_at:
            end = datetime.fromtimestamp(until, UTC)
            self._log.info("Waiting for a node, until %s at the latest: %s", f"{end:%H:%M:%S} UTC", reason)
            self._log_waiting_at = now + _WAITING_LOG_SECONDS
        self._reporter.enter("waiting for a node", detail=reason, until=until)

    def _record(self, outcome: Outcome) -> None:
        self._enter_work()
        self._missing -= 1
        self._output.flush_item(outcome.index)
        if outcome.failure is not None:
            failure = self._cleaned(outcome.failure)
            if failure.ends_job:
                raise self.failures.setup_error(failure)
            outcome = replace(outcome, failure=failure)
        listeners: list[OutcomeListener] = [self.failures, self.progress, self._report, self._failure_log]
        for listener in listeners:
            listener.add(outcome)
        if outcome.failure is not None:  # Some listeners keep all outcomes until the end, and 100,000 may fail.
            outcome = replace(outcome, failure=replace(outcome.failure, traceback=""))
        for listener in (self._metrics, *self._listeners):
            listener.add(outcome)
        with self._reporter.best_effort():
            self._store.add(outcome)

    def _cleaned(self, failure: Failure) -> Failure:
        failure = with_local_module_hint(failure)
        texts = (failure.message, failure.traceback, failure.keys, failure.rows, failure.advice)
        message, traceback, keys, rows, advice = map(masked, texts)
        return replace(failure, message=message, traceback=traceback, keys=keys, rows=rows, advice=advice)

    def _start(self, job_id: str, url: str | None) -> None:
        self._log.info("Job %s%s", job_id, f": {url}" if url else "")
        if not self.progress.processed:
            self.progress.start(time.monotonic())
        self._enter("starting workers")
        self._show_job(job_id, url, self._missing, "again" if self._has_job else self._part)
        self._has_job = True
        self._log_waiting_at = 0.0

    def _show_job(self, job_id: str, url: str | None, items: int, part: Part) -> None:
        self._report.start(job_id, url, items, part)
        self._unpublished_job = job_id, url
        self._publish_link()

    def _publish_link(self) -> None:
        if self._unpublished_job is None:
            return
        job_id, url = self._unpublished_job
        with self._reporter.best_effort():
            if self._state_store is not None:
                self._state_store.set(LAST_JOB, [job_id, url])
            # Also if there is no page: Airflow reads the link at the end, and logs an error if it is missing.
            BurlaJobLink.publish(self._context, url or "")
            self._unpublished_job = None

    def _tick(self) -> None:
        now = time.monotonic()
        if self.pause is not None:
            self.pause.check()
        self._output.flush_expired(now)
        if self._report.status.state != "paused":
            self._slow.check()
        phase = self._reporter.phase
        # Until a node is free there is no progress.
        if phase != "waiting for a node" and self.progress.is_due(now):
            what = f", {phase}" if phase == "starting workers" else ""
            self._log.info("%s%s", self.progress.line(now), what)
        if now >= self._flush_at:
            self._flush()
        self._reporter.tick()

    def _flush(self) -> None:
        self._metrics.flush()
        self._publish_link()
        with self._reporter.best_effort():
            self._store.flush()
        self._flush_at = time.monotonic() + REPORT_SECONDS
