"""Cut at equal distances along the key. Balanced only if the keys have no gaps and the rows are evenly spread."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.ordinals import OrdinalCodec, min_value, ordinal_codec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import fetch_end_keys

_MEASURABLE = {
    "numeric": ("{key} < 'NaN'",),
    **dict.fromkeys(("date", "timestamp without time zone"), ("{key} >= '0001-01-01'", "{key} < '10000-01-01'")),
    # In the session's time zone: a day less on both sides is in the years 1 to 9999 of every time zone.
    "timestamp with time zone": ("{key} >= '0001-01-02'", "{key} < '9999-12-31'"),
}
"""Conditions for the keys that can be encoded. Rows with other keys are in the first and the last range."""


def build_id_ranges(start_id: int, end_id: int, rows_per_range: int) -> list[tuple[int, int]]:
    """Return ranges of ids from ``start_id`` to ``end_id``, both inclusive, with ``rows_per_range`` ids each.

    :raises InvalidParameterError: if ``rows_per_range`` is not positive.
    """
    if rows_per_range < 1:
        problem = f"must be a positive integer, got {rows_per_range!r}."
        raise InvalidParameterError("rows_per_range", problem, "Use 1 or more.")
    return [(start, min(start + rows_per_range - 1, end_id)) for start in range(start_id, end_id + 1, rows_per_range)]


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return the distribution with a bound at every cut."""
    if len(profile.key.columns) != 1 or ordinal_codec(profile.key.columns[0]) is None:
        types = ", ".join(column.type for column in profile.key.columns)
        problem = f"'width' is not supported for the key {profile.key} ({types})."
        raise InvalidParameterError("split", problem, "Use 'histogram' or 'keyset'.")
    bounds = _window_bounds(profile)
    found = _find_ends(connection, profile) if None in bounds else []
    codec = ordinal_codec(profile.key.columns[0], [*found, *(bound for bound in bounds if bound is not None)])
    assert codec is not None  # noqa: S101 - checked above
    start, end = _interval(codec, bounds, found)
    if start >= end:
        return Distribution((HistogramBound((), bucket_rows=profile.rows),), cuts_fixed=True)
    starts = range(start, end, _step(profile, sizing, end - start))
    rows_before = _rows_before(profile, codec, starts, end)
    rows = (later - earlier for earlier, later in pairwise([0.0, *rows_before[1:], profile.rows]))
    histogram_bounds = (
        HistogramBound((codec.decode(ordinal),), ordinal, bucket_rows=bucket_rows)
        for ordinal, bucket_rows in zip(starts, rows, strict=True)
    )
    return Distribution(tuple(histogram_bounds), cuts_fixed=True)


def _step(profile: RelationProfile, sizing: RangeSizing, length: int) -> int:
    """Return the distance between two cuts."""
    if sizing.rows_per_range is not None and profile.key.is_integer:
        # A range has this many ids, whether or not there is a row for each of them.
        sizing.check_limit("rows_per_range", ceil(length / sizing.rows_per_range))
        return sizing.rows_per_range
    ranges = sizing.ranges_for(profile.rows)
    sizing.check_limit("rows_per_range", ranges)
    return -(-length // ranges)


def _window_bounds(profile: RelationProfile) -> tuple[str | None, str | None]:
    """Return the window's bounds; None for an open bound, and for a bound that cannot be encoded, such as infinity.

    A lower bound at the minimum of the type counts as open: the window has it if only ``end_id`` is given.
    """
    column = profile.key.columns[0]
    lower, upper = (
        _encodable(column, bound[0]) if bound else None for bound in (profile.window.lower, profile.window.upper)
    )
    return None if lower == min_value(column) else lower, upper


def _encodable(column: KeyColumn, value: str) -> str | None:
    codec = ordinal_codec(column, [value])
    return None if codec is None or codec.encode(value) is None else value


def _interval(codec: OrdinalCodec, bounds: tuple[str | None, str | None], found: list[str]) -> tuple[int, int]:
    """Return the ordinals to cut between, the second one exclusive; the same ordinal twice if there are no keys."""
    lower, upper = (None if bound is None else codec.encode(bound) for bound in bounds)
    ends = [codec.encode(value) for value in found]
    if None in ends:
        problem = f"'width' cannot measure the distance to {found[ends.index(None)]}."
        raise InvalidParameterError("split", problem, "Give lower and upper, or use 'keyset'.")
    if None in bounds and not ends:
        return 0, 0
    first, last = [end for end in ends if end is not None] or (0, 0)
    return first if lower is None else lower, last + 1 if upper is None else upper


def _find_ends(connection: PlannerConnection, profile: RelationProfile) -> list[str]:
    """Return the minimum and the maximum key in the window that can be encoded; an empty list if there is no key."""
    key = sql.Identifier(profile.key.names[0])
    measurable = [sql.SQL(text).format(key=key) for text in _MEASURABLE.get(profile.key.columns[0].type, ())]
    condition = sql.SQL(" AND ").join([profile.window_condition, *measurable, sql.SQL("{} IS NOT NULL").format(key)])
    with connection.local_settings(**PREFER_INDEX):
        ends = fetch_end_keys(connection, profile.sort_key, profile.from_sql, condition, "min", "max")
    return [value for (value,) in ends]


def _rows_before(profile: RelationProfile, codec: OrdinalCodec, starts: range, end: int) -> list[float]:
    """Return the estimated rows before each ordinal: by the statistics, or else as if they were evenly spread."""
    distribution = profile.statistics.distribution if profile.statistics else None
    if (
        distribution is None
        or distribution.codec is None
        or any(bound.ordinal is None for bound in distribution.bounds)
    ):
        even = Distribution((HistogramBound((), starts.start, bucket_rows=1.0), HistogramBound((), end)))
        return even.scaled(profile.rows).rows_before(starts)
    # The statistics' codec may count other decimal places of a numeric.
    ordinals = [distribution.codec.encode(codec.decode(ordinal)) or 0 for ordinal in starts]
    return distribution.scaled(profile.rows).rows_before(ordinals)
