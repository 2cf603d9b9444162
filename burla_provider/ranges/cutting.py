"""Cut the window of each relation into spans of about equal size, and cut those again that are too large."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.index_probes import KeyInterval, find_uneven
from burla_provider.ranges.index_walk import IndexScan, walk
from burla_provider.ranges.key import Bound
from burla_provider.ranges.ordinals import min_value, ordinal_codec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import fetch_end_keys
from burla_provider.ranges.strategies import Strategy

_MAX_OVERSIZE = 1.5
"""Spans with up to this factor times the requested rows are not cut again."""

_UNSEEN_PART = 0.25
"""If ANALYZE may have missed more than this part of a range's rows, the first and the last span are checked."""

_SPARE_ROOM = 0.99
"""Fraction of ``max_ranges`` to use first, because checks of the first and the last span add a few ranges."""

_SAMPLED_ROWS = 300
"""Rows that ANALYZE samples per bucket: https://www.postgresql.org/docs/current/planner-stats.html."""

_CHECKS_PER_QUERY = 100
"""Checks in a query on a single relation. The server plans every check for every partition."""

_ORDINALS_PER_RANGE = 16
"""Cutting by distance requires a column of many values. With fewer, cuts are far from where they should be."""

_MAX_PARTS = 8
"""Parts of a frequent value's rows that are probed separately, so that unevenness that probes miss is small."""


class Span(NamedTuple):
    """The keys from ``lower`` (inclusive) to ``upper`` (exclusive), None if open, with an estimate of their rows."""

    lower: Bound | None
    upper: Bound | None
    rows: float


@dataclass(frozen=True)
class MeasuredRelation:
    """A relation, the strategy that was chosen for it, and the distribution that the strategy found."""

    profile: RelationProfile
    strategy: Strategy
    distribution: Distribution


def cut_relations(
    connection: PlannerConnection, relations: Sequence[MeasuredRelation], sizing: RangeSizing, *, refine: bool
) -> list[list[Span]]:
    """Return the spans of each relation. Together, a relation's spans are its window.

    :param sizing: the sizing for all relations together.
    :param refine: check the size of every span.
    :raises InvalidParameterError: if there would be too many ranges, or ``refine`` requires an index that is missing.
    """
    sizing = replace(sizing, rows=sum(relation.distribution.rows for relation in relations))
    _check_min_cuts(relations, sizing)

    def cut(sizing: RangeSizing, *, check_ends: bool = True) -> list[list[Span]]:
        return [
            list(
                _refine(
                    connection,
                    relation,
                    _cut_window(relation, sizing),
                    sizing.target,
                    refine=refine,
                    check_ends=check_ends,
                )
            )
            for relation in relations
        ]

    is_adjustable = not refine and sizing.rows_per_range is None
    is_estimated = any(relation.strategy.uses_statistics for relation in relations)
    count, room = sizing.range_count(sizing.rows), _SPARE_ROOM * sizing.max_ranges
    # Start with fewer ranges than the maximum, because cutting a second time may take a second.
    first_count = min(count, max(int(room), 1)) if is_adjustable and is_estimated else count
    spans = cut(sizing if first_count == count else replace(sizing, ranges=first_count))
    if is_adjustable and span_count(spans) > sizing.max_ranges:
        spans = cut(replace(sizing, ranges=max(int(first_count * room / span_count(spans)), 1)))
    if refine or span_count(spans) <= sizing.max_ranges:
        return spans
    # A plan whose first and last spans may be a little too large is better than no plan.
    return cut(sizing, check_ends=False)


def span_count(spans: Sequence[Sequence[Span]]) -> int:
    """Return how many spans all relations have."""
    return sum(map(len, spans))


def _cut_window(relation: MeasuredRelation, sizing: RangeSizing) -> list[Span]:
    """Return spans that each begin where the previous one ends; the outer ends are those of the window."""
    window, distribution = relation.profile.window, relation.distribution
    cuts = distribution.cuts(sizing.ranges_for(distribution.rows))
    if window.is_empty:
        return []
    bounds = [window.lower, *(cut.bound for cut in cuts), window.upper]
    rows_before = [0.0, *(cut.rows_before for cut in cuts), distribution.rows]
    return [
        Span(lower, upper, later - earlier)
        for (lower, upper), (earlier, later) in zip(pairwise(bounds), pairwise(rows_before), strict=True)
    ]


def _check_min_cuts(relations: Sequence[MeasuredRelation], sizing: RangeSizing) -> None:
    """Check the number of cuts before they are computed, because they might take all memory."""
    if sizing.rows_per_range is not None:
        distributions = (relation.distribution for relation in relations)
        cuts = sum(distribution.min_cuts(sizing.ranges_for(distribution.rows)) for distribution in distributions)
        sizing.check_limit("rows_per_range", int(cuts))


def _refine(
    connection: PlannerConnection,
    relation: MeasuredRelation,
    spans: Sequence[Span],
    target: float,
    *,
    refine: bool,
    check_ends: bool,
) -> Iterable[Span]:
    """Return the spans, with those cut again that were checked and found too large."""
    profile, strategy = relation.profile, relation.strategy
    if strategy.is_exact or not strategy.can_refine:
        return spans
    if refine and not profile.is_indexed:
        problem = f"requires an index in the order of {profile.key}. Without one, every check would scan the table."
        raise InvalidParameterError("refine", problem, "Create an index, or leave refine out.")
    suspects = range(len(spans)) if refine else _suspects(relation, spans, target, check_ends=check_ends)
    return _cut_oversize(connection, profile, spans, target, suspects, exact=refine) if suspects else spans


