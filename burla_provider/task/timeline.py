"""What the workers did, and when: the timeline, activity, distribution and slowest items of a report."""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import inf
from typing import Any, NamedTuple

from burla_provider.task.short_text import shorten_json
from burla_provider.task.time_bins import TimeBins
from burla_provider.worker.outcome import Outcome

_MAX_RANGES = 300
"""With more ranges, the timeline shows bins."""
_MAX_WORKERS = 48
"""Workers that are listed, and have a row in the timeline."""
_MAX_CELLS = 800
"""Bins of all workers together."""
_ACTIVITY_BINS, _ACTIVITY_SECONDS = 120, 0.1
"""Maximum number of bins of the activity, and minimum seconds of one."""
_MAX_LISTED = 12
"""Slowest ranges that are listed."""
_MAX_NAME, _MAX_WORKER = 120, 40
"""Maximum characters of the name of a slow range, and of a worker."""
_MIN_LABEL, _MAX_LABEL, _LABEL_FRAME = 16, 60, 12
"""Minimum and maximum characters of the name of a range on the timeline, and characters around it."""
_MAX_CHARS = 31_500
"""Maximum characters of all parts as JSON. The labels get what the other parts leave."""
_NO_GROUP = -1
"""The group of an item that has not failed, or whose group is not listed."""


