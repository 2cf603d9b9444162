"""What a person sees of a job while it runs and afterwards: a compact report, for the task's "Ranges" tab.

It is plain JSON of bounded size whatever the number of ranges: few ranges are told one by one, many are binned.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from burla_provider.worker.json_values import storable_text
from burla_provider.worker.outcome import Outcome

KEY = "burla_report"
"""Under this key the report is in the task state store while the job runs, and in XCom afterwards."""
SHOWN_RANGES = 300
"""So many ranges are shown one by one on the timeline; with more, time is cut into bins."""
SHOWN_WORKERS = 48
CELLS = 800
"""With bins: so many cells for all workers together."""
LISTED = 12
TEXT_LIMIT = 300
"""Characters of an error; the whole is in the log."""


class Report:
    """Gathers outcomes into a report. A collector.

    :param title: what is worked ("public.orders").
    :param total: number of ranges (or inputs).
    :param plan: what is to be said of the plan, JSON; None where there is none.
    :param describe: an item's number -> what people call it.
    :param unit: what people call an item: "range" or "input".
    """

    def __init__(
        self,
        title: str,
        total: int,
        describe: Callable[[int], str],
        plan: dict[str, Any] | None = None,
        unit: str = "range",
    ) -> None:
        self._title = title
        self._total = total
        self._describe = describe
        self._plan = plan
        self._unit = unit
        self._began = self._working_since = time.time()
        self._done = 0
        self._rows: int | None = None
        self._earlier_rows = 0
        self._attempts = 0
        self._resumed = 0
        self._workers: dict[str, _Worker] = {}
        self._spans: list[_Span] = []
        self._slowest: list[tuple[float, int, int]] = []
        self._failed: dict[int, Outcome] = {}
        self._job: dict[str, str | None] = {}

    def start(self, job_id: str, url: str | None) -> None:
        """Name the job that works from now on. Waiting for a free node says nothing about the pace."""
        self._job = {"id": job_id, "url": url}
        if not self._spans:
            self._working_since = time.time()

    def add(self, outcome: Outcome) -> None:
        worker = self._workers.setdefault(outcome.worker, _Worker(len(self._workers)))
        rows = outcome.row_count or 0
        span = _Span(outcome.started, outcome.seconds, worker.number, outcome.index, rows, outcome.ok)
        worker.add(span)
        self._spans.append(span)
        self._attempts += outcome.attempts
        if not outcome.ok:
            self._failed[outcome.index] = outcome
            return
        self._done += 1
        self._count(outcome)
        heapq.heappush(self._slowest, (outcome.seconds, rows, outcome.index))
        if len(self._slowest) > LISTED:
            heapq.heappop(self._slowest)

    def resume(self, outcome: Outcome) -> None:
        """Count an outcome of an earlier try: done, but not on this try's timeline."""
        self._done += 1
        self._resumed += 1
        self._count(outcome)
        self._earlier_rows = self._rows or 0

    def as_dict(self, state: str, now: float | None = None) -> dict[str, Any]:
        """The report as JSON.

        :param state: "running", "success" or "failed".
        :param now: seconds since the epoch; for tests.
        """
        elapsed, working = (max((now or time.time()) - since, 0.001) for since in (self._began, self._working_since))
        worked = self._done - self._resumed + len(self._failed)
        left = self._total - self._done - len(self._failed)
        return {
            "version": 1,
            "state": state,
            "title": self._title,
            "unit": self._unit,
            "updated": round(now or time.time(), 1),
            "began": round(self._began, 1),
            "elapsed": round(elapsed, 1),
            "total": self._total,
            "done": self._done,
            "failed": len(self._failed),
            "resumed": self._resumed,
            "retried": self._attempts - worked,
            "rows": self._rows,
            "rows_per_second": None if self._rows is None else round((self._rows - self._earlier_rows) / working),
            "seconds_left": round(working / worked * left, 1) if worked and state == "running" else None,
            "plan": self._plan,
            "job": self._job,
            "workers": [worker.as_dict(name) for name, worker in islice(self._workers.items(), SHOWN_WORKERS)],
            "worker_count": len(self._workers),
            "timeline": self._timeline(),
            "slowest": [self._line(*entry) for entry in sorted(self._slowest, reverse=True)],
            "failures": [self._failure(self._failed[index]) for index in sorted(self._failed)[:LISTED]],
        }

    def _count(self, outcome: Outcome) -> None:
        # Rows stay None, which is "not known", where functions work whole ranges.
        if outcome.row_count is not None:
            self._rows = (self._rows or 0) + outcome.row_count

    def _timeline(self) -> dict[str, Any]:
        spans = [span for span in self._spans if span.worker < SHOWN_WORKERS and span.started]
        # Workers' clocks are their own: the earliest start is taken as the beginning.
        start = min((span.started for span in spans), default=0.0)
        seconds = max((span.started + span.seconds for span in spans), default=0.0) - start
        timeline = {"start": round(start, 1), "seconds": round(seconds, 3), "spread": _spread(self._spans)}
        if len(spans) > SHOWN_RANGES:
            return timeline | {"kind": "bins"} | _bins(spans, start, seconds)
        return timeline | {"kind": "ranges", "spans": [span.as_list(start) for span in spans]}

    def _line(self, seconds: float, rows: int, index: int) -> dict[str, Any]:
        return {"index": index, "range": self._describe(index)[:TEXT_LIMIT], "seconds": round(seconds, 3), "rows": rows}

    def _failure(self, outcome: Outcome) -> dict[str, Any]:
        failure = outcome.failure
        error = f"{failure.type}: {failure.message}" if failure else ""
        return {
            "index": outcome.index,
            "range": self._describe(outcome.index)[:TEXT_LIMIT],
            "error": storable_text(error)[:TEXT_LIMIT],
            "sqlstate": failure.sqlstate if failure else None,
            "attempts": outcome.attempts,
        }


