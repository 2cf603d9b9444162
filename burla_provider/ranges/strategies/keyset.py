"""By walking over the key's index: exact, whatever the statistics say. Without an index: by sorting the table once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import LiteralString

from psycopg import sql

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.index_walk import Path, Step, walk
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import SortKey

MOST_STEPS = 10_000
"""Of a walk, unless that many ranges are wanted: each step costs as much as a hundred rows that are walked over."""

_STEPS_A_RANGE = 16
"""Where the number of ranges counts, not their size: so that every cut has a step close to its goal."""

_FEW_STEPS_A_RANGE = 4
"""With fewer, the nearest step may be far off, so that each step is better made a range of its own."""

_SPARE = 1.05
"""A step ends at the first row that has the key it came to, so there are a few more than asked for. Where that would be
more than there may be ranges, they are so many times as long."""


@dataclass(frozen=True)
class _Pace:
    """How long steps are (rows), and whether each is a range."""

    step: int
    settled: bool

    @classmethod
    def choose(cls, piece: RelationProfile, size: RangeSizing) -> _Pace:
        ranges = max(piece.rows / size.target, 1.0)
        if size.rows_per_range is not None:
            return cls(max(int(size.target), 1), settled=True)
        steps = min(max(int(MOST_STEPS / ranges), 1), _STEPS_A_RANGE)
        if steps >= _FEW_STEPS_A_RANGE:
            return cls(max(int(size.target / steps), 1), settled=False)
        step, most = max(round(size.target), 1), _most(piece, size)
        if piece.rows * _SPARE / step > most:
            step = ceil(piece.rows * _SPARE / most)
        return cls(step, settled=True)


def measure(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
    order, pace = piece.sort_key, _Pace.choose(piece, size)
    if piece.is_indexed:
        path = Path(piece.source, order, piece.key, piece.window.lower, piece.window.upper, piece.is_unique)
        # A table that is larger than it looked would be walked in tiny steps.
        hurry_after = None if size.rows_per_range is not None else 2 * max(MOST_STEPS, size.share(piece.rows))
        with queries.local_settings(**PREFER_INDEX):
            steps = _limited(walk(queries, path, pace.step, hurry_after=hurry_after), size)
    else:
        steps = _limited(_sort(queries, piece, order, pace.step, size), size)
    # Where their number was asked for, a few more do no harm, unless there would be more than may be.
    settled = pace.settled and (size.rows_per_range is not None or len(steps) <= _most(piece, size))
    return Distribution(tuple(HistogramBound(step.bound, gap=step.rows) for step in steps), settled=settled)


def _most(piece: RelationProfile, size: RangeSizing) -> float:
    """How many of the ranges that there may be are the piece's."""
    return size.max_ranges * piece.rows / max(size.rows, 1)


def _limited(steps: Iterable[Step], size: RangeSizing) -> list[Step]:
    """The steps, unless there are more than ranges may be: a wrong estimate must not fill the memory."""
    found = []
    for step in steps:
        found.append(step)
        if size.rows_per_range is not None:
            size.allow("rows_per_range", len(found))
    return found


def _sort(
    queries: PlannerConnection, piece: RelationProfile, order: SortKey, step: int, size: RangeSizing
) -> Iterator[Step]:
    statement = sql.SQL(_SORT).format(
        source=piece.source,
        inside=piece.window_condition,
        by=order.order_by,
        values=order.select_list,
        texts=order.texts_of("numbered"),
        first=sql.Identifier(order.columns[0].name),
        step=sql.Literal(step),
        # One more than there may be is enough to know that there are too many.
        limit=sql.Literal(None if size.rows_per_range is None else size.max_ranges + 1),
    )
    rows = queries.fetch_all(statement)
    total = rows[0][-1] if rows else 0
    starts = [*(row[-2] for row in rows), total]
    for (*bound, _, _), (start, end) in zip(rows, pairwise(starts), strict=True):
        yield Step(tuple(bound), end - start)


# Equal keys have the number of the first of them.
_SORT: LiteralString = """
    SELECT DISTINCT ON (earlier) {texts}, earlier, total
    FROM (
        SELECT {values}, row_number() OVER keys - 1 AS place, rank() OVER keys - 1 AS earlier, count(*) OVER () AS total
        FROM {source} AS origin WHERE {inside} AND {first} IS NOT NULL WINDOW keys AS (ORDER BY {by})
    ) AS numbered
    WHERE place % {step} = 0
    ORDER BY earlier
    LIMIT {limit}
"""
