"""What ANALYZE left in ``pg_stats``: where the rows are along a column, without reading any of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import LiteralString

from psycopg import sql

from burla_provider.ranges.axis import axis_of, least_of
from burla_provider.ranges.distribution import Distribution, Knot
from burla_provider.ranges.facts import Column
from burla_provider.ranges.key import Bound
from burla_provider.ranges.order import Order, typed
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.window import Window

_NULLS, _LOWER, _UPPER, _BUCKET, _COMMON = range(5)
"""What an entry is. Of equal keys, the window's ends come first, but the upper end of several columns comes last."""


@dataclass(frozen=True)
class Statistics:
    """What is known of the key in one relation.

    :param shape: the rows inside the window, in parts of all rows; None: nothing is known of the window, or no least
        value of a later column is, which a cut by the first one takes.
    :param steps: how many different places the shape knows.
    :param nulls: part of the rows whose key is NULL.
    :param correlation: between the key's order and the order on disk, -1 to 1.
    :param part: of the rows whose first column is not beyond the window's ends, those inside the window.
    """

    shape: Distribution | None
    steps: int
    nulls: float
    correlation: float
    part: float = 1.0


@dataclass(frozen=True)
class _Entry:
    kind: int
    value: str
    share: float
    place: int | None = None
    gap: float = 0.0


def read_statistics(
    queries: Queries,
    order: Order,
    window: Window,
    relations: Sequence[tuple[str, str]],
    outside: tuple[float, float],
    *,
    inherited: bool,
) -> list[Statistics | None]:
    """The statistics of the key's first column, one for each of ``relations``; None where there are none to be seen.

    :param outside: of the rows that share the first value of the window's lower and upper end, the parts beyond it.
    :param inherited: of each relation together with its partitions or children.
    """
    column = order.columns[0]
    if column.type.endswith("[]"):
        return [None] * len(relations)  # The text of many arrays cannot be read back as one.
    listed = [
        sql.SQL("({}, {}, {})").format(sql.Literal(number), sql.Literal(schema), sql.Literal(name))
        for number, (schema, name) in enumerate(relations)
    ]
    statement = sql.SQL(_STATISTICS).format(
        relations=sql.SQL(", ").join(listed),
        column=sql.Literal(column.name),
        inherited=sql.Literal(inherited),
        type=sql.SQL(column.type),
        lower=sql.Literal(window.lower[0] if window.lower else None),
        upper=sql.Literal(window.upper[0] if window.upper else None),
        value=typed(sql.Identifier("value"), sql.SQL(column.type), column),
        # Rows with its first value are inside, as far as their other columns are less.
        several=sql.Literal(len(order.columns) > 1),
    )
    found: list[Statistics | None] = [None] * len(relations)
    for number, rows in groupby(queries.rows(statement), key=lambda row: row[0]):
        found[number] = _read([row[1:] for row in rows], order.columns, window, outside)
    return found


def _read(
    rows: list[tuple[int, str, float, float]], columns: Sequence[Column], window: Window, outside: tuple[float, float]
) -> Statistics:
    [(_, _, nulls, correlation)] = [row for row in rows if row[0] == _NULLS]
    values = [row for row in rows if row[0] != _NULLS]
    axis = axis_of(columns[0], [value for _, value, _, _ in values])
    entries = [
        _Entry(kind, value, share or 0.0, axis.read(value) if axis else None) for kind, value, share, _ in values
    ]
    inside = _clip(_fill(entries, nulls), window)
    least = [least_of(column) for column in columns[1:]]
    rest: Bound = tuple(value for value in least if value is not None)
    shape = Distribution(tuple(_knots(inside, window, rest, outside)), axis, rest)
    known = sum(entry.share + entry.gap for entry in inside)
    part = shape.rows / known if known else 1.0
    is_known = shape.rows > 0 and None not in least
    return Statistics(shape if is_known else None, len(inside), nulls, correlation, part)


def _fill(entries: list[_Entry], nulls: float) -> list[_Entry]:
    """Spreads the rows that are neither NULL nor a common value over the gaps: each bucket has the same number."""
    edges = [number for number, entry in enumerate(entries) if entry.kind == _BUCKET]
    if len(edges) < 2:
        return entries
    common = sum(entry.share for entry in entries if entry.kind == _COMMON)
    bucket = max(1 - nulls - common, 0.0) / (len(edges) - 1)
    filled = list(entries)
    for start, end in pairwise(edges):
        for number, part in enumerate(_parts(entries[start : end + 1]), start):
            filled[number] = replace(entries[number], gap=bucket * part)
    return filled


def _parts(bucket: list[_Entry]) -> list[float]:
    """Which part of a bucket's rows is in each gap of it: by distance where that is known, else equal."""
    places = [entry.place for entry in bucket if entry.place is not None]
    if len(places) < len(bucket) or places[0] == places[-1]:
        return [1 / (len(bucket) - 1)] * (len(bucket) - 1)
    return [(end - start) / (places[-1] - places[0]) for start, end in pairwise(places)]


def _clip(entries: list[_Entry], window: Window) -> list[_Entry]:
    """What lies in the window; its upper end stays, as the end of the last gap."""
    kinds = [entry.kind for entry in entries]
    start = kinds.index(_LOWER) if window.lower else 0
    if window.upper is None:
        return entries[start:]
    end = kinds.index(_UPPER)
    return [*entries[start:end], replace(entries[end], gap=0.0)]


def _knots(entries: Iterable[_Entry], window: Window, rest: Bound, outside: tuple[float, float]) -> Iterable[Knot]:
    """One knot for each value, though a frequent value that is no common one ends several buckets."""
    for _, same in groupby(entries, key=lambda entry: entry.value if entry.place is None else entry.place):
        group = list(same)
        mass = sum(entry.share for entry in group) + sum(entry.gap for entry in group[:-1])
        ends = {_LOWER: window.lower, _UPPER: window.upper}
        bound = ends.get(group[0].kind) or (group[0].value, *rest)
        beyond = sum(part for end, part in zip(ends, outside, strict=True) if end in (group[0].kind, group[-1].kind))
        yield Knot(bound, group[0].place, mass * max(1 - beyond, 0.0), group[-1].gap)


_STATISTICS: LiteralString = """
    WITH found AS (
        SELECT relation.number, s.null_frac, s.correlation, s.histogram_bounds::text::{type}[] AS bounds,
            s.most_common_vals::text::{type}[] AS vals, s.most_common_freqs AS freqs
        FROM (VALUES {relations}) AS relation (number, schema, name)
        JOIN pg_catalog.pg_stats AS s ON s.schemaname = relation.schema AND s.tablename = relation.name
        WHERE s.attname = {column} AND s.inherited = {inherited}
    ),
    entry (number, kind, value, share, correlation) AS (
        SELECT number, 0, NULL::{type}, null_frac::float8, coalesce(correlation, 0)::float8 FROM found
        UNION ALL
        SELECT number, 1, {lower}::{type}, 0, 0 FROM found WHERE {lower}::text IS NOT NULL
        UNION ALL
        SELECT number, 2, {upper}::{type}, 0, 0 FROM found WHERE {upper}::text IS NOT NULL
        UNION ALL
        SELECT number, 3, edge, 0, 0 FROM found, unnest(bounds) AS edge
        UNION ALL
        SELECT number, 4, val, freq::float8, 0 FROM found, unnest(vals, freqs) AS common (val, freq)
    )
    SELECT number, kind, value::text, share, correlation FROM entry
    ORDER BY number, {value}, {several} AND kind = 2, kind
"""