class Timeline:
    """Collects when each item was processed, and by which worker. An outcome listener.

    :param describe: returns an item's name, given its number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe
        self._workers: dict[str, _Worker] = {}
        self._names: list[str] = []
        self._spans: list[_Span] = []
        """Until there are too many to show each."""
        self._cells = TimeBins(_MAX_CELLS)
        self._activity = TimeBins(_ACTIVITY_BINS * 4)
        self._rows = array("q")
        self._seconds = array("d")
        self._start, self._end = inf, -inf
        self._slowest: list[tuple[float, int, int, int]] = []
        self._trial_until: float | None = None
        self.is_empty = True
        """Whether no item has an outcome yet."""

    def add(self, outcome: Outcome) -> None:
        """Add an outcome of this try."""
        self.is_empty = False
        # If a worker died before it announced an item, it is unknown when and where the item was processed.
        worker = self._worker(outcome.worker) if outcome.worker and outcome.started else None
        rows = outcome.row_count or 0
        number = worker.number if worker else -1
        if outcome.ok:
            self._rows.append(rows)
            self._seconds.append(outcome.seconds)
            heapq.heappush(self._slowest, (outcome.seconds, rows, outcome.index, number))
            if len(self._slowest) > _MAX_LISTED:
                heapq.heappop(self._slowest)
        if worker is not None:
            span = _Span(outcome.started, outcome.seconds, number, outcome.index, rows, outcome.ok)
            worker.add(span)
            self._add(span)

    def end_trial(self) -> None:
        """Note that all items so far were the trial."""
        self._trial_until = self._end if self._workers else None

    def as_dict(
        self,
        group_of: Callable[[int], int] | None = None,
        running: Iterable[tuple[str, float]] = (),
        now: float | None = None,
    ) -> dict[str, Any]:
        """Return the parts of the report: workers, timeline, activity, slowest items.

        :param group_of: returns the number of a failed item's group, given the item's number.
        :param running: worker and begin of each item that is being processed.
        :param now: until when these count, seconds since the epoch; None: until the end of the last outcome.
        """
        begun = dict(running)
        end = max(self._end, now) if begun and now is not None else self._end
        open_periods = self._open_periods(begun, end)
        names = {*self._workers, *begun}
        busy = sum(worker.seconds for worker in self._workers.values()) + sum(end - begin for begin in open_periods)
        capacity = self._peak_workers(begun, end) * (end - self._start) if self._workers else 0.0
        parts: dict[str, Any] = {
            "workers": [worker.as_dict(name) for name, worker in islice(self._workers.items(), _MAX_WORKERS)],
            "worker_count": len(names),
            "timeline": self._timeline(group_of),
            "activity": self._make_activity(open_periods, end) if capacity > 0 else None,
            "utilization": round(min(busy / capacity, 1.0), 3) if capacity > 0 else None,
            "slowest": [self._line(*entry) for entry in sorted(self._slowest, reverse=True)],
        }
        if parts["timeline"]["kind"] == "ranges":
            parts["timeline"]["labels"] = self._labels(_MAX_CHARS - len(json.dumps(parts)))
        return parts

    def _add(self, span: _Span) -> None:
        # The workers' clocks may differ from this one: the timeline begins at the earliest start.
        self._start, self._end = min(self._start, span.started), max(self._end, span.end)
        self._activity.add(0, span.started, span.end, (span.rows, span.seconds))
        if span.worker < _MAX_WORKERS:
            self._cells.add(span.worker, span.end, span.end, (1, span.rows, not span.ok))
            if len(self._spans) <= _MAX_RANGES:
                self._spans.append(span)

    def _worker(self, name: str) -> _Worker:
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = _Worker(len(self._names))
            self._names.append(name)
        return worker

    def _open_periods(self, begun: Mapping[str, float], end: float) -> list[float]:
        """Return when each running item began: by the task's clock, but not before the worker's last item ended."""
        first = {name: worker.last for name, worker in self._workers.items()}
        return [min(max(since, first.get(name, self._start)), end) for name, since in begun.items()]

    def _peak_workers(self, begun: Mapping[str, float], end: float) -> int:
        """Return how many workers existed at the same time: one that died is replaced by another."""
        lasts = {name: worker.last for name, worker in self._workers.items()} | dict.fromkeys(begun, end)
        changes = [(last, -1) for last in lasts.values()]
        changes += [(self._workers[name].first if name in self._workers else begun[name], 1) for name in lasts]
        count = peak = 0
        for _, change in sorted(changes):
            count += change
            peak = max(peak, count)
        return peak

    def _make_activity(self, open_periods: Iterable[float], end: float) -> dict[str, Any]:
        start = self._start
        count = max(min(int((end - start) / _ACTIVITY_SECONDS), _ACTIVITY_BINS), 1)
        width = (end - start) / count
        sums = self._activity.resample(0, start, end, count)
        busy = [seconds for _, seconds in sums]
        for begin in open_periods:
            for number in range(int((begin - start) / width), count):
                busy[number] += min(start + (number + 1) * width - begin, width)
        return {
            "start": round(start, 3),
            "width": round(width, 4),
            "rows": list(_whole(rows for rows, _ in sums)),
            "busy": [round(seconds / width, 2) for seconds in busy],
        }

    def _timeline(self, group_of: Callable[[int], int] | None) -> dict[str, Any]:
        start, seconds = (self._start, self._end - self._start) if self._workers else (0.0, 0.0)
        durations = [round(duration, 3) for duration in _quantiles(self._seconds)]
        timeline = {
            "start": round(start, 1),
            "seconds": round(seconds, 3),
            "spread": {"rows": _quantiles(self._rows), "seconds": durations},
            "trial_until": None if self._trial_until is None else round(self._trial_until, 3),
        }
        if len(self._spans) > _MAX_RANGES:
            return timeline | {"kind": "bins"} | self._make_bins()
        digits = 3 if seconds < 100 else 1
        groups = {span.item: group_of(span.item) for span in self._spans if not span.ok} if group_of else {}
        lines = [span.as_list(start, digits, groups.get(span.item, _NO_GROUP)) for span in self._spans]
        return timeline | {"kind": "ranges", "spans": lines}

    def _make_bins(self) -> dict[str, Any]:
        """Return cells of [worker, bin, ranges that ended in it, their rows, failed ranges]."""
        cells, first = self._cells, self._cells.first
        return {
            "start": round(first * cells.width, 3),
            "seconds": round(cells.count * cells.width, 3),
            "bin_count": cells.count,
            "bins": [[worker, bin_ - first, *map(round, sums)] for (worker, bin_), sums in sorted(cells.cells.items())],
        }

    def _labels(self, characters: int) -> dict[str, str]:
        size = characters // max(len(self._spans), 1) - _LABEL_FRAME
        size = min(max(size, _MIN_LABEL), _MAX_LABEL)
        return {str(span.item): shorten_json(self._describe(span.item), size) for span in self._spans}

    def _line(self, seconds: float, rows: int, index: int, worker: int) -> dict[str, Any]:
        return {
            "index": index,
            "item": shorten_json(self._describe(index), _MAX_NAME),
            "seconds": round(seconds, 3),
            "rows": rows,
            "worker": shorten_json(self._names[worker], _MAX_WORKER) if worker >= 0 else "",
        }


class _Span(NamedTuple):
    started: float
    seconds: float
    worker: int
    item: int
    rows: int
    ok: bool

    @property
    def end(self) -> float:
        return self.started + self.seconds

    def as_list(self, start: float, digits: int, group: int) -> list[float]:
        begin, seconds = round(self.started - start, digits), round(self.seconds, digits)
        return [self.worker, begin, seconds, self.item, self.rows, int(self.ok), group]


@dataclass
class _Worker:
    number: int
    ranges: int = 0
    rows: int = 0
    seconds: float = 0.0
    first: float = inf
    last: float = -inf

    def add(self, span: _Span) -> None:
        self.ranges += 1
        self.rows += span.rows
        self.seconds += span.seconds
        self.first = min(self.first, span.started)
        self.last = max(self.last, span.end)

    def as_dict(self, name: str) -> dict[str, Any]:
        seconds = round(self.seconds, 2)
        return {"name": shorten_json(name, _MAX_WORKER), "ranges": self.ranges, "rows": self.rows, "seconds": seconds}


def _quantiles(values: array[Any]) -> list[Any]:
    """Return minimum, median, 95th percentile and maximum."""
    ordered = sorted(values)
    return [ordered[int(share * (len(ordered) - 1))] for share in (0, 0.5, 0.95, 1)] if ordered else []


def _whole(values: Iterable[float]) -> Iterator[int]:
    """Yield whole numbers that have the same sum."""
    total, given = 0.0, 0
    for value in values:
        total += value
        whole = round(total) - given
        given += whole
        yield whole
