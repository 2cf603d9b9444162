"""What ANALYZE left in ``pg_stats``: where the rows are along a column, without reading any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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

_NULLS, _LOWER, _UPPER, _BUCKET, _COMMON = range(5)
"""What an entry is. Of equal keys, the window's ends come first, but the upper end of several columns comes last."""

_ONE = 1 << 200
"""All rows, in whole numbers: differences of floats would leave a rest, which a large distance makes large."""

Weighted = tuple[str, str, float]
"""Schema and name of a relation, and its rows."""


@dataclass(frozen=True)
class Statistics:
    """What is known of the key in one relation, or in several together.

    :param distribution: the rows inside the window, in parts of all rows; None: nothing is known of the window, or no least
        value of a later column is, which a cut by the first one takes.
    :param bound_count: how many different places the shape knows.
    :param null_fraction: part of the rows whose key is NULL.
    :param correlation: between the key's order and the order on disk, -1 to 1.
    :param window_fraction: of the rows whose first column is not beyond the window's ends, those inside the window.
    :param known_relations: numbers of the relations that have statistics, where it is of several.
    """

    distribution: Distribution | None
    bound_count: int
    null_fraction: float
    correlation: float
    window_fraction: float = 1.0
    known_relations: frozenset[int] = frozenset({0})


@dataclass(frozen=True)
class _Entry:
    relation: int
    kind: int
    value: str
    share: float
    place: int | None = None
    gap: float = 0.0


def read_statistics(
    queries: PlannerConnection,
    order: SortKey,
    window: Window,
    groups: Sequence[Sequence[Weighted]],
    outside: tuple[float, float],
    *,
    inherited: bool,
) -> list[Statistics | None]:
    """The statistics of the key's first column, one for each of ``groups``; None where there are none to be seen.

    :param groups: relations whose statistics are put together.
    :param outside: of the rows that share the first value of the window's lower and upper end, the parts beyond it.
    :param inherited: of each relation together with its partitions or children.
    """
    column = order.columns[0]
    if column.type.endswith("[]"):
        return [None] * len(groups)  # The text of many arrays cannot be read back as one.
    listed = [
        sql.SQL("({}, {}, {}, {})").format(*map(sql.Literal, (number, relation, schema, name)))
        for number, group in enumerate(groups)
        for relation, (schema, name, _) in enumerate(group)
    ]
    statement = sql.SQL(_STATISTICS).format(
        relations=sql.SQL(", ").join(listed),
        column=sql.Literal(column.name),
        inherited=sql.Literal(inherited),
        type=sql.SQL(column.type),
        lower=sql.Literal(window.lower[0] if window.lower else None),
        upper=sql.Literal(window.upper[0] if window.upper else None),
        value=cast_and_collate(sql.Identifier("value"), column),
        # Rows with its first value are inside, as far as their other columns are less.
        several=sql.Literal(len(order.columns) > 1),
    )
    found: list[Statistics | None] = [None] * len(groups)
    for number, rows in groupby(queries.fetch_all(statement), key=lambda row: row[0]):
        weights = [weight for _, _, weight in groups[number]]
        found[number] = _read([row[1:] for row in rows], weights, order.columns, window, outside)
    return found


def _read(
    rows: list[tuple[int, int, str, float, float]],
    weights: Sequence[float],
    columns: Sequence[Column],
    window: Window,
    outside: tuple[float, float],
) -> Statistics:
    whole = [(relation, share, correlation) for relation, kind, _, share, correlation in rows if kind == _NULLS]
    total = sum(weights[relation] for relation, _, _ in whole)
    part = {relation: weights[relation] / total if total else 1 / len(whole) for relation, _, _ in whole}
    nulls = {relation: share * part[relation] for relation, share, _ in whole}
    correlation = sum(of_one * part[relation] for relation, _, of_one in whole)
    values = [row for row in rows if row[1] != _NULLS]
    axis = ordinal_codec(columns[0], [value for _, _, value, _, _ in values])
    entries = [
        _Entry(relation, kind, value, (share or 0.0) * part[relation], axis.encode(value) if axis else None)
        for relation, kind, value, share, _ in values
    ]
    inside = _clip(_fill(entries, {relation: part[relation] - nulls[relation] for relation in part}), window)
    least = [min_value(column) for column in columns[1:]]
    rest: Bound = tuple(value for value in least if value is not None)
    shape = Distribution(tuple(_knots(inside, window, rest, outside)), axis, rest)
    known = sum(entry.share + entry.gap for entry in inside)
    inner = shape.rows / known if known else 1.0
    is_known = shape.rows > 0 and None not in least
    shape_known = shape if is_known else None
    return Statistics(shape_known, len(inside), sum(nulls.values()), correlation, inner, frozenset(part))


