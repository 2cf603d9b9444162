"""The report of a job, shown on the task's "Ranges" tab while it runs and afterwards.

It is JSON of limited size. Up to 300 ranges are in the timeline one by one; more are aggregated into bins.
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
"""Key of the report: in the task state store while the job runs, and in XCom afterwards."""
_MAX_RANGES = 300
"""With more ranges, the timeline shows bins."""
_MAX_WORKERS = 48
"""Workers that are listed, and have a row in the timeline."""
_MAX_CELLS = 800
"""Bins of all workers together."""
MAX_LISTED = 12
"""Slowest and failed ranges that are listed."""
_MAX_CHARS = 300
"""Maximum characters of an error, which is complete in the log, or of a range."""


class Report:
    """Aggregates outcomes into a report. An outcome listener.

    :param title: such as "public.orders".
    :param total: number of ranges or inputs.
    :param describe: returns an item's name, given its number.
    :param plan: the summary of the plan, JSON, if there is one.
    :param unit: "range" or "input".
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
        self._started = self._working_since = time.time()
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
        """Set the current job, and measure the speed from now on: waiting for a free node does not count."""
        self._job = {"id": job_id, "url": url}
        if not self._spans:
            self._working_since = time.time()

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
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
        if len(self._slowest) > MAX_LISTED:
            heapq.heappop(self._slowest)

    def resume(self, outcome: Outcome) -> None:
        """Count an outcome of an earlier try, which is not on this try's timeline."""
        self._done += 1
        self._resumed += 1
        self._count(outcome)
        self._earlier_rows = self._rows or 0

    def as_dict(self, state: str, now: float | None = None) -> dict[str, Any]:
        """Return the report as JSON.

        :param state: "running", "success", "failed", or "paused": the task ended, and continues later.
        :param now: seconds since the epoch; for tests.
        """
        elapsed, working = (max((now or time.time()) - since, 0.001) for since in (self._started, self._working_since))
        processed = self._done - self._resumed + len(self._failed)
        left = self._total - self._done - len(self._failed)
        return {
            "version": 1,
            "state": state,
            "title": self._title,
            "unit": self._unit,
            "updated": round(now or time.time(), 1),
            "began": round(self._started, 1),
            "elapsed": round(elapsed, 1),
            "total": self._total,
            "done": self._done,
            "failed": len(self._failed),
            "resumed": self._resumed,
            "retried": self._attempts - processed,
            "rows": self._rows,
            "rows_per_second": None if self._rows is None else round((self._rows - self._earlier_rows) / working),
            "seconds_left": round(working / processed * left, 1) if processed and state == "running" else None,
            "plan": self._plan,
            "job": self._job,
            "workers": [worker.as_dict(name) for name, worker in islice(self._workers.items(), _MAX_WORKERS)],
            "worker_count": len(self._workers),
            "timeline": self._timeline(),
            "slowest": [self._line(*entry) for entry in sorted(self._slowest, reverse=True)],
            "failures": [self._failure(self._failed[index]) for index in sorted(self._failed)[:MAX_LISTED]],
        }

    def _count(self, outcome: Outcome) -> None:
        # None means "unknown": process_range without a row_count.
        if outcome.row_count is not None:
            self._rows = (self._rows or 0) + outcome.row_count

    def _timeline(self) -> dict[str, Any]:
        spans = [span for span in self._spans if span.worker < _MAX_WORKERS and span.started]
        # The workers' clocks may differ from this one: the timeline begins at the earliest start.
        start = min((span.started for span in spans), default=0.0)
        seconds = max((span.started + span.seconds for span in spans), default=0.0) - start
        timeline = {"start": round(start, 1), "seconds": round(seconds, 3), "spread": _spread(self._spans)}
        if len(spans) > _MAX_RANGES:
            return timeline | {"kind": "bins"} | _bins(spans, start, seconds)
        return timeline | {"kind": "ranges", "spans": [span.as_list(start) for span in spans]}

    def _line(self, seconds: float, rows: int, index: int) -> dict[str, Any]:
        return {"index": index, "range": self._describe(index)[:_MAX_CHARS], "seconds": round(seconds, 3), "rows": rows}

    def _failure(self, outcome: Outcome) -> dict[str, Any]:
        failure = outcome.failure
        error = f"{failure.type}: {failure.message}" if failure else ""
        item = self._describe(outcome.index)
        return {
            "index": outcome.index,
            "range": storable_text(failure.locate(item) if failure else item)[:_MAX_CHARS],
            "error": storable_text(error)[:_MAX_CHARS],
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
    """Return minimum, median, 95th percentile and maximum of rows and seconds per finished range."""
    done = [span for span in spans if span.ok]
    return {
        "rows": _quantiles(sorted(span.rows for span in done)),
        "seconds": _quantiles(sorted(round(span.seconds, 3) for span in done)),
    }


def _quantiles(values: list[Any]) -> list[Any]:
    return [values[int(share * (len(values) - 1))] for share in (0, 0.5, 0.95, 1)] if values else []


def _bins(spans: list[_Span], start: float, seconds: float) -> dict[str, Any]:
    """Return cells of [worker, bin, ranges that ended in it, their rows, failed ranges]."""
    count = max(_MAX_CELLS // (max(span.worker for span in spans) + 1), 1)
    width = max(seconds, 0.001) / count
    cells: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for span in spans:
        bin_ = min(int((span.started + span.seconds - start) / width), count - 1)
        cell = cells[span.worker, bin_]
        cell[0] += 1
        cell[1] += span.rows
        cell[2] += not span.ok
    return {"bin_count": count, "bins": [[*place, *cells[place]] for place in sorted(cells)]}
