"""Cut by a walk over the key's index: exact, whatever the statistics say. Without an index, sort the table once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import LiteralString

from psycopg import sql

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.index_walk import IndexScan, Step, walk
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing

MAX_STEPS = 10_000
"""Steps of a walk, unless more ranges are requested. A step costs as much as walking over a hundred rows."""

_STEPS_PER_RANGE = 16
"""Steps if the number of ranges is requested, not their size: every cut has a step close to its goal."""

_MIN_STEPS_PER_RANGE = 4
"""With fewer steps per range, the nearest step may be far from the goal, so each step becomes a range instead."""

_SPARE = 1.05
"""A step ends where its last key changes, so there are a few more steps than requested. If that would exceed
``max_ranges``, steps are longer by this factor."""


@dataclass(frozen=True)
class _StepSize:
    """The length of a step of the walk.

    :param rows: rows per step.
    :param is_range: whether each step becomes a range.
    """

    rows: int
    is_range: bool

    @classmethod
    def choose(cls, profile: RelationProfile, sizing: RangeSizing) -> _StepSize:
        ranges = max(profile.rows / sizing.target, 1.0)
        if sizing.rows_per_range is not None:
            return cls(max(int(sizing.target), 1), is_range=True)
        steps = min(max(int(MAX_STEPS / ranges), 1), _STEPS_PER_RANGE)
        if steps >= _MIN_STEPS_PER_RANGE:
            return cls(max(int(sizing.target / steps), 1), is_range=False)
        rows, max_ranges = max(round(sizing.target), 1), _max_ranges(profile, sizing)
        if profile.rows * _SPARE / rows > max_ranges:
            rows = ceil(profile.rows * _SPARE / max_ranges)
        return cls(rows, is_range=True)


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return the distribution of the counted rows, with a bound at every step."""
    step = _StepSize.choose(profile, sizing)
    if profile.is_indexed:
        scan = IndexScan.of_relation(profile, profile.window.lower, profile.window.upper)
        # If the table is larger than estimated, the steps would otherwise be too short.
        limit = None if sizing.rows_per_range is not None else 2 * max(MAX_STEPS, sizing.ranges_for(profile.rows))
        with connection.local_settings(**PREFER_INDEX):
            steps = _limited(walk(connection, scan, step.rows, double_step_after=limit), sizing)
    else:
        steps = _limited(_sort(connection, profile, step.rows, sizing), sizing)
    # If the number of ranges was requested, a few more are allowed, unless they exceed max_ranges.
    cuts_fixed = step.is_range and (sizing.rows_per_range is not None or len(steps) <= _max_ranges(profile, sizing))
    bounds = (HistogramBound(bound, bucket_rows=rows) for bound, rows in steps)
    return Distribution(tuple(bounds), cuts_fixed=cuts_fixed)


def _max_ranges(profile: RelationProfile, sizing: RangeSizing) -> float:
    """Return the relation's part of ``max_ranges``."""
    return sizing.max_ranges * profile.rows / max(sizing.rows, 1)


def _limited(steps: Iterable[Step], sizing: RangeSizing) -> list[Step]:
    """Return the steps.

    :raises InvalidParameterError: if there are more than ``max_ranges``, before a wrong estimate fills the memory.
    """
    found = []
    for step in steps:
        found.append(step)
        if sizing.rows_per_range is not None:
            sizing.check_limit("rows_per_range", len(found))
    return found


def _sort(
    connection: PlannerConnection, profile: RelationProfile, step_rows: int, sizing: RangeSizing
) -> Iterator[Step]:
    sort_key = profile.sort_key
    statement = sql.SQL(_SORT).format(
        from_sql=profile.from_sql,
        inside=profile.window_condition,
        by=sort_key.order_by,
        values=sort_key.select_list,
        texts=sort_key.texts_of("numbered"),
        first=sql.Identifier(sort_key.columns[0].name),
        step=sql.Literal(step_rows),
        # One more than the maximum is enough to detect that there are too many.
        limit=sql.Literal(None if sizing.rows_per_range is None else sizing.max_ranges + 1),
    )
    rows = connection.fetch_all(statement)
    total = rows[0][-1] if rows else 0
    starts = [*(row[-2] for row in rows), total]
    for (*bound, _, _), (start, end) in zip(rows, pairwise(starts), strict=True):
        yield Step(tuple(bound), end - start)


# rank() gives equal keys the number of the first of them.
_SORT: LiteralString = """
    SELECT DISTINCT ON (earlier) {texts}, earlier, total
    FROM (
        SELECT {values}, row_number() OVER keys - 1 AS place, rank() OVER keys - 1 AS earlier, count(*) OVER () AS total
        FROM {from_sql} AS origin WHERE {inside} AND {first} IS NOT NULL WINDOW keys AS (ORDER BY {by})
    ) AS numbered
    WHERE place % {step} = 0
    ORDER BY earlier
    LIMIT {limit}
"""
