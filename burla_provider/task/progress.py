"""The progress of a job, in one line."""

from __future__ import annotations

from burla_provider.worker.outcome import Outcome

FIRST_LINE, MAX_INTERVAL = 2.0, 60.0
"""Seconds before the first line, and the most between two lines."""


class Progress:
    """Counts outcomes, and tells when to log a line of progress. An outcome listener.

    A line is due after two seconds, then each time the elapsed time has grown by a tenth, and at least once per minute.

    :param total: number of items.
    :param now: seconds of a monotonic clock; the same clock for all calls.
    :param unit: "range" or "input".
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
        """Measure the speed from now on, so that waiting for a free node does not count."""
        self._start = now
        self._next = now + FIRST_LINE

    def resume(self, done: int) -> None:
        """Count items that an earlier try of the task has done."""
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
        self._next = now + min(max(FIRST_LINE, (now - self._start) / 10), MAX_INTERVAL)
        return True

    def line(self, now: float) -> str:
        """Return, for example, ``412 of 1,000 ranges, 4,120 rows, 137 rows/s, 2 failed, about 43 s left``."""
        seconds = max(now - self._start, 1e-9)
        parts = [f"{self.done:,} of {self.total:,} {self._unit}s"]
        if self.rows:
            parts += [f"{self.rows:,} rows", f"{self.rows / seconds:,.0f} rows/s"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        left = self.total - self.done - self.failed
        if self.processed and left:
            parts.append(f"about {format_duration(left * seconds / self.processed)} left")
        return ", ".join(parts)

    @property
    def processed(self) -> int:
        """The number of items that this try has processed, failed ones included."""
        return self.done + self.failed - self._earlier


def format_duration(seconds: float) -> str:
    """Return seconds as text: "43 s", "12 min", "3 h 20 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
