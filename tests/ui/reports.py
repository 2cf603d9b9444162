"""Reports as a task writes them: the real ``Report`` receives the events of a try that is played on its own clock."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any
from unittest import mock

from burla_provider.jobs.job import ItemBegan
from burla_provider.ranges import Key, KeyRange, RangePlan
from burla_provider.ranges.catalog import Leaf, TableFacts
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.window import Window
from burla_provider.task.failure_groups import RangePlace
from burla_provider.task.report import Report
from burla_provider.worker.outcome import Failure, Outcome

ROWS_PER_RANGE = 156_250
_KEY = Key((KeyColumn("id", "bigint"),))
_LEAF = Leaf("public", "orders", "r", "heap", 1_000_000, 50_000, 50_000, 409_600_000, 0, True)
_FACTS = TableFacts(1, "public", "orders", "r", (), (), (_LEAF,), False, 160004)


def make_plan(count: int) -> RangePlan:
    """Return a plan of ``public.orders`` with that many ranges."""
    ends = [None, *(f"{ROWS_PER_RANGE * (index + 1)}" for index in range(count - 1)), None]
    ranges = tuple(
        KeyRange(_KEY, index, lower and (lower,), upper and (upper,), expected_rows=ROWS_PER_RANGE)
        for index, (lower, upper) in enumerate(pairwise(ends))
    )
    return RangePlan(
        "public",
        "orders",
        _KEY,
        Window(),
        (None,),
        ranges,
        "width",
        "set by split='width'",
        _FACTS,
        hints=("ANALYZE public.orders: 40 % of its rows have changed since the last ANALYZE.",),
        queries=9,
        seconds=0.0051,
    )


class Try:
    """One try of a task.

    :param total: number of ranges or inputs that planning finds.
    :param ago: seconds between the begin of the try and now.
    :param unit: "range" or "input".
    :param title: of the report.
    :ivar now: the clock, seconds since the epoch. ``wait`` and ``work`` advance it.
    """

    def __init__(
        self, total: int = 48, *, ago: float = 60, unit: str = "range", title: str = "public.orders", at: float = 0
    ) -> None:
        self.now = self.began = (at or time.time()) - ago
        self._total = total
        self._plan = make_plan(total) if unit == "range" else None
        self._phases: list[dict[str, Any]] = []
        self.ended: set[int] = set()
        self._begun: dict[int, str] = {}
        with self._clock():
            self.report = Report(title, unit, self.began)
            self.report.places = list(PLACES if unit == "range" else PLACES[:3])
            self.report.set_status("connecting")
        self.phase("starting", 1.4)
        self.phase("connecting", 0.6)

    def describe(self, index: int) -> str:
        """Return the name of an item."""
        if self._plan is None:
            return f"input {index} (https://example.com/files/part-{index:05}.parquet)"
        return str(self._plan.ranges[index])

    def phase(self, name: str, seconds: float = 0.0) -> None:
        """Begin a phase that lasts so long. The next one ends it."""
        if self._phases:
            self._phases[-1]["seconds"] = round(self.now - self._phases[-1]["began"], 1)
        self._phases.append({"name": name, "began": self.now, "seconds": 0.0})
        self.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def status(self, state: Any, detail: str = "", *, until: float | None = None) -> None:
        """Set what the try does."""
        with self._clock():
            self.report.set_status(state, detail, until)

    def plan(self, seconds: float = 2.1) -> None:
        """Take the snapshot, and plan."""
        self.phase("snapshot", 0.2)
        self.status("planning")
        self.phase("planning", seconds)
        with self._clock():
            if self._plan is None:
                self.report.begin_items(self._total, self.describe)
            else:
                rows = [one.expected_rows for one in self._plan.ranges]
                self.report.begin_items(self._total, self.describe, self._plan.as_dict(), rows)
                self.report.reproduce = dict(REPRODUCE)
                self.report.failures.place = self._place

    def start(self, part: Any = "all", items: int | None = None, *, starting: float = 1.5) -> None:
        """Start a job."""
        self.phase("starting workers", starting)
        self.status("trial" if part == "trial" else "running", "3 of 30 ranges first" if part == "trial" else "")
        self.phase("trial" if part == "trial" else "working")
        with self._clock():
            number = len(self.report.jobs) + 1
            job = f"nightly-digest_orders-abcdefghijk{number}"
            self.report.start(job, f"https://burla.example.com/jobs/{job}", items or self._total, part)

    def work(
        self,
        items: Iterable[int],
        *,
        workers: int = 4,
        host: str = "10-0-0",
        seconds: Callable[[int], float] = lambda index: 2 + index * 7 % 5 / 4,
        rows: Callable[[int], int | None] = lambda index: ROWS_PER_RANGE + index * 37 % 1000,
        failures: Mapping[int, Failure] | None = None,
        attempts: Callable[[int], int] = lambda _: 1,
        dead: Iterable[int] = (),
        until: float | None = None,
    ) -> None:
        """Process items, each on the worker that is free first.

        :param host: part of the workers' names.
        :param seconds: how long an item takes.
        :param failures: index -> why it fails.
        :param attempts: how often an item is tried.
        :param dead: items whose worker ends without a result, so that their start is not known.
        :param until: seconds from now; the clock stops there, and items that have not ended are in flight. None: the
            clock stops when all have ended.
        """
        began = self.now
        end = float("inf") if until is None else began + until
        free = [(began, number) for number in range(workers)]
        events: list[tuple[float, int, Callable[[], None]]] = []
        for index in items:
            start, number = heapq.heappop(free)
            if start >= end:
                break
            worker = f"ip-{host}-{number // 4 + 11}:{2400 + number}"
            length = seconds(index)
            heapq.heappush(free, (start + length, number))
            began_event = ItemBegan(index, worker)
            events.append((start, 1, lambda event=began_event: self._begin(event)))
            if start + length > end:
                continue
            failure = (failures or {}).get(index)
            outcome = Outcome(
                index,
                row_count=None if failure else rows(index),
                seconds=0.0 if index in dead else round(length, 3),
                started=0.0 if index in dead else start,
                worker="" if index in dead else worker,
                attempts=attempts(index),
                failure=failure,
            )
            events.append((start + length, 0, lambda outcome=outcome: self._end(outcome)))
        with self._clock():
            for moment, _, happen in sorted(events, key=lambda event: event[:2]):
                self.now = moment
                happen()
        self.now = self.now if until is None else end

    def isolate(self) -> None:
        """Let a worker that processes an item search for its failing rows."""
        with self._clock():
            index, worker = next((index, worker) for index, worker in self._begun.items() if index not in self.ended)
            self.report.in_flight.begin(ItemBegan(index, worker, stage="isolating"))

    def resume(self, index: int) -> None:
        """Count an item that an earlier try has processed."""
        with self._clock():
            self.report.resume(Outcome(index, row_count=ROWS_PER_RANGE, seconds=2.5, started=1.0, worker="h:1"))

    def end(self, state: Any, detail: str = "", *, combining: float = 0.8) -> dict[str, Any]:
        """End the try, and return its final report."""
        if combining:
            self.status("combining")
            self.phase("combining", combining)
        self.status(state, detail)
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        """Return the report as it is now."""
        self._phases[-1]["seconds"] = round(self.now - self._phases[-1]["began"], 1)
        with self._clock():
            self.report.phases = list(self._phases)
            return self.report.as_dict()

    def _place(self, index: int) -> RangePlace:
        assert self._plan is not None
        key_range = self._plan.ranges[index]
        lower, upper = (bound and bound[0] for bound in (key_range.lower, key_range.upper))
        return RangePlace(key_range.where.as_string(), f"lower={lower}, upper={upper}", None)

    def _begin(self, event: ItemBegan) -> None:
        self._begun[event.index] = event.worker
        self.report.in_flight.begin(event)

    def _end(self, outcome: Outcome) -> None:
        self.ended.add(outcome.index)
        self.report.add(outcome)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        with mock.patch("time.time", side_effect=lambda: self.now):
            yield


PLACES = [
    ("Engine", "Burla cluster"),
    ("Cluster", "https://burla.example.com, 4 nodes"),
    ("Workers", "at most 64"),
    ("Database", "db-replica-2.example.com:5432/shop"),
    ("Connections", "4 used, 20 allowed"),
    ("Consistency", "one snapshot for all ranges"),
    ("Rows", "status = 'paid' AND created_at >= '2026-11-19' AND created_at < '2026-11-20'"),
    ("Window", "all keys"),
    ("Columns", "id, amount, currency, customer_id"),
]

REPRODUCE = {
    "select": "SELECT id, amount, currency, customer_id FROM public.orders WHERE (status = 'paid') AND\n{range}\n",
    "call": '''from nightly import digest

query = r"""
SELECT id, amount, currency, customer_id FROM public.orders WHERE (status = 'paid') AND
{range}
"""
print(digest(iter(cursor)))
''',
}
"""The texts of ``TableReproduction``, which has tests of its own."""
