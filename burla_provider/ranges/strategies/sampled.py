"""From the statistics, where looks at the index find them right, and by a walk where they do not, or mostly do not.

For ranges finer than the statistics, whose buckets say nothing of what is inside, and for statistics that are stale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from math import ceil

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.index_sampling import KeyInterval, find_uneven
from burla_provider.ranges.index_walk import Path, walk
from burla_provider.ranges.ordinals import axis_of
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import histogram, keyset

_MOST_WALKED = 100_000_000
"""Rows whose index is walked in half a minute. What is uneven beyond that stays so."""

_MOSTLY = 0.5
"""Where more than this part of the rows is to be walked over, the others are too, and every cut is exact."""

_MOST_FREQUENT = 0.2
"""Part of the rows that may be those of frequent values, whose number only ANALYZE could tell anew."""


def can_probe(piece: RelationProfile) -> bool:
    """Whether there are statistics, and an index to look at, of a key whose values can be counted and differ."""
    if (
        piece.statistics is None
        or piece.statistics.distribution is None
        or not piece.is_indexed
        or len(piece.key.columns) > 1
    ):
        return False
    shape = piece.statistics.distribution
    return shape.axis is not None and sum(knot.mass for knot in shape.knots) <= _MOST_FREQUENT * shape.rows


def measure(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
    if not can_probe(piece):
        problem = (
            f"'probed' needs statistics and an index of one column of differing numbers, moments or uuids: {piece.key}."
        )
        raise InvalidParameterError("split", problem, "Use 'keyset'.")
    shape = histogram.measure(queries, piece, size)
    uneven = _uneven_gaps(queries, piece, shape, size.target)
    rows = sum(shape.knots[number].gap for number in uneven)
    if rows > piece.rows * _MOSTLY and piece.rows <= _MOST_WALKED:
        return keyset.measure(queries, piece, size)
    step = ceil(rows / keyset.MOST_STEPS)
    knots = list(shape.knots)
    for first, last in reversed(list(_runs(uneven))):
        path = Path(
            piece.source,
            piece.sort_key,
            piece.key,
            shape.knots[first].bound,
            shape.knots[last + 1].bound,
            piece.is_unique,
        )
        knots[first : last + 1] = _walked(queries, path, step)
    # Numerics that were walked over may have more digits than those of the statistics.
    axis = axis_of(piece.sort_key.columns[0], [knot.bound[0] for knot in knots])
    assert axis is not None  # noqa: S101 - can_probe
    placed = (knot._replace(place=axis.read(knot.bound[0])) for knot in knots)
    return replace(shape, knots=tuple(placed), axis=axis)


def _uneven_gaps(queries: PlannerConnection, piece: RelationProfile, shape: Distribution, target: float) -> list[int]:
    """The gaps between knots that are not as they look: for the cuts inside them, or, by stale statistics, at all."""
    axis = shape.axis
    assert axis is not None  # noqa: S101 - can_probe
    stretches: dict[int, KeyInterval] = {}
    uneven = set()
    for number, (knot, following) in enumerate(pairwise(shape.knots)):
        if knot.gap <= (0 if piece.distrust_reason else target):
            continue
        if knot.place is None or following.place is None:
            uneven.add(number)  # next to infinity, where there are no distances
        elif following.place - knot.place > 1:
            stretches[number] = KeyInterval(knot.place + 1, following.place, knot.gap)
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


def _walked(queries: PlannerConnection, path: Path, step: int) -> list[HistogramBound]:
    with queries.local_settings(**PREFER_INDEX):
        return [
            HistogramBound(one.bound, gap=one.rows)
            for one in walk(queries, path, step, hurry_after=2 * keyset.MOST_STEPS)
        ]
