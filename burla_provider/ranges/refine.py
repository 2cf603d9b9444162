"""Looking whether ranges are as large as they should be, and cutting those that are larger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from psycopg import sql

from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.index_sampling import KeyInterval, find_uneven
from burla_provider.ranges.index_walk import Path, walk
from burla_provider.ranges.ordinals import axis_of, least_of
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sort_key import fetch_end_keys
from burla_provider.ranges.spans import Span

OVERSIZE = 1.5
"""Ranges of up to so many times the rows wanted stay as they are."""

_PROBES_A_QUERY = 100
"""Of one relation. The server plans each of them for each partition."""

_PLACES_A_RANGE = 16
"""Cutting by distance is for a column of many values. Between a few, cuts are not near where they should be."""

_LOOKED_AT = 8
"""Parts that a frequent value's rows are looked at in: so that what a look misses is small next to a range."""


def refine(
    queries: PlannerConnection,
    piece: RelationProfile,
    spans: Sequence[Span],
    target: float,
    suspects: Collection[int],
    *,
    exact: bool,
) -> Iterator[Span]:
    """The same spans, but of the suspects those that have too many rows are cut by walking over them.

    :param target: rows wanted.
    :param suspects: numbers of the spans to look at. Looking costs up to ``target`` index entries each.
    :param exact: walk also where rows are evenly spread, so that cutting by distance would do.
    """
    with queries.local_settings(**PREFER_INDEX):
        even = {} if exact else {number: _cut_evenly(queries, piece, spans[number], target) for number in suspects}
        oversize = set(_oversize(queries, piece, spans, target, [one for one in sorted(suspects) if not even.get(one)]))
        for number, span in enumerate(spans):
            yield from even.get(number) or (_cut(queries, piece, span, target) if number in oversize else [span])


def _cut_evenly(queries: PlannerConnection, piece: RelationProfile, span: Span, target: float) -> list[Span]:
    """The rows that share their first columns, cut by distance along the next one; nothing where that is not sound."""
    ranges = round(span.rows / target)
    if ranges < 2 or len(piece.sort_key.columns) < 2:
        return []
    first, last = fetch_end_keys(queries, piece.sort_key, piece.source, _inside(piece, span), "min", "max") or ((), ())
    shared = next((place for place, (one, other) in enumerate(zip(first, last, strict=True)) if one != other), 0)
    if not shared:
        return []
    axis = axis_of(piece.sort_key.columns[shared], [first[shared], last[shared]])
    rest = [least_of(column) for column in piece.sort_key.columns[shared + 1 :]]
    start, end = (axis.read(bound[shared]) for bound in (first, last)) if axis else (None, None)
    if axis is None or start is None or end is None or None in rest or end - start < _PLACES_A_RANGE * ranges:
        return []
    parts = min(ranges, _LOOKED_AT)
    edges = [start + (end - start) * number // parts for number in range(parts + 1)]
    stretches = [KeyInterval(lower, upper, span.rows / parts) for lower, upper in pairwise(edges)]
    if find_uneven(queries, piece, axis, stretches, target, first[:shared]):
        return []
    least = [value for value in rest if value is not None]
    cuts = sorted({start + (end + 1 - start) * number // ranges for number in range(1, ranges)} - {start})
    bounds = [span.lower, *((*first[:shared], axis.write(cut), *least) for cut in cuts), span.upper]
    return [Span(lower, upper, span.rows / (len(bounds) - 1)) for lower, upper in pairwise(bounds)]


def _oversize(
    queries: PlannerConnection, piece: RelationProfile, spans: Sequence[Span], target: float, suspects: Sequence[int]
) -> Iterator[int]:
    at_once = max(_PROBES_A_QUERY // max(len(piece.leaves), 1), 1)
    for start in range(0, len(suspects), at_once):
        probes = [
            sql.SQL("SELECT {}, EXISTS (SELECT FROM {} AS origin WHERE {} OFFSET {})").format(
                sql.Literal(number), piece.source, _inside(piece, spans[number]), sql.Literal(int(OVERSIZE * target))
            )
            for number in suspects[start : start + at_once]
        ]
        yield from (number for number, larger in queries.fetch_all(sql.SQL(" UNION ALL ").join(probes)) if larger)


def _cut(queries: PlannerConnection, piece: RelationProfile, span: Span, target: float) -> Iterator[Span]:
    path = Path(piece.source, piece.sort_key, piece.key, span.lower, span.upper, piece.is_unique)
    steps = list(walk(queries, path, max(int(target), 1)))
    bounds = [span.lower, *(step.bound for step in steps[1:]), span.upper]
    for step, lower, upper in zip(steps, bounds, bounds[1:], strict=False):
        yield Span(lower, upper, step.rows)


def _inside(piece: RelationProfile, span: Span) -> sql.Composable:
    return range_condition(piece.key, span.lower, span.upper)
