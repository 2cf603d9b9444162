"""Everything that is told of a job while it runs: the log, the report, the link, the checkpoint, Airflow's metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk.exceptions import AirflowRuntimeError

from burla_provider.jobs.job import ItemCrashed, ItemSucceeded, JobEvent, JobStarted, OutputLine
from burla_provider.links.burla import BurlaJobLink
from burla_provider.task.failure_policy import FailurePolicy, with_true_advice
from burla_provider.task.log_groups import without_markers
from burla_provider.task.metrics import Metrics
from burla_provider.task.prints import Prints
from burla_provider.task.progress import Progress
from burla_provider.task.report import KEY, Report
from burla_provider.task.run_identity import pass_label
from burla_provider.worker.outcome import Failure, Outcome, decode

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

REPORT_SECONDS = 3.0
"""How often the report in the task state store is renewed, outcomes are kept, and Airflow's metrics are told."""
REPORT_SHARE = 20
"""The report is made again after so many times what it took: of a million items it takes seconds."""
SHOWN_TRACEBACKS = 10
"""So many failed items are logged with their traceback, the others with a line."""
LAST_JOB = "burla_last_job"
"""Key of the task state store: id and page of the job that was started last, until Airflow has stored the result."""


class OutcomeListener(Protocol):
    """Somebody who wants to hear of every outcome."""

    def add(self, outcome: Outcome) -> None: ...


class FlushableListener(OutcomeListener, Protocol):
    """A collector that writes down what it heard, now and then."""

    def flush(self) -> None: ...


