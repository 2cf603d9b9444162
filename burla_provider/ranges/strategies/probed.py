"""From the statistics, where looks at the index find them right, and by a walk where they do not.

For ranges finer than the statistics, whose buckets say nothing of what is inside, and for statistics that are stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from math import ceil

from burla_provider.exceptions import InvalidParameter
from burla_provider.ranges.axis import Axis, axis_of
from burla_provider.ranges.distribution import Distribution, Knot
from burla_provider.ranges.evenness import Stretch, find_uneven
from burla_provider.ranges.key_range import Bound
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.size import Size
from burla_provider.ranges.strategies import histogram
from burla_provider.ranges.survey import READ_BY_INDEX, Piece
from burla_provider.ranges.walk import Path, walk

_MOST_STEPS = 10_000
"""A finer walk would take longer, and cuts are interpolated between steps."""

_MOST_WALKED = 100_000_000
"""Rows whose index is walked in a minute. Of a larger table, what is uneven beyond that stays so."""


def can_probe(piece: Piece) -> bool:
    """Whether there are statistics, and an index to look at, of a key whose values can be counted."""
    known = piece.statistics is not None and piece.statistics.shape is not None
    return known and piece.indexed and len(piece.key.columns) == 1 and axis_of(piece.key.columns[0]) is not None


def measure(queries: Queries, piece: Piece, size: Size) -> Distribution:
    if not can_probe(piece):
        problem = (
            f"'probed' needs statistics and an index of one column whose values can be counted; not so {piece.key}."
        )
        raise InvalidParameter("split", problem, "Use 'keyset'.")
    shape = histogram.measure(queries, piece, size)
    uneven = _uneven_gaps(queries, piece, shape, size.target)
    step = ceil(sum(shape.knots[number].gap for number in uneven) / _MOST_STEPS)
    knots = list(shape.knots)
    for first, last in reversed(list(_runs(uneven))):
        upper = shape.knots[last + 1].bound if last + 1 < len(shape.knots) else piece.window.upper
        knots[first : last + 1] = _walked(queries, piece, shape.axis, shape.knots[first].bound, upper, max(step, 1))
    return replace(shape, knots=tuple(knots))


def _uneven_gaps(queries: Queries, piece: Piece, shape: Distribution, target: float) -> list[int]:
    """The gaps between knots that are not as they look: for the cuts inside them, or, by stale statistics, at all."""
    axis = shape.axis
    assert axis is not None  # noqa: S101 - can_probe
    stretches: dict[int, Stretch] = {}
    uneven = set()
    for number, (knot, following) in enumerate(pairwise(shape.knots)):
        if knot.gap <= (0 if piece.doubt else target):
            continue
        if knot.place is None or following.place is None:
            uneven.add(number)  # next to infinity, where there are no distances
        elif following.place - knot.place > 1:
            stretches[number] = Stretch(knot.place + 1, following.place, knot.gap)
    found = find_uneven(queries, piece, axis, list(stretches.values()), target)
    numbers = list(stretches)
    return list(_affordable(shape, sorted(uneven.union(numbers[place] for place in found))))


def _affordable(shape: Distribution, numbers: list[int]) -> Iterator[int]:
    rows = 0.0
    for number in numbers:
        rows += shape.knots[number].gap
        if rows > _MOST_WALKED:
            return
        yield number


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of numbers that follow each other."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run_numbers = [number for _, number in run]
        yield run_numbers[0], run_numbers[-1]


def _walked(
    queries: Queries, piece: Piece, axis: Axis | None, lower: Bound, upper: Bound | None, step: int
) -> list[Knot]:
    path = Path(piece.source, piece.order, piece.key, lower, upper, piece.unique)
    with queries.locally(**READ_BY_INDEX):
        steps = list(walk(queries, path, step, hurry_after=2 * _MOST_STEPS))
    return [Knot(one.bound, axis.read(one.bound[0]) if axis else None, gap=one.rows) for one in steps]
