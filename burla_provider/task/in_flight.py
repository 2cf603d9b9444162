"""The items that workers process at the moment."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from burla_provider.jobs.job import ItemBegan
from burla_provider.task.short_text import shorten_json
from burla_provider.worker.outcome import Outcome

_MAX_LISTED = 12
"""Items that the report lists."""
SLOW_RATIO = 3.0
"""An item is slow if it takes longer than this many times the median."""
_SLOW_SECONDS = 5.0
"""An item that takes less time is not slow."""
_MAX_NAME = 120
_MAX_WORKER = 40


@dataclass
class RunningItem:
    """An item that a worker has begun.

    :param worker: the worker process, ``host:pid``.
    :param since: when it began, seconds since the epoch on the task's clock.
    :param stage: as in ``ItemBegan``.
    :param left: when the worker began another item; None: it has not.
    """

    index: int
    worker: str
    since: float
    stage: str
    left: float | None = None

    def age(self, now: float) -> float:
        """Return how long it has been running, in seconds."""
        return max(now - self.since, 0.0)


class InFlight:
    """Knows which items are being processed, where and since when. An outcome listener.

    A worker processes one item at a time: its next begin ends its item, also if the outcome has not arrived.

    :param describe: returns an item's name, given its number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self.describe = describe
        self._items: dict[int, RunningItem] = {}
        self._current: dict[str, RunningItem] = {}
        self._ended: set[int] = set()
        self._durations = _RunningMedian()

    @property
    def median(self) -> float | None:
        """The median duration of the items that have succeeded in this try, in seconds; None: none has."""
        return self._durations.value

    @property
    def count(self) -> int:
        """The number of items that are being processed."""
        return len(self._current)

    def begin(self, event: ItemBegan, now: float | None = None) -> None:
        """Note that a worker process has begun an item, or its next stage.

        :param now: seconds since the epoch; for tests.
        """
        now = time.time() if now is None else now
        if event.index in self._ended:
            return  # The outcome has overtaken the message.
        known = self._items.get(event.index)
        if known is not None and known.worker == event.worker and known.left is None:
            known.stage = event.stage
            return
        since = now - event.seconds
        earlier = self._current.pop(event.worker, None)
        if earlier is not None:
            earlier.left = since
        if known is not None and self._current.get(known.worker) is known:
            del self._current[known.worker]  # Another worker processes it again: the first one has died.
        item = RunningItem(event.index, event.worker, since, event.stage)
        self._items[event.index] = self._current[event.worker] = item

    def add(self, outcome: Outcome) -> None:
        """Note that an item has an outcome."""
        self._ended.add(outcome.index)
        if outcome.ok:
            self._durations.add(outcome.seconds)
        item = self._items.pop(outcome.index, None)
        if item is not None and self._current.get(item.worker) is item:
            del self._current[item.worker]

    def restart(self) -> None:
        """Forget all running items: another job processes those that are missing."""
        self._items.clear()
        self._current.clear()

    def complete(self, outcome: Outcome, now: float | None = None) -> Outcome:
        """Return the outcome with worker, start and duration, as far as they are known. Call it before ``add``.

        The outcome of a worker process that died has none of them.
        """
        item = self._items.get(outcome.index)
        if item is None or outcome.worker:
            return outcome
        end = (time.time() if now is None else now) if item.left is None else item.left
        return replace(outcome, worker=item.worker, started=item.since, seconds=item.age(end))

    def running(self) -> list[RunningItem]:
        """Return the items that are being processed, the oldest first."""
        return sorted(self._current.values(), key=lambda item: item.since)

    def begun(self) -> list[tuple[str, float]]:
        """Return worker and begin of each item that is being processed."""
        return [(item.worker, item.since) for item in self._current.values()]

    def ratio(self, item: RunningItem, now: float) -> float | None:
        """Return how many times the median the item has been running; None: there is no median yet."""
        return None if self.median is None else item.age(now) / max(self.median, 0.001)

    def is_slow(self, item: RunningItem, now: float) -> bool:
        """Return whether the item takes much longer than the others."""
        return (self.ratio(item, now) or 0.0) > SLOW_RATIO and item.age(now) > _SLOW_SECONDS

    def as_dict(self, now: float | None = None) -> dict[str, Any]:
        """Return the part ``in_flight`` of the report.

        :param now: seconds since the epoch; for tests.
        """
        now = time.time() if now is None else now
        running = self.running()
        return {
            "count": len(running),
            "median": None if self.median is None else round(self.median, 3),
            "listed": [self._line(item, now) for item in running[:_MAX_LISTED]],
        }

    def _line(self, item: RunningItem, now: float) -> dict[str, Any]:
        ratio = self.ratio(item, now)
        return {
            "index": item.index,
            "item": shorten_json(self.describe(item.index), _MAX_NAME),
            "worker": shorten_json(item.worker, _MAX_WORKER),
            "since": round(item.since, 1),
            "stage": item.stage,
            "ratio": None if ratio is None else round(ratio, 1),
            "is_slow": self.is_slow(item, now),
        }


class _RunningMedian:
    """The lower median of the values so far, in logarithmic time per value."""

    def __init__(self) -> None:
        self._lower: list[float] = []  # negated: a heap has its minimum first
        self._upper: list[float] = []

    @property
    def value(self) -> float | None:
        return -self._lower[0] if self._lower else None

    def add(self, value: float) -> None:
        heapq.heappush(self._upper, -heapq.heappushpop(self._lower, -value))
        if len(self._upper) > len(self._lower):
            heapq.heappush(self._lower, -heapq.heappop(self._upper))
