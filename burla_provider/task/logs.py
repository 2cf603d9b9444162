"""Messages in the task's log: the plan, the progress, the workers' output and the result. Airflow's UI folds groups."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from burla_provider.database.wording import quantity
from burla_provider.task.estimate import Estimate
from burla_provider.task.in_flight import SLOW_RATIO, InFlight, RunningItem
from burla_provider.task.short_text import shorten
from burla_provider.worker.outcome import Outcome

if TYPE_CHECKING:
    from burla_provider.ranges.plan import Plan

PENDING_SECONDS = 2.0
"""How long a line of output waits for other lines of its item."""
_FIRST_LINE, _MAX_INTERVAL = 2.0, 60.0
"""Seconds before the first line of progress, and the maximum between two lines."""
_WARN_SECONDS = 10.0
"""An item that has been running for less is not logged as slow."""
_FIRST_WARN_SECONDS = 30.0
"""The same while no item has succeeded, so that there is nothing to compare with."""
_WARN_INTERVAL = 5.0
"""Minimum seconds between two lines about slow items. It grows with the time of the job up to ``_MAX_INTERVAL``."""
_MAX_NAMED, _MAX_UNFINISHED = 3, 10
"""Items that a line about slow items names, and that the line about unfinished items names."""
_MAX_NAME = 200
_MAX_RESULT_CHARS = 10_000
"""Logged characters of a result. Airflow masks secrets in all of the log, and the UI loads it."""

_LABELED = re.compile(r"\[(\d+)\](?: (.*)|$)", re.DOTALL)


def without_markers(text: str) -> str:
    """Return a user's text without group markers, which the UI would find anywhere in a record."""
    return text.replace("::group::", ":group:").replace("::endgroup::", ":endgroup:")


def log_group(log: Any, title: str, lines: Iterable[str]) -> None:
    """Log lines as a group that Airflow's UI folds below its title.

    The UI looks for the markers record by record, so each is a record of its own.
    """
    for line in [f"::group::{title}", *lines, "::endgroup::"]:
        log.info("%s", line)


def log_result(log: Any, result: dict[str, Any]) -> None:
    """Log the result of a job, at most its first ``_MAX_RESULT_CHARS`` characters."""
    text = without_markers(json.dumps(result, indent=2))
    rest = len(text) - _MAX_RESULT_CHARS
    log.info("Result\n%s%s", text[:_MAX_RESULT_CHARS], f" ... and {rest:,} more characters" if rest > 0 else "")


def log_plan(log: Any, plan: Plan, hint: str = "") -> None:
    """Log a plan as a group, with its table and size in the title, and a hint about the parameters behind it."""
    summary = plan.as_dict()
    rows = quantity(summary["expected_rows"], "row")
    title = f"Plan: {quantity(summary['ranges'], 'range')} of {summary['table']}, about {rows}"
    log_group(log, title, str(plan).splitlines())
    if hint:
        log.info(hint)


