"""Whether rows are evenly spread between keys that are known: a few narrow looks at the index, instead of a walk."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import LiteralString, NamedTuple

from psycopg import sql

from burla_provider.ranges.condition import comparison
from burla_provider.ranges.key import Bound
from burla_provider.ranges.ordinals import OrdinalCodec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sort_key import cast_and_collate

_LOOKS = 8
"""A stretch. Each is at a place of its own eighth, so that none is left out, the first and the last one at its ends:
where the rows' density changes is in the stretch of one side, maybe close to its end, and that is all that shows it."""

_LEAST_SEEN, _MOST_SEEN = 64, 500
"""Rows that a look should find: enough that half of them missing is no chance, and read in no time."""

_TOLERANCE, _TOLERANCE_OF_ALL = 0.5, 0.2
"""Part of the rows expected at a look, and at all of a stretch, that may be missing, or there besides.

ANALYZE knows a bucket's rows from a sample of 300, which is sure to 6 %.
"""


class KeyInterval(NamedTuple):
    """From one place on an axis (inclusive) to another (exclusive), with about so many rows."""

    start: int
    end: int
    rows: float


class _Look(NamedTuple):
    stretch: int
    lower: str
    upper: str
    rows: float


def find_uneven(
    queries: PlannerConnection,
    piece: RelationProfile,
    axis: OrdinalCodec,
    stretches: Sequence[KeyInterval],
    target: float,
    shared: Bound = (),
) -> set[int]:
    """The numbers of the stretches whose rows are not where equal distances would have them.

    :param axis: of the column that the stretches are of: the first one, or the one behind ``shared``.
    :param target: rows a range should have. What is uneven on a much smaller scale does no harm.
    :param shared: the values of all columns before that one.
    """
    looks = list(chain.from_iterable(_looks(number, one, axis, target) for number, one in enumerate(stretches)))
    if not looks:
        return set()
    with queries.local_settings(**PREFER_INDEX):
        found = queries.fetch_all(_statement(piece, looks, shared))
    seen: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for look, (rows,) in zip(looks, found, strict=True):
        seen[look.stretch].append((rows, look.rows))
    return {number for number, counts in seen.items() if not _is_even(counts)}


def _looks(number: int, stretch: KeyInterval, axis: OrdinalCodec, target: float) -> Iterator[_Look]:
    length = stretch.end - stretch.start
    if stretch.rows > _MOST_SEEN * length:
        return  # So many rows have each key that a look would be long, and there are few places to cut at anyway.
    wanted = min(max(target / 4, _LEAST_SEEN), _MOST_SEEN, stretch.rows / _LOOKS)
    # Exact, for numbers that no float can hold.
    numerator, denominator = (wanted / stretch.rows).as_integer_ratio()
    width = max(length * numerator // denominator, 1)
    # The same places each time, so that the same table gives the same plan.
    chance = random.Random(stretch.start)  # noqa: S311 - no secret
    for part in range(_LOOKS):
        first, last = (stretch.start + length * edge // _LOOKS for edge in (part, part + 1))
        latest = max(last - width, first)
        ends = {0: (first, first), _LOOKS - 1: (latest, latest)}
        place = chance.randint(*ends.get(part, (first, latest)))
        upper = min(place + width, stretch.end)
        yield _Look(number, axis.write(place), axis.write(upper), stretch.rows * ((upper - place) / length))


def _is_even(counts: Sequence[tuple[int, float]]) -> bool:
    """Whether the rows found are about those that were expected, one by one and all together."""
    found, expected = (sum(numbers) for numbers in zip(*counts, strict=True))
    each = all(abs(rows - wanted) <= max(_TOLERANCE * wanted, 1) for rows, wanted in counts)
    return each and abs(found - expected) <= max(_TOLERANCE_OF_ALL * expected, 1)


def _statement(piece: RelationProfile, looks: Sequence[_Look], shared: Bound) -> sql.Composable:
    column = piece.sort_key.columns[len(shared)]
    type_, name = sql.SQL(column.type), sql.Identifier(column.name)
    # Not as a comparison of rows: for two of those the server reads all that has the same first column.
    same = [
        sql.SQL("{} AND ").format(
            comparison([one], [sql.Identifier(one.name)], "=", [cast_and_collate(sql.Literal(value), one)])
        )
        for one, value in zip(piece.sort_key.columns, shared, strict=False)
    ]
    most = max(look.rows for look in looks) * (1 + _TOLERANCE) + 2
    return sql.SQL(_COUNTS).format(
        source=piece.source,
        same=sql.Composed(same),
        column=name,
        lower=cast_and_collate(sql.SQL("look.lower"), column),
        upper=cast_and_collate(sql.SQL("look.upper"), column),
        most=sql.Literal(int(most)),
        lowers=sql.SQL("{}::{}[]").format(sql.Literal([look.lower for look in looks]), type_),
        uppers=sql.SQL("{}::{}[]").format(sql.Literal([look.upper for look in looks]), type_),
    )


_COUNTS: LiteralString = """
    SELECT (
        SELECT count(*)
        FROM (
            SELECT FROM {source} AS origin WHERE {same} {column} >= {lower} AND {column} < {upper} LIMIT {most}
        ) AS seen
    )
    FROM unnest({lowers}, {uppers}) WITH ORDINALITY AS look (lower, upper, place)
    ORDER BY place
"""
