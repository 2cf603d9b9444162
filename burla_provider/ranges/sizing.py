"""How many ranges a table gets, and how large they are."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from burla_provider.exceptions import InvalidParameterError

_RANGES_PER_WORKER = 12
"""With more, starting the ranges takes a noticeable time. With fewer, the job waits longer for the last range."""

DEFAULT_PARALLELISM = 8
"""Assumed number of workers if it is unknown."""

MIN_ROWS, MIN_BYTES = 10_000, 16 * 2**20
MAX_ROWS, MAX_BYTES = 5_000_000, 2**30
"""Maximum size of a range; the limit that is reached first applies. Repeating a larger range takes too long."""

_MIN_SELECTIVITY = 0.1
"""The server assumes 0.005 for a condition without statistics. Ranges must not become huge because of that."""


@dataclass(frozen=True)
class RangeSizing:
    """The requested size or number of ranges, and the table that it applies to.

    :param rows_per_range: about how many rows that pass ``where`` a range should have.
    :param ranges: about how many ranges there should be.
    :param parallelism: how many ranges will be processed at the same time.
    :param max_ranges: maximum number of ranges.
    :param rows: estimated rows in the window, before ``where``.
    :param row_bytes: average size of a row, with TOAST; 0: unknown.
    :param selectivity: fraction of the rows that passes ``where``, as the server estimates it.
    """

    rows_per_range: int | None = None
    ranges: int | None = None
    parallelism: int | None = None
    max_ranges: int = 100_000
    rows: float = 0.0
    row_bytes: float = 0.0
    selectivity: float = 1.0

    def __post_init__(self) -> None:
        for name in ("rows_per_range", "ranges", "parallelism", "max_ranges"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidParameterError(name, f"must be a positive integer, got {value!r}.", "Use 1 or more.")
        if self.rows_per_range is not None and self.ranges is not None:
            raise InvalidParameterError("ranges", "cannot be combined with rows_per_range.", "Use one of them.")
        if self.ranges is not None:
            self.check_limit("ranges", self.ranges)

    @property
    def target(self) -> float:
        """Rows of the table per range, before ``where``; at least 1."""
        if self.rows_per_range is not None:
            return self.rows_per_range / max(self.selectivity, _MIN_SELECTIVITY)
        rows = self.rows / self.range_count(self.rows)
        return max(rows, 1.0) if self.ranges is not None else max(rows, self.min_rows)

    @property
    def min_rows(self) -> float:
        """A table with at most this number of rows is not split."""
        return _limit(MIN_ROWS, MIN_BYTES, self.row_bytes) if self.rows_per_range is None else self.target

    def range_count(self, rows: float) -> int:
        """Return the number of ranges for a table with ``rows`` rows, at least 1."""
        if self.ranges is not None:
            return self.ranges
        if self.rows_per_range is not None:
            return max(ceil(rows / self.target), 1)
        wanted = (self.parallelism or DEFAULT_PARALLELISM) * _RANGES_PER_WORKER
        minimum = rows / _limit(MAX_ROWS, MAX_BYTES, self.row_bytes)
        maximum = rows / self.min_rows
        return max(min(round(max(min(wanted, maximum), minimum)), self.max_ranges), 1)

    def ranges_for(self, rows: float) -> int:
        """Return the number of ranges for a part of the table with ``rows`` rows, at least 1."""
        return max(round(self.range_count(self.rows) * rows / self.rows), 1) if rows else 1

    def check_limit(self, parameter: str, ranges: int) -> None:
        """Check a number of ranges against ``max_ranges``.

        :param parameter: the parameter that determines the number, for the message.
        :raises InvalidParameterError: if there are more.
        """
        if ranges > self.max_ranges:
            problem = f"the plan would have at least {ranges:,} ranges, and the maximum is {self.max_ranges:,}."
            raise InvalidParameterError(parameter, problem, "Use fewer or larger ranges.")


def _limit(rows: int, size: int, row_bytes: float) -> float:
    return min(rows, max(size / row_bytes, 1.0)) if row_bytes else rows
