"""Sums per period of a job, in memory that does not grow with the number of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_MIN_WIDTH = 0.125
"""Seconds of the shortest bin."""


class TimeBins:
    """Adds up values per lane and bin. A bin becomes twice as long whenever there are too many.

    :param limit: maximum number of bins of all lanes together.
    """

    def __init__(self, limit: int) -> None:
        self.width = _MIN_WIDTH
        self.first = 0
        self.last = -1
        self.cells: dict[tuple[int, int], list[float]] = {}
        """Lane and bin -> values. Bin ``n`` begins at ``n * width`` seconds since the epoch."""
        self._limit = limit
        self._lanes = 0

    @property
    def count(self) -> int:
        """The number of bins per lane, from ``first`` to ``last``."""
        return self.last - self.first + 1

    def add(self, lane: int, begin: float, end: float, values: Sequence[float]) -> None:
        """Add values, spread evenly over a period.

        :param begin: seconds since the epoch.
        :param end: the same as ``begin`` if it is a moment.
        """
        is_empty = not self.cells
        self._lanes = max(self._lanes, lane + 1)
        while True:
            first, last = int(begin // self.width), int(end // self.width)
            self.first = first if is_empty else min(self.first, first)
            self.last = last if is_empty else max(self.last, last)
            if self.count == 1 or self.count * self._lanes <= self._limit:
                break
            self._widen()
        for number, share in _shares(begin, end, self.width, first, last):
            sums = self.cells.setdefault((lane, number), [0.0] * len(values))
            for place, value in enumerate(values):
                sums[place] += value * share

    def resample(self, lane: int, start: float, end: float, count: int) -> list[list[float]]:
        """Return the values of a lane in ``count`` bins of the same length.

        :param start: begin of the first bin, not after the first period that was added.
        :param end: end of the last bin, not before the last one.
        """
        width = (end - start) / count
        columns = len(next(iter(self.cells.values())))
        sums = [[0.0] * columns for _ in range(count)]
        for number in range(self.first, self.last + 1):
            values = self.cells.get((lane, number))
            if values is None:
                continue
            # Nothing happened before the start and after the end.
            begin = max(number * self.width - start, 0.0)
            stop = min((number + 1) * self.width, end) - start
            first, last = int(begin / width), min(int(stop / width), count - 1)
            for to, share in _shares(begin, stop, width, min(first, last), last):
                for place, value in enumerate(values):
                    sums[to][place] += value * share
        return sums

    def _widen(self) -> None:
        self.width *= 2
        self.first //= 2
        self.last //= 2
        cells, self.cells = self.cells, {}
        for (lane, number), values in cells.items():
            sums = self.cells.setdefault((lane, number // 2), [0.0] * len(values))
            for place, value in enumerate(values):
                sums[place] += value


def _shares(begin: float, end: float, width: float, first: int, last: int) -> Iterator[tuple[int, float]]:
    """Yield the bins of a period, and the share of the period in each."""
    if first == last or end <= begin:
        yield last, 1.0
        return
    for number in range(first, last + 1):
        since = begin if number == first else number * width
        until = end if number == last else (number + 1) * width
        yield number, (until - since) / (end - begin)
