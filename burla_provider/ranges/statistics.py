"""The statistics of a key from ``pg_stats``: where the rows are along a column, without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise
from typing import LiteralString

from psycopg import sql

from burla_provider.ranges.catalog import Column
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import Bound
from burla_provider.ranges.ordinals import min_value, ordinal_codec
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sort_key import SortKey, cast_and_collate
from burla_provider.ranges.window import Window

_NULLS, _LOWER, _UPPER, _HISTOGRAM, _COMMON = range(5)
"""Kinds of entries, in the order of equal values. If the key has several columns, the upper bound comes last."""

_ALL_ROWS = 1 << 200
"""All rows as an integer. Differences of floats leave a remainder, which a large distance would multiply."""

WeightedRelation = tuple[str, str, float]
"""Schema and name of a relation, and its rows."""


@dataclass(frozen=True)
class Statistics:
    """The statistics of a key in one relation, or combined from several.

    :param distribution: the rows inside the window, as fractions of all rows. None: the window has no statistics, or
        the minimum of a later column, which a cut by the first column needs, is unknown.
    :param bound_count: values in the window that the statistics contain.
    :param null_fraction: fraction of the rows with a NULL key.
    :param correlation: between key order and physical order, -1 to 1.
    :param window_fraction: fraction inside the window of the rows that a condition on the first column selects.
    :param known_relations: numbers of the combined relations that have statistics.
    """

    distribution: Distribution | None
    bound_count: int
    null_fraction: float
    correlation: float
    window_fraction: float = 1.0
    known_relations: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class _Entry:
    """A value in the statistics of a relation, or a bound of the window.

    :param fraction: fraction of all rows that has exactly this value.
    :param bucket_fraction: fraction of all rows that is after this value and before the next entry's.
    """

    relation: int
    kind: int
    value: str
    fraction: float
    ordinal: int | None = None
    bucket_fraction: float = 0.0


def read_statistics(
    connection: PlannerConnection,
    sort_key: SortKey,
    window: Window,
    groups: Sequence[Sequence[WeightedRelation]],
    outside: tuple[float, float],
    *,
    inherited: bool,
) -> list[Statistics | None]:
    """Return the statistics of the key's first column for each group; None if there are none that the role can see.

    :param groups: relations whose statistics are combined.
    :param outside: fractions outside the window, of the rows with the first value of its lower and its upper bound.
    :param inherited: whether the statistics of a relation include its partitions or children.
    """
    column = sort_key.columns[0]
    if column.type.endswith("[]"):
        return [None] * len(groups)  # The text of an array of arrays cannot be parsed.
    relations = [
        sql.SQL("({}, {}, {}, {})").format(*map(sql.Literal, (group_number, relation, schema, name)))
        for group_number, group in enumerate(groups)
        for relation, (schema, name, _) in enumerate(group)
    ]
    statement = sql.SQL(_STATISTICS).format(
        relations=sql.SQL(", ").join(relations),
        column=sql.Literal(column.name),
        inherited=sql.Literal(inherited),
        type=sql.SQL(column.type),
        lower=sql.Literal(window.lower[0] if window.lower else None),
        upper=sql.Literal(window.upper[0] if window.upper else None),
        value=cast_and_collate(sql.Identifier("value"), column),
        # With several columns, rows with the upper bound's first value are inside the window if their other columns
        # are less.
        upper_is_last=sql.Literal(len(sort_key.columns) > 1),
    )
    statistics: list[Statistics | None] = [None] * len(groups)
    # An administrator may have hidden pg_stats from all roles.
    for group_number, rows in groupby(connection.fetch_visible(statement), key=lambda row: row[0]):
        weights = [weight for _, _, weight in groups[group_number]]
        statistics[group_number] = _combine([row[1:] for row in rows], weights, sort_key.columns, window, outside)
    return statistics


def _combine(
    rows: list[tuple[int, int, str, float, float]],
    weights: Sequence[float],
    columns: Sequence[Column],
    window: Window,
    outside: tuple[float, float],
) -> Statistics:
    summaries = [row for row in rows if row[1] == _NULLS]
    total = sum(weights[relation] for relation, *_ in summaries)
    # The fraction of all rows that each relation has.
    size = {relation: weights[relation] / total if total else 1 / len(summaries) for relation, *_ in summaries}
    nulls = {relation: fraction * size[relation] for relation, _, _, fraction, _ in summaries}
    correlation = sum(value * size[relation] for relation, *_, value in summaries)
    values = [row for row in rows if row[1] != _NULLS]
    codec = ordinal_codec(columns[0], [value for _, _, value, _, _ in values])
    entries = [
        _Entry(relation, kind, value, (fraction or 0.0) * size[relation], codec.encode(value) if codec else None)
        for relation, kind, value, fraction, _ in values
    ]
    not_null = {relation: size[relation] - nulls[relation] for relation in size}
    inside = _clip(_fill_buckets(entries, not_null), window)
    minimums = [min_value(column) for column in columns[1:]]
    suffix_bounds: Bound = tuple(value for value in minimums if value is not None)
    bounds = tuple(_merge_equal(inside, window, suffix_bounds, outside))
    distribution = Distribution(bounds, codec, suffix_bounds)
    selected = sum(entry.fraction + entry.bucket_fraction for entry in inside)
    is_usable = distribution.rows > 0 and None not in minimums
    return Statistics(
        distribution=distribution if is_usable else None,
        bound_count=len(inside),
        null_fraction=sum(nulls.values()),
        correlation=correlation,
        window_fraction=distribution.rows / selected if selected else 1.0,
        known_relations=frozenset(size),
    )


def _fill_buckets(entries: list[_Entry], not_null: Mapping[int, float]) -> list[_Entry]:
    """Distribute the rows without a common value over the entries' buckets.

    All histogram buckets of a relation have the same number of rows. Entries of other relations divide a histogram
    bucket: by distance if that is known, otherwise equally.

    :param not_null: relation -> fraction of all rows that is in the relation and has a key that is not NULL.
    """
    histograms: dict[int, list[int]] = {relation: [] for relation in not_null}
    remaining = dict(not_null)
    for number, entry in enumerate(entries):
        if entry.kind == _HISTOGRAM:
            histograms[entry.relation].append(number)
        remaining[entry.relation] -= entry.fraction
    per_distance, per_bucket = [0] * (len(entries) + 1), [0] * (len(entries) + 1)
    for relation, numbers in histograms.items():
        for start, end in pairwise(numbers):
            distance = _distance(entries[start], entries[end])
            bucket_rows = int(max(remaining[relation], 0.0) / (len(numbers) - 1) * _ALL_ROWS)
            # Each list holds changes at the start and the end of a bucket, for accumulate.
            changes, length = (per_distance, distance) if distance else (per_bucket, end - start)
            changes[start] += bucket_rows // length
            changes[end] -= bucket_rows // length
    densities = zip(pairwise(entries), accumulate(per_distance), accumulate(per_bucket), strict=False)
    buckets = [(dense * _distance(*pair) + even) / _ALL_ROWS for pair, dense, even in densities]
    return [
        replace(entry, bucket_fraction=fraction)
        for entry, fraction in zip(entries, [*buckets, 0.0][: len(entries)], strict=True)
    ]


def _distance(start: _Entry, end: _Entry) -> int:
    """Return the distance of the values; 0 if it is unknown."""
    return 0 if start.ordinal is None or end.ordinal is None else end.ordinal - start.ordinal


def _clip(entries: list[_Entry], window: Window) -> list[_Entry]:
    """Return the entries in the window, and its upper bound as the end of the last bucket."""
    kinds = [entry.kind for entry in entries]
    start = kinds.index(_LOWER) if window.lower else 0
    if window.upper is None:
        return entries[start:]
    end = kinds.index(_UPPER)
    return [*entries[start:end], replace(entries[end], bucket_fraction=0.0)]


def _merge_equal(
    entries: Iterable[_Entry], window: Window, suffix_bounds: Bound, outside: tuple[float, float]
) -> Iterator[HistogramBound]:
    """Yield one bound per value. A value that is frequent but not a common value is the end of several buckets."""
    window_bounds = {_LOWER: window.lower, _UPPER: window.upper}
    for _, equal in groupby(entries, key=lambda entry: entry.value if entry.ordinal is None else entry.ordinal):
        group = list(equal)
        first, last = group[0], group[-1]
        frequency = sum(entry.fraction for entry in group) + sum(entry.bucket_fraction for entry in group[:-1])
        bound = window_bounds.get(first.kind) or (first.value, *suffix_bounds)
        fraction_outside = sum(
            fraction for kind, fraction in zip(window_bounds, outside, strict=True) if kind in (first.kind, last.kind)
        )
        yield HistogramBound(bound, first.ordinal, frequency * max(1 - fraction_outside, 0.0), last.bucket_fraction)


_STATISTICS: LiteralString = """
    WITH found AS (
        SELECT listed.number, listed.relation, s.null_frac, s.correlation,
            s.histogram_bounds::text::{type}[] AS bounds, s.most_common_vals::text::{type}[] AS vals,
            s.most_common_freqs AS freqs
        FROM (VALUES {relations}) AS listed (number, relation, schema, name)
        JOIN pg_catalog.pg_stats AS s ON s.schemaname = listed.schema AND s.tablename = listed.name
        WHERE s.attname = {column} AND s.inherited = {inherited}
    ),
    entry (number, relation, kind, value, fraction, correlation) AS (
        SELECT number, relation, 0, NULL::{type}, null_frac::float8, coalesce(correlation, 0)::float8 FROM found
        UNION ALL
        SELECT number, relation, 1, {lower}::{type}, 0, 0 FROM found WHERE {lower}::text IS NOT NULL
        UNION ALL
        SELECT number, relation, 2, {upper}::{type}, 0, 0 FROM found WHERE {upper}::text IS NOT NULL
        UNION ALL
        SELECT number, relation, 3, bound, 0, 0 FROM found, unnest(bounds) AS bound
        UNION ALL
        SELECT number, relation, 4, val, freq::float8, 0 FROM found, unnest(vals, freqs) AS common (val, freq)
    )
    SELECT number, relation, kind, value::text, fraction, correlation FROM entry
    ORDER BY number, {value}, {upper_is_last} AND kind = 2, kind
"""
