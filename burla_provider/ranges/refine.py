"""Looking whether ranges are as large as they should be, and cutting those that are larger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from psycopg import sql

from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.spans import Span
from burla_provider.ranges.survey import READ_BY_INDEX, Piece
from burla_provider.ranges.walk import Path, walk

OVERSIZE = 1.5
"""Ranges of up to so many times the rows wanted stay as they are."""

_PROBES_A_QUERY = 100


def refine(
    queries: Queries, piece: Piece, spans: Sequence[Span], target: float, suspects: Collection[int]
) -> Iterator[Span]:
    """The same spans, but of the suspects those that have too many rows are cut, exactly, by walking over them.

    :param target: rows wanted.
    :param suspects: numbers of the spans to look at. Looking costs up to ``target`` index entries each.
    """
    with queries.locally(**READ_BY_INDEX):
        oversize = set(_oversize(queries, piece, spans, target, sorted(suspects)))
        for number, span in enumerate(spans):
            yield from _cut(queries, piece, span, target) if number in oversize else [span]


def _oversize(
    queries: Queries, piece: Piece, spans: Sequence[Span], target: float, suspects: Sequence[int]
) -> Iterator[int]:
    for start in range(0, len(suspects), _PROBES_A_QUERY):
        probes = [
            sql.SQL("SELECT {}, EXISTS (SELECT FROM {} AS origin WHERE {} OFFSET {})").format(
                sql.Literal(number), piece.source, _inside(piece, spans[number]), sql.Literal(int(OVERSIZE * target))
            )
            for number in suspects[start : start + _PROBES_A_QUERY]
        ]
        yield from (number for number, larger in queries.rows(sql.SQL(" UNION ALL ").join(probes)) if larger)


def _cut(queries: Queries, piece: Piece, span: Span, target: float) -> Iterator[Span]:
    path = Path(piece.source, piece.order, piece.key, span.lower, span.upper, piece.unique)
    steps = list(walk(queries, path, max(int(target), 1)))
    bounds = [span.lower, *(step.bound for step in steps[1:]), span.upper]
    for step, lower, upper in zip(steps, bounds, bounds[1:], strict=False):
        yield Span(lower, upper, step.rows)


def _inside(piece: Piece, span: Span) -> sql.Composable:
    return KeyRange(piece.key, 0, span.lower, span.upper).where