class Progress:
    """Counts outcomes, and decides when a line of progress is due. An outcome listener.

    A line is due after two seconds, then each time the elapsed time has grown by a tenth, and at least once per minute.

    :param total: number of items.
    :param now: seconds of a monotonic clock; the same clock for all calls.
    :param unit: "range" or "input".
    :param estimate: estimates the end, and knows what is running; None: the line has neither.
    """

    def __init__(self, total: int, now: float, unit: str = "range", estimate: Estimate | None = None) -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.rows = 0
        self._unit = unit
        self._estimate = estimate
        self._earlier = 0
        self.start(now)

    def start(self, now: float) -> None:
        """Measure the speed from now on, so that waiting for a free node does not count."""
        self._start = now
        self._next = now + _FIRST_LINE

    def resume(self, done: int) -> None:
        """Count items that an earlier try of the task has processed."""
        self.done += done
        self._earlier += done

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        if outcome.ok:
            self.done += 1
            self.rows += outcome.row_count or 0
        else:
            self.failed += 1

    def is_due(self, now: float) -> bool:
        """Return whether a line is due: True once, then False until the next one is due."""
        if now < self._next:
            return False
        self._next = now + min(max(_FIRST_LINE, (now - self._start) / 10), _MAX_INTERVAL)
        return True

    def line(self, now: float) -> str:
        """Return, for example, ``412 of 1,000 ranges, 4,120 rows, 137 rows/s, 2 failed, about 43 s left``."""
        seconds = max(now - self._start, 1e-9)
        parts = [f"{self.done:,} of {self.total:,} {self._unit}s"]
        if self.rows:
            parts += [f"{self.rows:,} rows", f"{self.rows / seconds:,.0f} rows/s"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.total > self.done + self.failed:
            parts += self._outlook()
        return ", ".join(parts)

    def _outlook(self) -> list[str]:
        """Return when the job ends, or what it waits for."""
        if self._estimate is None:
            return []
        seconds = self._estimate.seconds_left()
        if seconds is not None and round(seconds):
            return [f"about {format_duration(seconds)} left"]
        in_flight = self._estimate.in_flight
        running = in_flight.running()
        if not running:
            return []
        is_end = len(running) == self.total - self.done - self.failed
        oldest = _describe_running(in_flight, running[0], time.time())
        return [
            f"waiting for {len(running):,}: {oldest}" if is_end else f"{len(running):,} running, the oldest {oldest}"
        ]

    @property
    def processed(self) -> int:
        """The number of items that this try has processed, failed ones included."""
        return self.done + self.failed - self._earlier


class SlowItems:
    """Logs items that take long. A line is due for an item when it becomes slow, and each time its age has doubled.

    :param log: the task's log.
    :param in_flight: the items that are being processed.
    """

    def __init__(self, log: Any, in_flight: InFlight) -> None:
        self._log = log
        self._in_flight = in_flight
        self._began = time.time()
        self._check_at = self._log_at = 0.0
        self._next_ages: dict[tuple[int, str], float] = {}

    def check(self) -> None:
        """Log the items for which a line is due. Call it often."""
        now = time.time()
        if now < self._check_at:
            return
        self._check_at = now + 1
        running = self._in_flight.running()
        keys = {_key(item) for item in running}
        self._next_ages = {key: age for key, age in self._next_ages.items() if key in keys}
        if self._in_flight.median is None:
            running = running[:1]  # There is nothing to compare with: all items may take so long.
        if now >= self._log_at and (due := [item for item in running if self._is_due(item, now)]):
            self._report(due, now)

    def finish(self) -> None:
        """Log the items that have no outcome at the end of the job."""
        if unfinished := describe_unfinished(self._in_flight, _MAX_UNFINISHED):
            self._log.warning(unfinished)

    def _report(self, due: list[RunningItem], now: float) -> None:
        if self._in_flight.median is None:
            self._log.info("Nothing has succeeded yet. The oldest is %s", _list_running(self._in_flight, due, 1))
        else:
            self._log.warning("Slow: %s", _list_running(self._in_flight, due, _MAX_NAMED))
        for item in due:
            self._next_ages[_key(item)] = 2 * item.age(now)
        self._log_at = now + min(max(_WARN_INTERVAL, (now - self._began) / 10), _MAX_INTERVAL)

    def _is_due(self, item: RunningItem, now: float) -> bool:
        median = self._in_flight.median
        first = _FIRST_WARN_SECONDS if median is None else max(SLOW_RATIO * median, _WARN_SECONDS)
        return item.age(now) > max(first, self._next_ages.get(_key(item), 0.0))


def describe_unfinished(in_flight: InFlight, maximum: int = _MAX_NAMED) -> str:
    """Return, for example, ``Not finished: range 17 (100 <= id < 200) on host:1234 for 43 s``, or "" if nothing runs.

    :param maximum: number of items that are named.
    """
    running = in_flight.running()
    return f"Not finished: {_list_running(in_flight, running, maximum)}" if running else ""


def _list_running(in_flight: InFlight, items: list[RunningItem], maximum: int) -> str:
    now = time.time()
    named = [_describe_running(in_flight, item, now) for item in items[:maximum]]
    rest = len(items) - len(named)
    return "; ".join([*named, *([f"and {rest:,} more"] if rest else [])])


def _key(item: RunningItem) -> tuple[int, str]:
    return item.index, item.worker


def _describe_running(in_flight: InFlight, item: RunningItem, now: float) -> str:
    """Return, for example, ``range 17 (100 <= id < 200) on host:1234 for 43 s, 12 times the median``."""
    name = shorten(in_flight.describe(item.index), _MAX_NAME)
    text = f"{name} on {item.worker} for {format_duration(item.age(now))}"
    if item.stage == "isolating":
        text += ", searching for its failing rows"
    ratio = in_flight.ratio(item, now)
    return text if ratio is None or ratio < 2 else f"{text}, {ratio:,.0f} times the median"


def format_duration(seconds: float) -> str:
    """Return seconds as text: "43 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


class WorkerOutput:
    """Logs what workers print. Lines of different items arrive interleaved; those of one item are logged together.

    :param log: the task's log.
    :param total: number of items.
    :param describe: returns an item's name, given its number.
    """

    def __init__(self, log: Any, total: int, describe: Callable[[int], str]) -> None:
        self._log = log
        self._total = total
        self._describe = describe
        self._pending: dict[int, _PendingLines] = {}

    def add(self, text: str) -> None:
        """Collect a line that begins with ``[n]`` for item ``n``; log any other line at once."""
        labeled = _LABELED.match(text)
        if labeled and int(labeled[1]) < self._total:
            self._pending.setdefault(int(labeled[1]), _PendingLines(time.monotonic())).lines.append(labeled[2] or "")
        else:
            self._log.info("%s", text)

    def flush_item(self, index: int) -> None:
        """Log the item's pending lines."""
        pending = self._pending.pop(index, None)
        if pending is None:
            return
        if len(pending.lines) == 1:
            self._log.info("%s: %s", self._describe(index), pending.lines[0])
        else:
            log_group(self._log, f"{self._describe(index)} printed {len(pending.lines)} lines", pending.lines)

    def flush_expired(self, now: float) -> None:
        """Log the lines that have been pending for ``PENDING_SECONDS``.

        :param now: from ``time.monotonic()``.
        """
        for index in [index for index, pending in self._pending.items() if now - pending.since >= PENDING_SECONDS]:
            self.flush_item(index)

    def flush(self) -> None:
        """Log all pending lines."""
        for index in sorted(self._pending):
            self.flush_item(index)


@dataclass
class _PendingLines:
    since: float
    lines: list[str] = field(default_factory=list)
