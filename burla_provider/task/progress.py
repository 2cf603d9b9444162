"""How far a job is, in one line."""

from __future__ import annotations

from burla_provider.worker.outcome import Outcome

FIRST, LONGEST = 2.0, 60.0
"""Seconds before the first line, and between two lines of a long job."""


class Progress:
    """Counts outcomes and says, now and then, where the job stands.

    A line is due after two seconds, and from then on whenever a tenth of the time so far has passed, at least every
    minute: a short job says enough, a long one does not flood its log. The number of items makes no difference.

    :param total: how many items there are.
    :param now: seconds on any clock that only goes forward; the same clock for all calls.
    :param unit: what people call an item.
    """

    def __init__(self, total: int, now: float, unit: str = "range") -> None:
        self.total = total
        self.done = 0
        self.failed = 0
        self.rows = 0
        self._unit = unit
        self._earlier = 0
        self.start(now)

    def start(self, now: float) -> None:
        """The pace is measured from here: waiting for a free node says nothing about it."""
        self._start = now
        self._next = now + FIRST

    def resume(self, done: int) -> None:
        """So many items have been done by an earlier try of the task."""
        self.done += done
        self._earlier += done

    def add(self, outcome: Outcome) -> None:
        """Counts one answer."""
        if outcome.ok:
            self.done += 1
            self.rows += outcome.row_count or 0
        else:
            self.failed += 1

    def due(self, now: float) -> bool:
        """Whether it is time for a line. Answers True once, then not again until the next one is due."""
        if now < self._next:
            return False
        self._next = now + min(max(FIRST, (now - self._start) / 10), LONGEST)
        return True

    def line(self, now: float) -> str:
        """``412 of 1,000 ranges, 41,200,000 rows, 1,370,000 rows/s, 2 failed, about 43 s left``."""
        seconds = max(now - self._start, 1e-9)
        parts = [f"{self.done:,} of {self.total:,} {self._unit}s"]
        if self.rows:
            parts += [f"{self.rows:,} rows", f"{self.rows / seconds:,.0f} rows/s"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        left = self.total - self.done - self.failed
        if self.worked and left:
            parts.append(f"about {duration(left * seconds / self.worked)} left")
        return ", ".join(parts)

    @property
    def worked(self) -> int:
        """Items that this try has an answer for, good or bad."""
        return self.done + self.failed - self._earlier


def duration(seconds: float) -> str:
    """Seconds as people say them: "43 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
