"""Publish the report of a try: in the task state store while it runs, and in XCom at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import AirflowException, AirflowSkipException, AirflowTaskTimeout
from airflow.sdk.exceptions import AirflowRuntimeError

from burla_provider.exceptions import BurlaProviderError, TaskKilledError
from burla_provider.links.xcom import push_to_database
from burla_provider.task.logs import describe_unfinished
from burla_provider.task.masking import masked, masked_json
from burla_provider.task.metrics import PhaseName, Phases
from burla_provider.task.report import Report, State
from burla_provider.task.resumption import NOTHING_STORED, Resumption, advise, retry_of
from burla_provider.task.run_identity import is_continued
from burla_provider.task.short_text import SEE_LOG, shorten
from burla_provider.task.tries import load_tries, save_try
from burla_provider.worker.errors import cut
from burla_provider.worker.outcome import join_sentences

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

KEY = "burla_report"
"""Key of the report: in the task state store while the job runs, and in XCom afterwards."""
REPORT_SECONDS = 3.0
"""Seconds between two updates of the report."""
_REPORT_SHARE = 20
"""Building the report takes at most this fraction (1/20) of the time: with a million items it takes seconds."""
_MAX_DETAIL_CHARS = 1_990
_MAX_PLACE_CHARS = 200
_HANGING = "Set range_timeout: a range that takes longer then fails, and its traceback shows what the worker did."
_STATES: dict[PhaseName, State] = {
    "starting": "connecting",
    "connecting": "connecting",
    "snapshot": "planning",  # it waits for the lock of the table
    "planning": "planning",
    "preparing": "planning",
    "waiting for a node": "waiting",
    "starting workers": "running",
    "trial": "trial",
    "working": "running",
    "combining": "combining",
    "pausing": "paused",
}
"""What the status of a try is in a phase."""


class _Step(NamedTuple):
    phase: PhaseName
    state: State
    detail: str
    until: float | None


class Reporter:
    """Owns the report of a try and publishes it. As a context manager, it publishes how the try ends.

    :param context: of Airflow.
    :param log: the task's log.
    :param report: the report.
    :ivar phases: measures how long each phase takes.
    """

    def __init__(self, context: Context, log: Any, report: Report) -> None:
        self.report = report
        self.phases = Phases(context)
        report.began = self.phases.began
        self._context = context
        self._log = log
        self._store = context.get("task_state_store")
        self._next = 0.0
        self._has_warned = False
        self._step = _Step("starting", "connecting", "", None)
        self._is_paused = False
        self._ending: tuple[State, str] = ("success", "")
        self.resumption: Resumption = NOTHING_STORED
        """What is stored of the job for a retry."""
        ti: Any = context["ti"]
        number = getattr(ti, "try_number", None) or 1
        report.attempt = (number, max(number, (getattr(ti, "max_tries", None) or 0) + 1))

    @property
    def is_continued(self) -> bool:
        """Whether the run has begun before this try."""
        return is_continued(self._context, self.report.tries)

    def describe_writes(self) -> str:
        """Return which try of a run that writes may have written rows, a sentence without its end; "" if none has."""
        if self.is_continued:
            return "An earlier try of this run may have written rows"
        return "This try may have written rows" if self.report.jobs else ""

    @property
    def phase(self) -> PhaseName:
        """The phase that the try is in, or goes back to after a pause."""
        return self._step.phase

    def enter(
        self, phase: PhaseName, *, state: State | None = None, detail: str = "", until: float | None = None
    ) -> None:
        """Begin a phase, and publish a new status at once. A pause hides both until it ends.

        :param state: the status; None: the usual one of the phase.
        :param detail: what the status does not say.
        :param until: when a wait ends at the latest, seconds since the epoch.
        """
        self._step = _Step(phase, state or _STATES[phase], masked(detail), until)
        if not self._is_paused:
            self._show(self._step)

    def pause(self, query: str) -> None:
        """Begin a pause."""
        self._is_paused = True
        self._show(_Step("pausing", "paused", masked(query), None))

    def end_pause(self) -> None:
        """Go back to what the pause has interrupted."""
        if self._is_paused:
            self._is_paused = False
            self._show(self._step)

    def set_ending(self, state: State, detail: str = "") -> None:
        """Set how the try will have ended if no error ends it. The default is "success"."""
        self._ending = state, detail

    def tick(self) -> None:
        """Publish the report if it is time."""
        if time.monotonic() >= self._next:
            self.publish()

    def publish(self) -> None:
        """Store the report. An error of Airflow's API server is logged once."""
        if self._store is None:
            return
        started = time.monotonic()
        report = self._as_dict()
        seconds = time.monotonic() - started
        with self.best_effort():
            self._store.set(KEY, report)
        self._next = time.monotonic() + max(REPORT_SECONDS, _REPORT_SHARE * seconds)

    def add_places(self, places: Iterable[tuple[str, str]], redact: Callable[[str], str] = str) -> None:
        """Add where the task runs, and what it reads and writes.

        :param redact: removes secrets.
        """
        known = dict(self.report.places)
        known.update((label, shorten(masked(redact(text)), _MAX_PLACE_CHARS)) for label, text in places)
        self.report.places = list(known.items())

    def __enter__(self) -> Reporter:
        if self._store is not None and self.report.attempt[0] > 1:
            with self.best_effort():
                self.report.tries = load_tries(self._store, KEY, self.report.attempt[0])
        self.publish()
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        """Log how long the phases took, and store the final report in XCom."""
        state, detail = self._ending if error is None else _describe_error(error)
        is_stopped = isinstance(error, AirflowTaskTimeout | TaskKilledError)
        if is_stopped and (unfinished := describe_unfinished(self.report.in_flight)):
            detail = cut(f"{detail} {masked(unfinished)}.", _MAX_DETAIL_CHARS, SEE_LOG)
        if state == "incomplete":
            self._log.warning("The result is incomplete: %s.", detail)
        self.phases.end()
        self._log.info("%s", self.phases)
        if isinstance(error, AirflowSkipException):
            with self.best_effort():
                self._forget()
            return
        if state == "failed" and error is not None:
            self._advise(error)
            if is_stopped and self.report.unit == "range" and self.report.in_flight.count:
                self.report.advice.append(_HANGING)
        if state == "incomplete":
            self.report.advice = ["Airflow does not retry a task that has succeeded.", self.resumption.clearing]
        self._finish(state, detail)

    @contextmanager
    def best_effort(self) -> Iterator[None]:
        """Log an error of Airflow's API server, once. The job continues while the server is unavailable."""
        try:
            yield
        except AirflowRuntimeError as error:
            if not self._has_warned:
                self._log.warning("Airflow could not store the state of the job. The job continues: %s", error)
            self._has_warned = True

    def _show(self, step: _Step) -> None:
        self.phases.enter(step.phase)
        is_new = step.state != self.report.status.state
        self.report.set_status(step.state, step.detail, step.until)
        if is_new:
            self.publish()

    def _advise(self, error: BaseException) -> None:
        report = self.report
        state = self._context, error, self.resumption, report.missing, report.total
        report.retry = retry_of(*state)
        report.advice = advise(*state, report.unit, is_continued=self.is_continued)

    def _finish(self, state: State, detail: str) -> None:
        self.report.set_status(state, detail)
        try:
            report = self._as_dict()
            push_to_database(self._context, KEY, report)
            if self._store is not None and state == "failed":
                save_try(self._store, self.report.tries, report)
            self._forget()
        except Exception as error:
            # It must not replace the error of the task, nor fail a task that has succeeded.
            self._log.warning("Airflow could not store the report of the Ranges tab: %s", error)

    def _forget(self) -> None:
        if self._store is not None:
            self._store.delete(KEY)

    def _as_dict(self) -> dict[str, Any]:
        self.report.phases = self.phases.as_list()
        return dict(masked_json(self.report.as_dict()))


def _describe_error(error: BaseException) -> tuple[State, str]:
    """Return how a try has ended that has raised, and why."""
    if isinstance(error, AirflowRescheduleException):
        return "rescheduled", ""
    if isinstance(error, AirflowTaskTimeout):
        return "failed", "The task took longer than its execution_timeout."
    if isinstance(error, TaskKilledError):
        return "failed", "The task was stopped: marked failed, cleared, or out of time."
    text = str(error).strip()
    if not isinstance(error, BurlaProviderError | AirflowException) or not text:
        text = f"{type(error).__name__}: {text}"
    text = join_sentences(text, *getattr(error, "__notes__", ()))
    return "failed", cut(masked(text), _MAX_DETAIL_CHARS, SEE_LOG)
