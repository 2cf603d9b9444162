"""Where a table's rows are along its key, and where to cut it into ranges of about equal size, without the server.

Numbers of rows are floats: they are estimates, unless a strategy counted the rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import NamedTuple

from burla_provider.ranges.key import Bound
from burla_provider.ranges.ordinals import OrdinalCodec

_MAX_DENSITY_RATIO = 8
"""Neighboring buckets whose densities differ by a larger factor are not cut inside."""


class HistogramBound(NamedTuple):
    """A known key, and the bucket that begins with it.

    :param bound: the key.
    :param ordinal: ordinal of the key's first column; None if it cannot be encoded.
    :param frequency: rows with exactly this key, if it is a frequent one.
    :param bucket_rows: rows after this key and before the next bound.
    """

    bound: Bound
    ordinal: int | None = None
    frequency: float = 0.0
    bucket_rows: float = 0.0

    @property
    def rows(self) -> float:
        """Rows from this key to the next bound."""
        return self.frequency + self.bucket_rows


class Cut(NamedTuple):
    """Where one range ends and the next one begins.

    :param bound: the first key of the next range.
    :param rows_before: rows of the table before it.
    """

    bound: Bound
    rows_before: float


@dataclass(frozen=True)
class Distribution:
    """The rows along the key.

    :param bounds: ascending in the server's order. The first one is where the rows begin.
    :param codec: codec of the first column, to cut inside of buckets; None: cut at the bounds only.
    :param suffix_bounds: values of the other columns in a cut inside of a bucket.
    :param cuts_fixed: cut at every bound but the first, however many ranges are requested.
    """

    bounds: tuple[HistogramBound, ...]
    codec: OrdinalCodec | None = None
    suffix_bounds: Bound = ()
    cuts_fixed: bool = False

    @property
    def rows(self) -> float:
        """All rows."""
        return sum(bound.rows for bound in self.bounds)

    @property
    def most_common(self) -> HistogramBound:
        """The most frequent key."""
        return max(self.bounds, key=lambda bound: bound.frequency)

    def scaled(self, rows: float) -> Distribution:
        """Return the same distribution with another number of rows."""
        factor = rows / self.rows
        bounds = (
            bound._replace(frequency=bound.frequency * factor, bucket_rows=bound.bucket_rows * factor)
            for bound in self.bounds
        )
        return replace(self, bounds=tuple(bounds))

    def cuts(self, count: int) -> list[Cut]:
        """Return the cuts for ``count`` ranges of about equal size; fewer if there are fewer keys."""
        rows_before = self._rows_before_bounds()
        if self.cuts_fixed:
            pairs = zip(self.bounds[1:], rows_before[1:], strict=False)
            return [Cut(bound.bound, rows) for bound, rows in pairs]
        target = rows_before[-1] / count
        uneven = self._uneven_buckets(target)
        goals = (target * number for number in range(1, count))
        return list(_distinct((self._nearest_cut(goal, rows_before, uneven) for goal in goals), rows_before[-1]))

    def min_cuts(self, count: int) -> float:
        """Return the minimum number of cuts that ``cuts(count)`` returns. Allows a check before memory is allocated."""
        if self.cuts_fixed or self.codec is None:
            return 0.0
        target = self.rows / count or 1.0
        # The goals next to a bound may be cut at the bound, or not at all.
        return sum(
            max(min(bound.bucket_rows / target, self._ordinals_inside(index)) - 3, 0.0)
            for index, bound in enumerate(self.bounds)
        )

    def rows_before(self, ordinals: Sequence[int]) -> list[float]:
        """Return how many rows are before each ordinal. Every bound must have an ordinal."""
        known = [bound.ordinal or 0 for bound in self.bounds]
        rows_before = self._rows_before_bounds()
        buckets = ((ordinal, bisect_right(known, ordinal - 1) - 1) for ordinal in ordinals)
        return [self._rows_before(ordinal, index, rows_before) if index >= 0 else 0.0 for ordinal, index in buckets]

    def _rows_before_bounds(self) -> list[float]:
        """Return the rows before each bound, and, as the last element, all rows."""
        return [0.0, *accumulate(bound.rows for bound in self.bounds)]

    def _rows_before(self, ordinal: int, index: int, rows_before: list[float]) -> float:
        """Return the rows before an ordinal inside of a bucket."""
        start, end = self.bounds[index], self._bucket_end(index)
        part = 1.0
        if start.ordinal is not None and end is not None:
            part = min((ordinal - start.ordinal) / (end - start.ordinal), 1.0)
        return rows_before[index] + start.frequency + start.bucket_rows * part

    def _uneven_buckets(self, target: float) -> set[int]:
        """Return the indexes of buckets that are not cut inside.

        Where the density jumps from one bucket to the next, the rows of both may be unevenly spread. A bucket with more
        rows than a range should have is cut nevertheless.
        """
        indexes = range(len(self.bounds))
        try:
            densities = [self._density(index, float) for index in indexes]
        except OverflowError:  # numerics of more than 308 digits
            densities = [self._density(index, Fraction) for index in indexes]
        jumps = [
            index
            for index, (density, next_density) in enumerate(pairwise(densities))
            if density and next_density and not 1 / _MAX_DENSITY_RATIO < density / next_density < _MAX_DENSITY_RATIO
        ]
        neighbors = {index + side for index in jumps for side in (0, 1)}
        return {index for index in neighbors if self.bounds[index].bucket_rows <= target}

    def _density(self, index: int, number: type[float] | type[Fraction]) -> float | Fraction | None:
        """Return the rows per ordinal of a bucket; None if it has no length."""
        start, end = self.bounds[index], self._bucket_end(index)
        return None if start.ordinal is None or end is None else number(start.bucket_rows) / (end - start.ordinal)

    def _nearest_cut(self, goal: float, rows_before: list[float], uneven: set[int]) -> Cut:
        """Return the cut with about ``goal`` rows before it."""
        index = min(bisect_right(rows_before, goal), len(self.bounds)) - 1
        missing = goal - rows_before[index] - self.bounds[index].frequency
        ordinal = None if index in uneven else self._ordinal_after(index, missing)
        inside = None if ordinal is None else self._cut_inside(ordinal, index, rows_before)
        if inside is not None and missing > 0:
            return inside
        # The goal is among rows with the same key, or in a bucket that cannot be cut.
        ends = zip(self.bounds[index : index + 2], rows_before[index : index + 2], strict=False)
        cuts = [Cut(bound.bound, rows) for bound, rows in ends]
        if inside is not None:
            cuts.append(inside)
        return min(cuts, key=lambda cut: abs(cut.rows_before - goal))

    def _ordinal_after(self, index: int, rows: float) -> int | None:
        """Return the ordinal inside of a bucket that has ``rows`` of its rows before it; None if there is none."""
        start, end = self.bounds[index], self._bucket_end(index)
        if self.codec is None or start.ordinal is None or end is None or end - start.ordinal < 2:
            return None
        # At least 1, so that the rows with the bound's own key stay before it. As a fraction, because a float cannot
        # hold every ordinal.
        part = max(rows, 0.0) / start.bucket_rows if start.bucket_rows else 0.0
        numerator, denominator = part.as_integer_ratio()
        steps = (end - start.ordinal) * numerator // denominator
        return min(start.ordinal + max(steps, 1), end - 1)

    def _cut_inside(self, ordinal: int, index: int, rows_before: list[float]) -> Cut:
        assert self.codec is not None  # noqa: S101 - see _ordinal_after
        return Cut((self.codec.decode(ordinal), *self.suffix_bounds), self._rows_before(ordinal, index, rows_before))

    def _bucket_end(self, index: int) -> int | None:
        return self.bounds[index + 1].ordinal if index + 1 < len(self.bounds) else None

    def _ordinals_inside(self, index: int) -> int:
        """Return how many ordinals are inside of a bucket; 0 if its length is unknown."""
        start, end = self.bounds[index].ordinal, self._bucket_end(index)
        return 0 if start is None or end is None else end - start - 1


def _distinct(cuts: Iterator[Cut], rows: float) -> Iterator[Cut]:
    """Yield the cuts that leave rows on both sides and after the previous cut."""
    last = 0.0
    for cut in cuts:
        if last < cut.rows_before < rows:
            yield cut
            last = cut.rows_before