class JobMonitor:
    """Hears of all that happens to a job, and tells those who want to know.

    A context manager around all that may make the task fail once it has begun: at its end the report says how it ended.

    :param log: the task's.
    :param title: what is worked, for the report.
    :param total: number of items.
    :param describe: an item's number -> what people call it.
    :param failures: told of every outcome, asked what they mean.
    :param books: told of every outcome of this try, and to write it down now and then.
    :param collectors: told of every outcome, those of an earlier try included.
    :param plan: what the report says of the plan.
    :param unit: what people call an item: "range" or "input".
    :param scrub: takes the secrets out of what workers print.
    """

    def __init__(
        self,
        context: Context,
        log: Any,
        title: str,
        total: int,
        describe: Callable[[int], str],
        failures: FailurePolicy,
        books: FlushableListener,
        collectors: Iterable[OutcomeListener],
        plan: dict[str, Any] | None = None,
        unit: str = "range",
        redact: Callable[[str], str] = str,
    ) -> None:
        self._context = context
        self._log = log
        self._store = context.get("task_state_store")
        self._report = Report(title + pass_label(context), total, describe, plan, unit)
        self._metrics = Metrics(context, unit)
        self._describe = describe
        self._prints = Prints(log, total, describe)
        self._clean: Callable[[str], str] = lambda text: without_markers(redact(text))
        self._flush_at = self._report_at = 0.0
        self._untold_job: tuple[str, str | None] | None = None
        self._is_unheard = False
        self.total = total
        self.failures = failures
        self._books = books
        self._collectors = list(collectors)
        self.progress = Progress(total, time.monotonic(), unit)

    def resume(self, outcomes: Iterable[Outcome]) -> None:
        """Take over what an earlier try has done."""
        earlier = list(outcomes)
        for outcome in earlier:
            self._report.resume(outcome)
            self.failures.add(outcome)
            for collector in self._collectors:
                collector.add(outcome)
        self.progress.resume(len(earlier))
        # Where nothing is missing, no job is started any more: the one that did the work is still worth a look.
        is_done = 0 < self.total == len(earlier)
        job: Any = self._store.get(LAST_JOB) if self._store is not None and is_done else None
        if job:
            self._show_job(*job)

    def hear(self, event: JobEvent) -> None:
        """Pass on what happened; whatever it was, a moment to say how far the job is."""
        match event:
            case ItemSucceeded(_, answer):
                self._take(decode(answer))
            case ItemCrashed(index, error):
                self._take(Outcome(index, failure=Failure("WorkerError", self._clean(error))))
            case OutputLine(text, None):
                self._prints.add(self._clean(text))
            case OutputLine(text, int(index)):
                self._prints.say(index)
                self._log.warning("%s: %s", self._describe(index), self._clean(text))
            case JobStarted(job_id, url):
                self._announce(job_id, url)
        self._pulse()

    def __enter__(self) -> JobMonitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Leave the report where it stays: in XCom."""
        self._prints.flush()
        self._metrics.flush()
        with self._best_effort():
            self._books.flush()
        self._tell_job()
        # Why a task fails is worth more than its report.
        with self._best_effort() if kind else nullcontext():
            self._leave_report("failed" if kind else "success")

    def _leave_report(self, state: str) -> None:
        self._context["ti"].xcom_push(key=KEY, value=self._report.as_dict(state))
        if self._store is not None:
            self._store.delete(KEY)

    @contextmanager
    def _best_effort(self) -> Iterator[None]:
        """What is told while the job runs is no reason to end it: the API server may be away for a while."""
        try:
            yield
        except AirflowRuntimeError as error:
            if not self._is_unheard:
                self._log.warning("Airflow could not keep what was told of the job, which goes on: %s", error)
            self._is_unheard = True

    def _take(self, outcome: Outcome) -> None:
        self._prints.say(outcome.index)
        if outcome.failure is not None:
            outcome = replace(outcome, failure=self._fit_to_show(outcome.failure))
        if outcome.failure is not None and len(self.failures.failed) >= SHOWN_TRACEBACKS:
            # Every failed outcome is kept to the end, and there may be 100,000 of them.
            outcome = replace(outcome, failure=replace(outcome.failure, traceback=""))
        audience: list[OutcomeListener] = [
            self.failures,
            self.progress,
            self._report,
            self._metrics,
            *self._collectors,
        ]
        for collector in audience:
            collector.add(outcome)
        with self._best_effort():
            self._books.add(outcome)
        if outcome.failure is not None:
            self._log.error("%s\n%s", self.failures.describe(outcome), outcome.failure.traceback)

    def _fit_to_show(self, failure: Failure) -> Failure:
        told = with_true_advice(failure)
        return replace(told, message=without_markers(told.message), traceback=without_markers(told.traceback))

    def _announce(self, job_id: str, url: str | None) -> None:
        self._log.info("Job %s%s", job_id, f": {url}" if url else "")
        if not self.progress.worked:
            self.progress.start(time.monotonic())
        self._show_job(job_id, url)

    def _show_job(self, job_id: str, url: str | None) -> None:
        self._report.start(job_id, url)
        self._untold_job = job_id, url
        self._tell_job()

    def _tell_job(self) -> None:
        if self._untold_job is None:
            return
        job_id, url = self._untold_job
        with self._best_effort():
            if self._store is not None:
                self._store.set(LAST_JOB, [job_id, url])
            # Of a job without a page too: Airflow asks for it at the end, and logs an error where there is nothing.
            BurlaJobLink.publish(self._context, url or "")
            self._untold_job = None

    def _pulse(self) -> None:
        now = time.monotonic()
        self._prints.pulse(now)
        if self.progress.due(now):
            self._log.info(self.progress.line(now))
        if now >= self._flush_at:
            self._flush()
        if now >= self._report_at:
            self._show_report()

    def _flush(self) -> None:
        self._metrics.flush()
        self._tell_job()
        with self._best_effort():
            self._books.flush()
        self._flush_at = time.monotonic() + REPORT_SECONDS

    def _show_report(self) -> None:
        if self._store is None:
            return
        began = time.monotonic()
        report = self._report.as_dict("running")
        took = time.monotonic() - began
        with self._best_effort():
            self._store.set(KEY, report)
        self._report_at = time.monotonic() + max(REPORT_SECONDS, REPORT_SHARE * took)
