"""The report of a try, shown on the task's "Ranges" tab from before planning on. It is JSON of limited size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from burla_provider.task.estimate import Estimate
from burla_provider.task.failure_groups import FailureGroups
from burla_provider.task.in_flight import InFlight
from burla_provider.task.timeline import Timeline
from burla_provider.worker.outcome import Outcome

VERSION = 2
State = Literal[
    "connecting",
    "planning",
    "waiting",
    "trial",
    "running",
    "paused",
    "combining",
    "success",
    "planned",
    "incomplete",
    "failed",
    "rescheduled",
]
"""What a try does, or how it has ended (the last five)."""
Part = Literal["trial", "rest", "all", "again"]
"""The items of a job: those of the trial, all others, all, or those that are missing because a job was lost."""
ENDINGS: tuple[State, ...] = ("success", "planned", "incomplete", "failed", "rescheduled")

_MAX_JOBS = 12


@dataclass(frozen=True)
class Status:
    """What a try does now, or how it has ended.

    :param state: the state.
    :param since: when it began, seconds since the epoch.
    :param detail: what is not known from the state: why it failed, what it waits for.
    :param until: when the wait ends at the latest, seconds since the epoch.
    """

    state: State
    since: float
    detail: str = ""
    until: float | None = None


class Report:
    """Collects what the tab shows about a try. An outcome listener.

    :param title: such as the table's name, as the user wrote it.
    :param unit: "range" or "input".
    :param began: when the try began, seconds since the epoch.
    """

    def __init__(self, title: str, unit: str = "range", began: float | None = None) -> None:
        self.title = title
        self.unit = unit
        self.status = Status("connecting", time.time())
        self.attempt = (1, 1)
        """The number of this try, and the number of tries that Airflow allows."""
        self.retry: dict[str, Any] | None = None
        """What Airflow does after a failure: see ``resumption.py``."""
        self.tries: list[dict[str, Any]] = []
        """Earlier tries: see ``tries.py``."""
        self.places: list[tuple[str, str]] = []
        """Where the try runs, and what it reads: pairs of a label and a short text."""
        self.advice: list[str] = []
        """What to do, sentences."""
        self.reproduce: dict[str, str | None] = {}
        """How to process one range by hand: see ``reproduce.py``."""
        self.result: dict[str, Any] | None = None
        self.phases: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.pause: Callable[[], dict[str, Any]] | None = None
        """Returns the part ``pause``; None: nothing pauses the workers."""
        self.began = began or time.time()
        self._working_since = time.time()
        self._done = 0
        self._rows: int | None = None
        self._earlier_rows = 0
        self._attempts = 0
        self._resumed = 0
        self._failed = 0
        self.begin_items(0, str)

    @property
    def total(self) -> int:
        """The number of all items, 0 before they are known."""
        return self._total

    @property
    def missing(self) -> int:
        """The number of items that have not succeeded."""
        return self._total - self._done

    @property
    def failed(self) -> int:
        """The number of items that have failed."""
        return self._failed

    @property
    def _open(self) -> int:
        return self.missing - self._failed

    def begin_items(
        self,
        total: int,
        describe: Callable[[int], str],
        plan: dict[str, Any] | None = None,
        expected_rows: Sequence[int | None] | None = None,
    ) -> None:
        """Set what planning has found.

        :param total: number of ranges or inputs.
        :param describe: returns an item's name, given its number.
        :param plan: the summary of the plan, JSON, if there is one.
        :param expected_rows: of each item; None: unknown.
        """
        self._total = total
        self._plan = plan
        self.timeline = Timeline(describe)
        self.in_flight = InFlight(describe)
        self.estimate = Estimate(total, self.in_flight, expected_rows)
        self.failures = FailureGroups(describe, self.unit)

    def set_status(self, state: State, detail: str = "", until: float | None = None) -> None:
        """Set what the try does now. The same state again keeps its begin."""
        since = self.status.since if state == self.status.state else time.time()
        self.status = Status(state, since, detail, until)

    def start(self, job_id: str, url: str | None, items: int = 0, part: Part = "all") -> None:
        """Add a job, and measure the speed from now on: waiting for a free node does not count.

        :param job_id: Burla's id.
        :param url: its page; None: it has none.
        :param items: number of items that it processes.
        :param part: which of the try's items these are.
        """
        self.jobs.append({"id": job_id, "url": url, "items": items, "part": part})
        self.in_flight.restart()
        self.estimate.start(is_trial=part == "trial")
        if part == "rest":
            self.timeline.end_trial()
        if self.timeline.is_empty:
            self._working_since = time.time()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        for part in (self.timeline, self.in_flight, self.estimate, self.failures):
            part.add(outcome)
        self._attempts += outcome.attempts
        if outcome.ok:
            self._done += 1
            self._count(outcome)
        else:
            self._failed += 1

    def resume(self, outcome: Outcome) -> None:
        """Count an outcome of an earlier try, which is not on this try's timeline."""
        self.estimate.resume(outcome)
        self._done += 1
        self._resumed += 1
        self._count(outcome)
        self._earlier_rows = self._rows or 0

    def as_dict(self, now: float | None = None) -> dict[str, Any]:
        """Return the report as JSON.

        :param now: seconds since the epoch; for tests.
        """
        elapsed, working = (max((now or time.time()) - since, 0.001) for since in (self.began, self._working_since))
        processed = self._done - self._resumed + self._failed
        is_final = self.status.state in ENDINGS
        failures = self.failures.as_dict(is_final=is_final)  # before the timeline, which uses its groups
        return {
            "version": VERSION,
            "status": asdict(self.status),
            "try": dict(zip(("number", "count"), self.attempt, strict=True)),
            "retry": self.retry,
            "title": self.title,
            "unit": self.unit,
            "updated": round(now or time.time(), 1),
            "began": round(self.began, 1),
            "elapsed": round(elapsed, 1),
            "total": self._total,
            "done": self._done,
            "failed": self._failed,
            "resumed": self._resumed,
            "retried": self._attempts - processed,
            "rows": self._rows,
            "rows_per_second": None if self._rows is None else round((self._rows - self._earlier_rows) / working),
            "seconds_left": None if is_final or self._open == 0 else self.estimate.seconds_left(now),
            "places": [list(place) for place in self.places],  # Airflow marks a tuple in JSON
            "phases": self.phases,
            "plan": self._plan,
            "jobs": self.jobs[-_MAX_JOBS:],
            **self.timeline.as_dict(self.failures.group_of, self.in_flight.begun(), now or time.time()),
            "in_flight": self.in_flight.as_dict(now),
            "failures": failures,
            "advice": self.advice,
            "reproduce": self.reproduce,
            "result": self.result,
            "tries": self.tries,
            **({"pause": self.pause()} if self.pause is not None else {}),
        }

    def _count(self, outcome: Outcome) -> None:
        # None means "unknown": process_range without a row_count.
        if outcome.row_count is not None:
            self._rows = (self._rows or 0) + outcome.row_count
