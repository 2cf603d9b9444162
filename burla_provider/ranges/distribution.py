"""Where the rows of a table are along its key, and where to cut for ranges of equal size. Nothing here asks the server.

Rows are floats here: they are estimates, unless somebody counted.
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

_UNEVEN = 8
"""Neighbouring gaps whose densities are that many times apart."""


class HistogramBound(NamedTuple):
    """A key that is known by value.

    :param bound: the key.
    :param place: of its first column on the column's axis; None where it has none.
    :param mass: rows with just this key, where they are known to be many.
    :param gap: rows from here to the next knot.
    """

    bound: Bound
    place: int | None = None
    mass: float = 0.0
    gap: float = 0.0


class Cut(NamedTuple):
    """Where one range ends and the next one begins, and how many rows are before it."""

    bound: Bound
    before: float


@dataclass(frozen=True)
class Distribution:
    """The rows along the key.

    :param knots: ascending in the server's order. The first one is where the rows begin.
    :param axis: of the first column, to cut between knots by; None: cut at knots only.
    :param suffix_bounds: what a cut between knots has in the other columns.
    :param settled: the cuts are the knots (but the first), however many ranges are wanted.
    """

    knots: tuple[HistogramBound, ...]
    axis: OrdinalCodec | None = None
    suffix_bounds: Bound = ()
    settled: bool = False

    @property
    def rows(self) -> float:
        return sum(knot.mass + knot.gap for knot in self.knots)

    @property
    def most_common(self) -> HistogramBound:
        """The most frequent key."""
        return max(self.knots, key=lambda knot: knot.mass)

    def scaled(self, rows: float) -> Distribution:
        """The same shape with another number of rows."""
        factor = rows / self.rows
        knots = (knot._replace(mass=knot.mass * factor, gap=knot.gap * factor) for knot in self.knots)
        return replace(self, knots=tuple(knots))

    def cuts(self, count: int) -> list[Cut]:
        """Where to cut for ``count`` ranges of about equal size; fewer when there are not so many keys."""
        before = [0.0, *accumulate(knot.mass + knot.gap for knot in self.knots)]
        if self.settled:
            return [Cut(knot.bound, rows) for knot, rows in zip(self.knots[1:], before[1:], strict=False)]
        target = before[-1] / count
        uneven = self._uneven(target)
        goals = (target * number for number in range(1, count))
        return list(_distinct((self._nearest(goal, before, uneven) for goal in goals), before[-1]))

    def least_cuts(self, count: int) -> float:
        """How many cuts ``cuts`` makes at least, before it makes them: inside of gaps, each at a place of its own."""
        target = self.rows / count or 1.0
        numbers = () if self.settled or self.axis is None else range(len(self.knots))
        # The goals next to a knot may be cut at the knot, or not at all.
        return sum(max(min(self.knots[number].gap / target, self._places(number)) - 3, 0.0) for number in numbers)

    def rows_before(self, places: Sequence[int]) -> list[float]:
        """How many rows are before each place. All knots must have places."""
        known = [knot.place or 0 for knot in self.knots]
        before = [0.0, *accumulate(knot.mass + knot.gap for knot in self.knots)]
        return [self._rows_before(place, bisect_right(known, place - 1) - 1, before) for place in places]

    def _rows_before(self, place: int, number: int, before: list[float]) -> float:
        if number < 0:
            return 0.0
        share = self._share(number, place)
        return before[number] + self.knots[number].mass + self.knots[number].gap * share

    def _uneven(self, target: float) -> set[int]:
        """Numbers of the gaps that are not cut inside, for rows must be dense on one side: the gap next to it is.

        A gap with more rows than a range should have is cut all the same.
        """
        numbers = range(len(self.knots))
        try:
            density = [self._density(number, float) for number in numbers]
        except OverflowError:  # numerics of more than 308 digits
            density = [self._density(number, Fraction) for number in numbers]
        jumps = [
            number
            for number, (own, later) in enumerate(pairwise(density))
            if own and later and not 1 / _UNEVEN < own / later < _UNEVEN
        ]
        sides = {number + side for number in jumps for side in (0, 1)}
        return {number for number in sides if self.knots[number].gap <= target}

    def _density(self, number: int, kind: type[float] | type[Fraction]) -> float | Fraction | None:
        """Rows a place in the gap behind a knot."""
        start, end = self.knots[number].place, self._end(number)
        return None if start is None or end is None else kind(self.knots[number].gap) / (end - start)

    def _nearest(self, goal: float, before: list[float], uneven: set[int]) -> Cut:
        number = min(bisect_right(before, goal), len(self.knots)) - 1
        missing = goal - before[number] - self.knots[number].mass
        inside = None if number in uneven else self._inside(number, missing)
        if inside is not None and missing > 0:
            return self._cut_at(inside, number, before)
        # The goal is among rows with one key, or in a gap that cannot be cut: the next best place.
        ends = zip(self.knots[number : number + 2], before[number : number + 2], strict=False)
        cuts = [Cut(knot.bound, rows) for knot, rows in ends]
        if inside is not None:
            cuts.append(self._cut_at(inside, number, before))
        return min(cuts, key=lambda cut: abs(cut.before - goal))

    def _inside(self, number: int, missing: float) -> int | None:
        """The place inside of a gap that has ``missing`` of the gap's rows before it, if there is such a place."""
        start, end = self.knots[number], self._end(number)
        if self.axis is None or start.place is None or end is None or end - start.place < 2:
            return None
        # At least one place on, so that the knot's own rows stay before it. Exact, for numbers that no float can hold.
        numerator, denominator = (max(missing, 0.0) / start.gap if start.gap else 0.0).as_integer_ratio()
        steps = (end - start.place) * numerator // denominator
        return min(start.place + max(steps, 1), end - 1)

    def _cut_at(self, place: int, number: int, before: list[float]) -> Cut:
        assert self.axis is not None  # noqa: S101 - there are no places inside of gaps otherwise
        knot = self.knots[number]
        rows = before[number] + knot.mass + knot.gap * self._share(number, place)
        return Cut((self.axis.write(place), *self.suffix_bounds), rows)

    def _end(self, number: int) -> int | None:
        return self.knots[number + 1].place if number + 1 < len(self.knots) else None

    def _places(self, number: int) -> int:
        """Inside of the gap behind a knot; none where there are no distances."""
        start, end = self.knots[number].place, self._end(number)
        return 0 if start is None or end is None else end - start - 1

    def _share(self, number: int, place: int) -> float:
        """Which part of the gap behind a knot is before ``place``."""
        start, end = self.knots[number].place, self._end(number)
        return 1.0 if start is None or end is None else min((place - start) / (end - start), 1.0)


def _distinct(cuts: Iterator[Cut], rows: float) -> Iterator[Cut]:
    last = 0.0
    for cut in cuts:
        if last < cut.before < rows:
            yield cut
            last = cut.before