def _fill(entries: list[_Entry], filled: Mapping[int, float]) -> list[_Entry]:
    """Spreads the rows that are no common value over the gaps: each bucket of a relation has the same number.

    Inside a bucket they are spread by distance where that is known, else each gap gets an equal part.

    :param filled: of each relation the rows whose key is not NULL.
    """
    edges: dict[int, list[int]] = {relation: [] for relation in filled}
    rest = dict(filled)
    for number, entry in enumerate(entries):
        if entry.kind == _BUCKET:
            edges[entry.relation].append(number)
        rest[entry.relation] -= entry.share
    by_distance, by_gap = [0] * (len(entries) + 1), [0] * (len(entries) + 1)
    for relation, numbers in edges.items():
        for start, end in pairwise(numbers):
            distance = _distance(entries[start], entries[end])
            rows = int(max(rest[relation], 0.0) / (len(numbers) - 1) * _ONE) // (distance or end - start)
            spread = by_distance if distance else by_gap
            spread[start] += rows
            spread[end] -= rows
    densities = zip(pairwise(entries), accumulate(by_distance), accumulate(by_gap), strict=False)
    gaps = [(dense * _distance(*pair) + even) / _ONE for pair, dense, even in densities]
    return [replace(entry, gap=gap) for entry, gap in zip(entries, [*gaps, 0.0], strict=True)] if entries else []


def _distance(start: _Entry, end: _Entry) -> int:
    """0 where it is not known."""
    return 0 if start.place is None or end.place is None else end.place - start.place


def _clip(entries: list[_Entry], window: Window) -> list[_Entry]:
    """What lies in the window; its upper end stays, as the end of the last gap."""
    kinds = [entry.kind for entry in entries]
    start = kinds.index(_LOWER) if window.lower else 0
    if window.upper is None:
        return entries[start:]
    end = kinds.index(_UPPER)
    return [*entries[start:end], replace(entries[end], gap=0.0)]


def _knots(
    entries: Iterable[_Entry], window: Window, rest: Bound, outside: tuple[float, float]
) -> Iterable[HistogramBound]:
    """One knot for each value, though a frequent value that is no common one ends several buckets."""
    for _, same in groupby(entries, key=lambda entry: entry.value if entry.place is None else entry.place):
        group = list(same)
        mass = sum(entry.share for entry in group) + sum(entry.gap for entry in group[:-1])
        ends = {_LOWER: window.lower, _UPPER: window.upper}
        bound = ends.get(group[0].kind) or (group[0].value, *rest)
        beyond = sum(part for end, part in zip(ends, outside, strict=True) if end in (group[0].kind, group[-1].kind))
        yield HistogramBound(bound, group[0].place, mass * max(1 - beyond, 0.0), group[-1].gap)


_STATISTICS: LiteralString = """
    WITH found AS (
        SELECT listed.number, listed.relation, s.null_frac, s.correlation,
            s.histogram_bounds::text::{type}[] AS bounds, s.most_common_vals::text::{type}[] AS vals,
            s.most_common_freqs AS freqs
        FROM (VALUES {relations}) AS listed (number, relation, schema, name)
        JOIN pg_catalog.pg_stats AS s ON s.schemaname = listed.schema AND s.tablename = listed.name
        WHERE s.attname = {column} AND s.inherited = {inherited}
    ),
    entry (number, relation, kind, value, share, correlation) AS (
        SELECT number, relation, 0, NULL::{type}, null_frac::float8, coalesce(correlation, 0)::float8 FROM found
        UNION ALL
        SELECT number, relation, 1, {lower}::{type}, 0, 0 FROM found WHERE {lower}::text IS NOT NULL
        UNION ALL
        SELECT number, relation, 2, {upper}::{type}, 0, 0 FROM found WHERE {upper}::text IS NOT NULL
        UNION ALL
        SELECT number, relation, 3, edge, 0, 0 FROM found, unnest(bounds) AS edge
        UNION ALL
        SELECT number, relation, 4, val, freq::float8, 0 FROM found, unnest(vals, freqs) AS common (val, freq)
    )
    SELECT number, relation, kind, value::text, share, correlation FROM entry
    ORDER BY number, {value}, {several} AND kind = 2, kind
"""
