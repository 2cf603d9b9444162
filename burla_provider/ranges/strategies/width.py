"""Equal stretches of the key, as the guide has them: right for a key without gaps, whose rows are evenly spread."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.ordinals import OrdinalCodec, axis_of, least_of
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import fetch_end_keys

_NO_ENDS = {
    "numeric": ("{key} < 'NaN'",),
    **dict.fromkeys(
        ("date", "timestamp without time zone", "timestamp with time zone"),
        ("{key} > '-infinity'", "{key} < 'infinity'"),
    ),
}
"""Conditions that leave out the values that are no distance away from any other."""


def build_id_ranges(start_id: int, end_id: int, rows_per_range: int) -> list[tuple[int, int]]:
    """The guide's ranges: from ``start_id`` to ``end_id``, both inclusive, with ``rows_per_range`` ids each.

    :raises InvalidParameterError: ``rows_per_range`` is not positive.
    """
    if rows_per_range < 1:
        raise InvalidParameterError("rows_per_range", f"{rows_per_range} is not positive.", "Give 1 or more.")
    return [(start, min(start + rows_per_range - 1, end_id)) for start in range(start_id, end_id + 1, rows_per_range)]


def measure(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
    if len(piece.key.columns) != 1 or axis_of(piece.key.columns[0]) is None:
        kinds = ", ".join(column.type for column in piece.key.columns)
        problem = f"'width' cannot measure the key {piece.key} ({kinds})."
        raise InvalidParameterError("split", problem, "Use 'histogram' or 'keyset'.")
    column = piece.key.columns[0]
    found = _finite_ends(queries, piece)
    given = _given_ends(piece)
    axis = axis_of(column, [*found, *(end for end in given if end is not None)])
    assert axis is not None  # noqa: S101 - seen above
    start, end = _stretch(axis, given, found)
    if start >= end:
        return Distribution((HistogramBound((), gap=piece.rows),), settled=True)
    places = range(start, end, _step(piece, size, end - start))
    before = _rows_before(piece, axis, places, end)
    knots = (
        HistogramBound((axis.write(place),), place, gap=later - earlier)
        for place, (earlier, later) in zip(places, pairwise([0.0, *before[1:], piece.rows]), strict=True)
    )
    return Distribution(tuple(knots), settled=True)


def _step(piece: RelationProfile, size: RangeSizing, length: int) -> int:
    if size.rows_per_range is not None and piece.key.is_integer:
        # As the guide has it: so many ids, whether or not there is a row for each.
        size.allow("rows_per_range", ceil(length / size.rows_per_range))
        return size.rows_per_range
    ranges = size.share(piece.rows)
    size.allow("rows_per_range", ranges)
    return -(-length // ranges)


def _given_ends(piece: RelationProfile) -> tuple[str | None, str | None]:
    """The window's ends; None where it has none, or begins where the type does, as it does for an end_id alone."""
    lower, upper = (bound[0] if bound else None for bound in (piece.window.lower, piece.window.upper))
    return None if lower == least_of(piece.key.columns[0]) else lower, upper


def _stretch(axis: OrdinalCodec, given: tuple[str | None, str | None], found: tuple[str, ...]) -> tuple[int, int]:
    """The places that the ranges reach from and to; the same one twice when there are no keys."""
    lower, upper = (None if end is None else axis.read(end) for end in given)
    ends = [axis.read(value) for value in found]
    if None in ends:
        problem = f"'width' cannot reach to {found[ends.index(None)]}."
        raise InvalidParameterError("split", problem, "Give lower and upper, or use 'keyset'.")
    if None in given and not ends:
        return 0, 0
    least, greatest = [end for end in ends if end is not None] or (0, 0)
    return least if lower is None else lower, greatest + 1 if upper is None else upper


def _finite_ends(queries: PlannerConnection, piece: RelationProfile) -> tuple[str, ...]:
    """The least and the greatest key that is a number; nothing when there is no key or the window has both ends."""
    if None not in _given_ends(piece):
        return ()
    key = sql.Identifier(piece.key.names[0])
    finite = [sql.SQL(text).format(key=key) for text in _NO_ENDS.get(piece.key.columns[0].type, ())]
    condition = sql.SQL(" AND ").join([piece.window_condition, *finite, sql.SQL("{} IS NOT NULL").format(key)])
    with queries.local_settings(**PREFER_INDEX):
        return tuple(
            value for (value,) in fetch_end_keys(queries, piece.sort_key, piece.source, condition, "min", "max")
        )


def _rows_before(piece: RelationProfile, axis: OrdinalCodec, places: range, end: int) -> list[float]:
    """Estimated rows before each place: by the statistics, else as if they were evenly spread."""
    shape = piece.statistics.distribution if piece.statistics else None
    if shape is None or shape.axis is None or any(knot.place is None for knot in shape.knots):
        shape = Distribution((HistogramBound((), places.start, gap=1.0), HistogramBound((), end)))
        return shape.scaled(piece.rows).rows_before(places)
    # A numeric's places are counted by another number of digits there.
    known = [shape.axis.read(axis.write(place)) or 0 for place in places]
    return shape.scaled(piece.rows).rows_before(known)
