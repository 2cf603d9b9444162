"""What the workers did, and when: the timeline, activity, distribution and slowest items of a report."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from burla_provider.worker.outcome import Outcome

_MAX_RANGES = 300
"""With more ranges, the timeline shows bins."""
_MAX_WORKERS = 48
"""Workers that are listed, and have a row in the timeline."""
_MAX_CELLS = 800
"""Bins of all workers together."""
MAX_LISTED = 12
"""Slowest ranges that are listed."""
MAX_CHARS = 300
"""Maximum characters of the name of a range."""


class Timeline:
    """Collects when each item was processed, and by which worker. An outcome listener.

    :param describe: returns an item's name, given its number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe
        self._workers: dict[str, _Worker] = {}
        self._spans: list[_Span] = []
        self._slowest: list[tuple[float, int, int]] = []

    @property
    def is_empty(self) -> bool:
        """Whether no item has an outcome yet."""
        return not self._spans

    def add(self, outcome: Outcome) -> None:
        """Add an outcome of this try."""
        worker = self._workers.setdefault(outcome.worker, _Worker(len(self._workers)))
        rows = outcome.row_count or 0
        span = _Span(outcome.started, outcome.seconds, worker.number, outcome.index, rows, outcome.ok)
        worker.add(span)
        self._spans.append(span)
        if outcome.ok:
            heapq.heappush(self._slowest, (outcome.seconds, rows, outcome.index))
            if len(self._slowest) > MAX_LISTED:
                heapq.heappop(self._slowest)

    def as_dict(self) -> dict[str, Any]:
        """Return the parts of the report: workers, timeline, slowest items."""
        return {
            "workers": [worker.as_dict(name) for name, worker in islice(self._workers.items(), _MAX_WORKERS)],
            "worker_count": len(self._workers),
            "timeline": self._timeline(),
            "slowest": [self._line(*entry) for entry in sorted(self._slowest, reverse=True)],
        }

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
        return {"index": index, "range": self._describe(index)[:MAX_CHARS], "seconds": round(seconds, 3), "rows": rows}


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