class _Span(NamedTuple):
    started: float
    seconds: float
    worker: int
    item: int
    rows: int
    ok: bool

    def as_list(self, start: float) -> list[float]:
        return [
            self.worker,
            round(self.started - start, 3),
            round(self.seconds, 3),
            self.item,
            self.rows,
            int(self.ok),
        ]


@dataclass
class _Worker:
    number: int
    ranges: int = 0
    rows: int = 0
    seconds: float = 0.0

    def add(self, span: _Span) -> None:
        self.ranges += 1
        self.rows += span.rows
        self.seconds += span.seconds

    def as_dict(self, name: str) -> dict[str, Any]:
        return {"name": name[:60], "ranges": self.ranges, "rows": self.rows, "seconds": round(self.seconds, 2)}


def _spread(spans: list[_Span]) -> dict[str, list[float]]:
    """Least, median, 95 % and greatest of rows and seconds per range that is done: skew at a glance."""
    done = [span for span in spans if span.ok]
    return {
        "rows": _quantiles(sorted(span.rows for span in done)),
        "seconds": _quantiles(sorted(round(span.seconds, 3) for span in done)),
    }


def _quantiles(values: list[Any]) -> list[Any]:
    return [values[int(share * (len(values) - 1))] for share in (0, 0.5, 0.95, 1)] if values else []


def _bins(spans: list[_Span], start: float, seconds: float) -> dict[str, Any]:
    """Cells of [worker, bin, ranges that ended in it, their rows, failed ones among them]."""
    count = max(CELLS // (max(span.worker for span in spans) + 1), 1)
    width = max(seconds, 0.001) / count
    cells: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for span in spans:
        place = min(int((span.started + span.seconds - start) / width), count - 1)
        cell = cells[span.worker, place]
        cell[0] += 1
        cell[1] += span.rows
        cell[2] += not span.ok
    return {"bin_count": count, "bins": [[*place, *cells[place]] for place in sorted(cells)]}