def _suspects(relation: MeasuredRelation, spans: Sequence[Span], target: float, *, check_ends: bool) -> Collection[int]:
    """Return the indexes of spans that may be too large although the statistics are fresh."""
    profile = relation.profile
    if not relation.strategy.uses_statistics or not profile.is_indexed:
        return ()
    # A frequent value of the first column can be cut by the next column, for which there are no statistics.
    has_several_columns = len(profile.key.columns) > 1
    oversize = {index for index, span in enumerate(spans) if has_several_columns and span.rows > _MAX_OVERSIZE * target}
    # Rows inserted since ANALYZE are mostly beyond the minimum and the maximum that it found, as are a few older ones.
    buckets = max(profile.statistics.bound_count if profile.statistics else 1, 1)
    unseen = profile.changes_since_analyze + profile.rows / (_SAMPLED_ROWS * buckets)
    return oversize | {0, len(spans) - 1} if check_ends and unseen > _UNSEEN_PART * target else oversize


def _cut_oversize(
    connection: PlannerConnection,
    profile: RelationProfile,
    spans: Sequence[Span],
    target: float,
    suspects: Collection[int],
    *,
    exact: bool,
) -> Iterator[Span]:
    """Yield the spans. Suspects that have too many rows are cut by distance or by a walk.

    :param target: rows per range.
    :param suspects: indexes of the spans to check. A check reads up to ``target`` index entries.
    :param exact: walk also where rows are evenly spread, and cutting by distance would do.
    """
    with connection.local_settings(**PREFER_INDEX):
        even: dict[int, list[Span]] = {}
        if not exact:
            even = {index: _cut_by_distance(connection, profile, spans[index], target) for index in suspects}
        unsolved = [index for index in sorted(suspects) if not even.get(index)]
        oversize = set(_find_oversize(connection, profile, spans, target, unsolved))
        for index, span in enumerate(spans):
            if even.get(index):
                yield from even[index]
            elif index in oversize:
                yield from _cut_by_walk(connection, profile, span, target)
            else:
                yield span


def _cut_by_distance(connection: PlannerConnection, profile: RelationProfile, span: Span, target: float) -> list[Span]:
    """Cut rows with the same first columns by distance along the next column.

    Return an empty list if the distances are unknown, or the rows are not evenly spread.
    """
    columns = profile.sort_key.columns
    ranges = round(span.rows / target)
    if ranges < 2 or len(columns) < 2:
        return []
    ends = fetch_end_keys(connection, profile.sort_key, profile.from_sql, _inside(profile, span), "min", "max")
    first, last = ends or ((), ())
    pairs = enumerate(zip(first, last, strict=True))
    shared = next((position for position, (lower, upper) in pairs if lower != upper), 0)
    if not shared:
        return []
    codec = ordinal_codec(columns[shared], [first[shared], last[shared]])
    start, end = (codec.encode(bound[shared]) for bound in (first, last)) if codec else (None, None)
    minimums = [value for column in columns[shared + 1 :] if (value := min_value(column)) is not None]
    if codec is None or start is None or end is None or len(minimums) < len(columns) - shared - 1:
        return []
    if end - start < _ORDINALS_PER_RANGE * ranges:
        return []
    parts = min(ranges, _MAX_PARTS)
    edges = [start + (end - start) * number // parts for number in range(parts + 1)]
    intervals = [KeyInterval(lower, upper, span.rows / parts) for lower, upper in pairwise(edges)]
    if find_uneven(connection, profile, codec, intervals, target, first[:shared]):
        return []
    cuts = sorted({start + (end + 1 - start) * number // ranges for number in range(1, ranges)} - {start})
    bounds = [span.lower, *((*first[:shared], codec.decode(cut), *minimums) for cut in cuts), span.upper]
    return [Span(lower, upper, span.rows / (len(bounds) - 1)) for lower, upper in pairwise(bounds)]


def _find_oversize(
    connection: PlannerConnection,
    profile: RelationProfile,
    spans: Sequence[Span],
    target: float,
    suspects: Sequence[int],
) -> Iterator[int]:
    """Yield the indexes of the suspects that have too many rows."""
    batch = max(_CHECKS_PER_QUERY // max(len(profile.leaves), 1), 1)
    limit = sql.Literal(int(_MAX_OVERSIZE * target))
    for start in range(0, len(suspects), batch):
        checks = [
            sql.SQL("SELECT {}, EXISTS (SELECT FROM {} AS origin WHERE {} OFFSET {})").format(
                sql.Literal(index), profile.from_sql, _inside(profile, spans[index]), limit
            )
            for index in suspects[start : start + batch]
        ]
        yield from (
            index for index, is_larger in connection.fetch_all(sql.SQL(" UNION ALL ").join(checks)) if is_larger
        )


def _cut_by_walk(connection: PlannerConnection, profile: RelationProfile, span: Span, target: float) -> Iterator[Span]:
    scan = IndexScan.of_relation(profile, span.lower, span.upper)
    steps = list(walk(connection, scan, max(int(target), 1)))
    bounds = [span.lower, *(step.bound for step in steps[1:]), span.upper]
    for step, (lower, upper) in zip(steps, pairwise(bounds), strict=False):
        yield Span(lower, upper, step.rows)


def _inside(profile: RelationProfile, span: Span) -> sql.Composable:
    return range_condition(profile.key, span.lower, span.upper)
