"""Check whether rows are evenly spread between known keys, with a few short index scans (probes) instead of a walk."""

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

_PROBES = 8
"""Number of probes per interval. Each is at a random place in its eighth of the interval, except that the first and the
last probe are at the interval's ends, because the density may change close to an end."""

_MIN_PROBE_ROWS, _MAX_PROBE_ROWS = 64, 500
"""Rows that a probe should find. Fewer vary too much by chance; more take longer to read."""

_TOLERANCE, _TOTAL_TOLERANCE = 0.5, 0.2
"""Fraction by which the rows found may differ from the expected rows: in one probe, and in all probes of an interval.

ANALYZE knows a bucket's rows from a sample of 300, which is accurate to 6 %.
"""


class KeyInterval(NamedTuple):
    """The keys from one ordinal (inclusive) to another (exclusive), with an estimate of their rows."""

    start: int
    end: int
    rows: float


class _Probe(NamedTuple):
    """The keys from ``lower`` to ``upper``, with the expected number of rows."""

    interval: int
    lower: str
    upper: str
    rows: float


def find_uneven(
    connection: PlannerConnection,
    profile: RelationProfile,
    codec: OrdinalCodec,
    intervals: Sequence[KeyInterval],
    target: float,
    shared: Bound = (),
) -> set[int]:
    """Return the indexes of the intervals whose rows are not evenly spread.

    :param codec: the codec of the intervals' column: the first one, or the one after ``shared``.
    :param target: rows per range. Unevenness on a much smaller scale does not matter.
    :param shared: the values of all columns before the intervals' column.
    """
    probes = list(
        chain.from_iterable(_probes(index, interval, codec, target) for index, interval in enumerate(intervals))
    )
    if not probes:
        return set()
    with connection.local_settings(**PREFER_INDEX):
        found = connection.fetch_all(_statement(profile, probes, shared))
    counts: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for probe, (rows,) in zip(probes, found, strict=True):
        counts[probe.interval].append((rows, probe.rows))
    return {index for index, pairs in counts.items() if not _is_even(pairs)}


def _probes(index: int, interval: KeyInterval, codec: OrdinalCodec, target: float) -> Iterator[_Probe]:
    length = interval.end - interval.start
    if interval.rows > _MAX_PROBE_ROWS * length:
        return  # Each key has many rows, so a probe would take long, and there are few places to cut at.
    rows = min(max(target / 4, _MIN_PROBE_ROWS), _MAX_PROBE_ROWS, interval.rows / _PROBES)
    # As a fraction, because a float cannot hold every ordinal.
    numerator, denominator = (rows / interval.rows).as_integer_ratio()
    width = max(length * numerator // denominator, 1)
    # Seeded, so that the same table gives the same plan.
    generator = random.Random(interval.start)  # noqa: S311 - not for cryptography
    for part in range(_PROBES):
        first, last = (interval.start + length * edge // _PROBES for edge in (part, part + 1))
        latest = max(last - width, first)
        fixed = {0: (first, first), _PROBES - 1: (latest, latest)}
        lower = generator.randint(*fixed.get(part, (first, latest)))
        upper = min(lower + width, interval.end)
        yield _Probe(index, codec.decode(lower), codec.decode(upper), interval.rows * ((upper - lower) / length))


def _is_even(counts: Sequence[tuple[int, float]]) -> bool:
    """Return whether the rows found are about those expected, in each probe and in total.

    :param counts: rows found and expected, per probe.
    """
    found, expected = (sum(numbers) for numbers in zip(*counts, strict=True))
    is_each_even = all(abs(rows - wanted) <= max(_TOLERANCE * wanted, 1) for rows, wanted in counts)
    return is_each_even and abs(found - expected) <= max(_TOTAL_TOLERANCE * expected, 1)


def _statement(profile: RelationProfile, probes: Sequence[_Probe], shared: Bound) -> sql.Composable:
    column = profile.sort_key.columns[len(shared)]
    type_, name = sql.SQL(column.type), sql.Identifier(column.name)
    # Not a row comparison: for two of them the server reads all rows with the same first column.
    same = [
        sql.SQL("{} AND ").format(
            comparison([other], [sql.Identifier(other.name)], "=", [cast_and_collate(sql.Literal(value), other)])
        )
        for other, value in zip(profile.sort_key.columns, shared, strict=False)
    ]
    limit = max(probe.rows for probe in probes) * (1 + _TOLERANCE) + 2
    return sql.SQL(_COUNTS).format(
        from_sql=profile.from_sql,
        same=sql.Composed(same),
        column=name,
        lower=cast_and_collate(sql.SQL("probe.lower"), column),
        upper=cast_and_collate(sql.SQL("probe.upper"), column),
        limit=sql.Literal(int(limit)),
        lowers=sql.SQL("{}::{}[]").format(sql.Literal([probe.lower for probe in probes]), type_),
        uppers=sql.SQL("{}::{}[]").format(sql.Literal([probe.upper for probe in probes]), type_),
    )


_COUNTS: LiteralString = """
    SELECT (
        SELECT count(*)
        FROM (
            SELECT FROM {from_sql} AS origin WHERE {same} {column} >= {lower} AND {column} < {upper} LIMIT {limit}
        ) AS seen
    )
    FROM unnest({lowers}, {uppers}) WITH ORDINALITY AS probe (lower, upper, place)
    ORDER BY place
"""
