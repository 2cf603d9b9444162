"""Cut by the statistics where probes of the index confirm them, and by a walk where they do not.

For ranges that are smaller than the buckets of the statistics, and for stale statistics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise
from math import ceil

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.index_probes import KeyInterval, find_uneven
from burla_provider.ranges.index_walk import IndexScan, walk
from burla_provider.ranges.ordinals import ordinal_codec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import histogram, keyset

_MAX_WALKED_ROWS = 100_000_000
"""A walk over this number of index entries takes half a minute. Further buckets are not checked."""

_WALK_ALL_ABOVE = 0.5
"""If more than this fraction of the rows must be walked over, walk over all of them: then every cut is exact."""

_MAX_FREQUENT = 0.2
"""Maximum fraction of the rows with frequent values. Probes do not count these rows; only ANALYZE does."""


def can_probe(profile: RelationProfile) -> bool:
    """Return whether probes are possible.

    They require statistics and an index of one column whose values can be encoded and mostly differ.
    """
    if profile.statistics is None or profile.statistics.distribution is None:
        return False
    if not profile.is_indexed or len(profile.key.columns) > 1:
        return False
    distribution = profile.statistics.distribution
    return (
        distribution.codec is not None
        and sum(bound.frequency for bound in distribution.bounds) <= _MAX_FREQUENT * distribution.rows
    )


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return the statistics' distribution, with counted rows where probes find that they are unevenly spread."""
    if not can_probe(profile):
        problem = (
            f"'probed' is not supported for the key {profile.key}. It requires statistics and an index of one column"
            " of integers, numerics, dates, timestamps or uuids that mostly differ."
        )
        raise InvalidParameterError("split", problem, "Use 'keyset'.")
    distribution = histogram.measure(connection, profile, sizing)
    uneven = _uneven_buckets(connection, profile, distribution, sizing.target)
    rows = sum(distribution.bounds[index].bucket_rows for index in uneven)
    if rows > profile.rows * _WALK_ALL_ABOVE and profile.rows <= _MAX_WALKED_ROWS:
        return keyset.measure(connection, profile, sizing)
    step_rows = ceil(rows / keyset.MAX_STEPS)
    bounds = list(distribution.bounds)
    for first, last in reversed(list(_runs(uneven))):
        scan = IndexScan.of_relation(profile, distribution.bounds[first].bound, distribution.bounds[last + 1].bound)
        bounds[first : last + 1] = _walk(connection, scan, step_rows)
    # Numerics found by the walk may have more decimal places than those of the statistics.
    codec = ordinal_codec(profile.sort_key.columns[0], [bound.bound[0] for bound in bounds])
    assert codec is not None  # noqa: S101 - see can_probe
    encoded = (bound._replace(ordinal=codec.encode(bound.bound[0])) for bound in bounds)
    return replace(distribution, bounds=tuple(encoded), codec=codec)


def _uneven_buckets(
    connection: PlannerConnection, profile: RelationProfile, distribution: Distribution, target: float
) -> list[int]:
    """Return the indexes of the buckets that must be walked over.

    Probes all buckets that would be cut inside, or, if the statistics are stale, all buckets.
    """
    codec = distribution.codec
    assert codec is not None  # noqa: S101 - see can_probe
    intervals: dict[int, KeyInterval] = {}
    uneven = set()
    for index, (start, end) in enumerate(pairwise(distribution.bounds)):
        if start.bucket_rows <= (0 if profile.distrust_reason else target):
            continue
        if start.ordinal is None or end.ordinal is None:
            uneven.add(index)  # next to infinity, for example, where there are no distances
        elif end.ordinal - start.ordinal > 1:
            intervals[index] = KeyInterval(start.ordinal + 1, end.ordinal, start.bucket_rows)
    found = find_uneven(connection, profile, codec, list(intervals.values()), target)
    indexes = list(intervals)
    return list(_affordable(distribution, sorted(uneven.union(indexes[number] for number in found))))


def _affordable(distribution: Distribution, indexes: list[int]) -> Iterator[int]:
    rows = 0.0
    for index in indexes:
        rows += distribution.bounds[index].bucket_rows
        if rows > _MAX_WALKED_ROWS:
            return
        yield index


def _runs(indexes: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last index of each run of consecutive indexes."""
    for _, run in groupby(enumerate(indexes), key=lambda pair: pair[1] - pair[0]):
        consecutive = [index for _, index in run]
        yield consecutive[0], consecutive[-1]


def _walk(connection: PlannerConnection, scan: IndexScan, step_rows: int) -> list[HistogramBound]:
    with connection.local_settings(**PREFER_INDEX):
        steps = walk(connection, scan, step_rows, double_step_after=2 * keyset.MAX_STEPS)
        return [HistogramBound(bound, bucket_rows=rows) for bound, rows in steps]
