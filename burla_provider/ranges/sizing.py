"""How many ranges, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from burla_provider.exceptions import InvalidParameterError

RANGES_A_WORKER = 12
"""Enough that the last one to finish is small next to the whole, and few enough that starting them costs nothing."""

PARALLELISM = 8
"""Workers, when nobody says how many there will be."""

LEAST_ROWS, LEAST_BYTES = 10_000, 16 * 2**20
MOST_ROWS, MOST_BYTES = 5_000_000, 2**30
"""A range is neither dust nor a giant: whichever limit is reached first. A giant is long to repeat when it fails."""


_LEAST_SELECTIVITY = 0.1
"""At a condition that the server knows nothing about it guesses 0.005: ranges must not become giants by that."""


@dataclass(frozen=True)
class RangeSizing:
    """What was asked for, and what it means for a certain table.

    :param rows_per_range: about how many rows of the result a range should have.
    :param ranges: about how many ranges there should be.
    :param parallelism: how many ranges will be worked at the same time.
    :param max_ranges: there may not be more.
    :param rows: in the window, as estimated, before ``where``.
    :param row_bytes: of an average row, with TOAST.
    :param selectivity: which part of the rows passes ``where``, as the server guesses.
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
                raise InvalidParameterError(name, f"{value!r} is not a positive whole number.", "Give 1 or more.")
        if self.rows_per_range is not None and self.ranges is not None:
            raise InvalidParameterError("ranges", "rows_per_range says the same.", "Give one of them.")
        if self.ranges is not None:
            self.allow("ranges", self.ranges)

    @property
    def target(self) -> float:
        """Rows of the table that a range should have, at least one."""
        if self.rows_per_range is not None:
            return self.rows_per_range / max(self.selectivity, _LEAST_SELECTIVITY)
        rows = self.rows / self.count(self.rows)
        return max(rows, 1.0) if self.ranges is not None else max(rows, self.least)

    @property
    def least(self) -> float:
        """Rows of the table that are not worth splitting."""
        return _limit(LEAST_ROWS, LEAST_BYTES, self.row_bytes) if self.rows_per_range is None else self.target

    def count(self, rows: float) -> int:
        """How many ranges that many rows of the table should be, at least one."""
        if self.ranges is not None:
            return self.ranges
        if self.rows_per_range is not None:
            return max(ceil(rows / self.target), 1)
        wanted = (self.parallelism or PARALLELISM) * RANGES_A_WORKER
        fewest = rows / _limit(MOST_ROWS, MOST_BYTES, self.row_bytes)
        most = rows / self.least
        return max(min(round(max(min(wanted, most), fewest)), self.max_ranges), 1)

    def share(self, rows: float) -> int:
        """How many of the ranges a part of the table gets that has so many of its rows, at least one."""
        return max(round(self.count(self.rows) * rows / self.rows), 1) if rows else 1

    def allow(self, parameter: str, ranges: int) -> None:
        """Checks a number of ranges against the limit.

        :raises InvalidParameterError: there are more than ``max_ranges``.
        """
        if ranges > self.max_ranges:
            problem = f"there would be {ranges:,} ranges, more than max_ranges = {self.max_ranges:,}."
            raise InvalidParameterError(parameter, problem, "Ask for fewer or larger ranges.")


def _limit(rows: int, size: int, row_bytes: float) -> float:
    return min(rows, max(size / row_bytes, 1.0)) if row_bytes else rows
