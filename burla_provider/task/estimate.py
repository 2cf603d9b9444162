"""Estimate when a job ends. The report and the log show the same estimate."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from burla_provider.task.in_flight import InFlight
from burla_provider.worker.outcome import Outcome

_TRUST_SECONDS = 3.0
"""A job has no estimate before this time."""
_MIN_SIZE = 0.05
"""Minimum size of an item, as a share of the mean: an empty range takes time too."""
_WINDOW_SECONDS, _WINDOW_SHARE = 5.0, 1 / 8
"""Pace and workers are measured over one to two windows: 5 seconds, or this share of the job."""
_PACE_ROUNDS = 5
"""The pace of a window counts if each worker has ended this number of items in it."""
_HANGS_RATIO = 10
"""A worker hangs if its item takes this many times the expected time. It will not process another one."""


class Estimate:
    """Estimates the seconds until all items have an outcome. An outcome listener.

    An item is expected to take time in proportion to its size: its expected rows, or the same for all items. The
    waiting items are shared by the workers that were busy in the last window. Items in flight count with the time that
    they still need.

    :param total: number of items.
    :param in_flight: the items that are being processed.
    :param expected_rows: of each item; None: unknown.
    """

    def __init__(self, total: int, in_flight: InFlight, expected_rows: Sequence[int | None] | None = None) -> None:
        self.in_flight = in_flight
        self._sizes = _relative_sizes(expected_rows) if expected_rows else None
        self._open = total
        self._open_size = sum(self._sizes) if self._sizes else float(total)
        self._seconds = 0.0
        self._size = 0.0
        self.start()

    def start(self, is_trial: bool = False, now: float | None = None) -> None:
        """Note that a job begins: how many workers it has is not known yet.

        :param is_trial: whether it processes some of the items first. It has no estimate.
        :param now: seconds since the epoch; for tests.
        """
        self._is_trial = is_trial
        self._began = self._last = time.time() if now is None else now
        self._ended = 0
        self._busy = 0.0
        self._workers_seen = 0
        self._marks: list[_Mark] = []

    def resume(self, outcome: Outcome) -> None:
        """Note that an earlier try has processed an item."""
        self._open -= 1
        self._open_size -= self._size_of(outcome.index)

    def add(self, outcome: Outcome, now: float | None = None) -> None:
        """Note that an item has an outcome.

        :param now: seconds since the epoch; for tests.
        """
        now = time.time() if now is None else now
        size = self._size_of(outcome.index)
        self._open -= 1
        self._open_size -= size
        self._seconds += outcome.seconds
        self._size += size
        self._busy += outcome.seconds
        if not self._ended:
            self._began = now - outcome.seconds
        self._ended += 1
        self._last = now
        workers = self.in_flight.count
        if workers > self._workers_seen or not self._marks:
            # Another worker has started: measure from now on.
            self._workers_seen = workers
            self._marks = [self._mark(now)]
        elif now - self._marks[-1].time >= self._window(now):
            self._marks = [self._marks[-1], self._mark(now)]

    def seconds_left(self, now: float | None = None) -> float | None:
        """Return the estimate, or None: it cannot be trusted yet, or it is used up and the last items still run.

        :param now: seconds since the epoch; for tests.
        """
        now = time.time() if now is None else now
        if self._open <= 0:
            return 0.0
        running = self.in_flight.running()
        is_early = self._ended < max(len(running), 1) or now - self._began < _TRUST_SECONDS
        if self._is_trial or is_early:
            return None
        pace = self._pace()
        expected = [pace * self._size_of(item.index) for item in running]
        ages = [item.age(now) for item in running]
        rests = [max(seconds - age, 0.0) for seconds, age in zip(expected, ages, strict=True)]
        waiting = self._open - len(running)
        if waiting <= 0:
            return max(rests) if all(rests) else None
        rests = [rest for rest, seconds, age in zip(rests, expected, ages, strict=True) if age < _HANGS_RATIO * seconds]
        # Fewer than one worker is busy if items take less time than their way to a worker.
        busy = self._workers(now) or 1.0
        workers = max(busy - (len(running) - len(rests)), min(busy, 1.0))
        work = pace * max(self._open_size - sum(self._size_of(item.index) for item in running), 0.0)
        # The worker that is free first gets the next item, and the last round may be incomplete.
        rounds = ceil(waiting / max(round(workers), 1))
        left = max((work + sum(rests)) / workers, min(rests, default=0.0) + rounds * work / waiting, *rests)
        if not running:  # No worker has said yet that it has begun one of them.
            left -= now - self._last
        return left if left > 0 else None

    def _pace(self) -> float:
        """Return the seconds per size, those of the last window if enough items have ended in it."""
        mark = self._marks[0]
        if self._ended - mark.ended >= _PACE_ROUNDS * max(self._workers_seen, 1):
            return (self._seconds - mark.seconds) / (self._size - mark.size)
        return self._seconds / self._size

    def _workers(self, now: float) -> float:
        """Return how many workers were busy in the last window."""
        mark = self._marks[0]
        workers = (self._busy_seconds(now) - mark.busy) / max(now - mark.time, 0.001)
        return max(workers, self.in_flight.count) if now - mark.time < self._window(now) else workers

    def _mark(self, now: float) -> _Mark:
        return _Mark(now, self._busy_seconds(now), self._ended, self._seconds, self._size)

    def _window(self, now: float) -> float:
        return max(_WINDOW_SECONDS, (now - self._began) * _WINDOW_SHARE)

    def _busy_seconds(self, now: float) -> float:
        return self._busy + sum(item.age(now) for item in self.in_flight.running())

    def _size_of(self, index: int) -> float:
        return self._sizes[index] if self._sizes else 1.0


class _Mark(NamedTuple):
    """The sums at a time.

    :param time: seconds since the epoch.
    :param busy: seconds of work of this job, of the running items too.
    :param ended: number of items of this job.
    :param seconds: of all items that have ended.
    :param size: of the same items.
    """

    time: float
    busy: float
    ended: int
    seconds: float
    size: float


def _relative_sizes(expected_rows: Sequence[int | None]) -> array[float]:
    """Return the size of each item as a multiple of the mean."""
    known = [rows for rows in expected_rows if rows is not None]
    mean = max(sum(known) / max(len(known), 1), 1.0)
    return array("d", (1.0 if rows is None else max(rows / mean, _MIN_SIZE) for rows in expected_rows))
