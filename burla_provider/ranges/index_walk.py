"""Walking over an index: every so many rows a key, exact, without a scan of the table and without a sort."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import LiteralString, NamedTuple

from psycopg import sql

from burla_provider.ranges.condition import count_shared_columns, prefix_condition, range_condition
from burla_provider.ranges.key import Bound, Key
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sort_key import SortKey, comma_separated, fetch_end_keys

_log = logging.getLogger(__name__)

_ROWS_A_QUERY = 5_000_000
"""A second or so: often enough to say how far the walk is, and short of most statement timeouts."""

_STEPS_A_QUERY = 100_000
"""What comes in one answer is in memory at once."""

_SECONDS_BETWEEN_LINES = 5.0

_EXACTNESS = 16
"""Rows with equal keys are counted one by one where more than this part of a step has the same key."""


@dataclass(frozen=True)
class Path:
    """What is walked over.

    :param source: the relation, as FROM takes it.
    :param order: the key's.
    :param key: what it is the order of.
    :param lower: where to start, inclusive; None: at the first key.
    :param upper: where to end, exclusive; None: behind the last key.
    :param unique: no two rows have the same key.
    """

    source: sql.Composable
    order: SortKey
    key: Key
    lower: Bound | None
    upper: Bound | None
    unique: bool = False

    def behind(self, shared: int) -> Path:
        """The same way by the other columns only, where the first ones have one value from its start to its end.

        The rest of that value's rows would be read otherwise: see condition.py.
        """
        lower, upper = self.lower or (), self.upper or ()
        source = sql.SQL("(SELECT {} FROM {} WHERE {})").format(
            comma_separated([sql.Identifier(name) for name in self.key.names[shared:]]),
            self.source,
            prefix_condition(self.key, lower[:shared]),
        )
        order, key = SortKey(self.order.columns[shared:]), Key(self.key.columns[shared:])
        return Path(source, order, key, lower[shared:], upper[shared:], self.unique)


class Step(NamedTuple):
    """A key, and how many rows there are from it up to the next step's key."""

    bound: Bound
    rows: int


def walk(queries: PlannerConnection, path: Path, step: int, *, hurry_after: int | None = None) -> Iterator[Step]:
    """Yields the first key, and then one every ``step`` rows, or as soon after that as the key changes.

    :param hurry_after: after so many steps, and again after as many, steps are twice as long, because there are more
        rows than somebody thought.
    """
    shared = count_shared_columns(path.lower, path.upper)
    if not shared or path.lower is None:
        return _walk(queries, path, step, hurry_after)
    same = path.lower[:shared]
    steps = _walk(queries, path.behind(shared), step, hurry_after)
    return (Step((*same, *bound), rows) for bound, rows in steps)


def _walk(queries: PlannerConnection, path: Path, step: int, hurry_after: int | None) -> Iterator[Step]:
    window = range_condition(path.key, path.lower, path.upper)
    start = next(iter(fetch_end_keys(queries, path.order, path.source, window, "min")), None)
    if start is None or start[0] is None:
        return
    progress = _Progress()
    taken = 0
    while True:
        batch = min(max(_ROWS_A_QUERY // step, 1), hurry_after or _STEPS_A_QUERY)
        rows = queries.fetch_all(_statement(_WALK, path, start, step=sql.Literal(step), batch=sql.Literal(batch)))
        for *bound, passed in rows:
            yield Step(start, passed)
            start = tuple(bound)
        progress.add(sum(passed for *_, passed in rows))
        if len(rows) < batch:
            break
        taken += batch
        if hurry_after is not None and taken >= hurry_after:
            step, taken = step * 2, 0
    yield Step(start, queries.fetch_value(_statement(_REST, path, start)))


def _statement(template: LiteralString, path: Path, start: Bound = (), **parts: sql.Composable) -> sql.Composable:
    order = path.order
    literals = order.literals(start) if start else []
    frequent = "false" if path.unique else _FREQUENT
    count = _COUNT if len(order.columns) == 1 else _COUNT_OF_SEVERAL
    return sql.SQL(template.replace("{frequent}", frequent).replace("{count}", count)).format(
        source=path.source,
        # From a step on, the lower end is behind us. The index would start there all the same, if it was said again
        # for several columns.
        below=range_condition(path.key, None, path.upper),
        by=order.order_by,
        values=order.select_list,
        names=comma_separated([sql.Identifier(name) for name in order.aliases]),
        texts=order.texts_of("walk"),
        from_walk=order.compare(order.identifiers, ">=", order.values_of("walk")),
        behind_walk=order.compare(order.identifiers, ">", order.values_of("walk")),
        at_walk=order.compare(order.identifiers, "=", order.values_of("walk")),
        at_far=order.compare(order.identifiers, "=", order.values_of("far")),
        before_cut=order.compare(order.identifiers, "<", order.values_of("cut")),
        far_behind_walk=order.compare(order.values_of("far"), ">", order.values_of("walk")),
        before_far=order.compare(order.values_of("before"), "<", order.values_of("far")),
        cuts=comma_separated([sql.Identifier("cut", name) for name in order.aliases]),
        from_start=order.compare(order.identifiers, ">=", literals) if literals else sql.SQL(""),
        starts=comma_separated(literals),
        exactness=sql.Literal(_EXACTNESS),
        **parts,
    )


class _Progress:
    """Says now and then how far a long walk is."""

    def __init__(self) -> None:
        self._rows = 0
        self._said = time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            _log.info("Planning: %s rows of the index walked so far.", f"{self._rows:,}")
            self._said = time.monotonic()


# far: the key that many rows on. cut: that key, or the next greater one where all those rows have the same key.
_WALK: LiteralString = """
    WITH RECURSIVE walk ({names}, passed) AS (
        SELECT {starts}, 0::bigint
        UNION ALL
        SELECT {cuts}, passed.passed
        FROM walk
        CROSS JOIN LATERAL (
            SELECT {values} FROM {source} AS origin WHERE {below} AND {from_walk}
            ORDER BY {by} OFFSET {step} LIMIT 1
        ) AS far
        CROSS JOIN LATERAL (
            SELECT far.*, {frequent} WHERE {far_behind_walk}
            UNION ALL
            (
                SELECT {values}, true FROM {source} AS origin WHERE NOT {far_behind_walk} AND {below} AND {behind_walk}
                ORDER BY {by} LIMIT 1
            )
        ) AS cut ({names}, counted)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN cut.counted THEN ({count}) ELSE {step} END
        ) AS passed (passed)
    )
    SELECT {texts}, passed FROM walk OFFSET 1 LIMIT {batch}
"""

_FREQUENT: LiteralString = "EXISTS (SELECT FROM {source} AS origin WHERE {at_far} OFFSET {step} / {exactness})"

_COUNT: LiteralString = "SELECT count(*) FROM {source} AS origin WHERE {below} AND {from_walk} AND {before_cut}"

# By a limit or a value, because the server may go on behind the end of a comparison of rows: see condition.py.
_COUNT_OF_SEVERAL: LiteralString = """
    SELECT CASE WHEN {far_behind_walk} THEN (
        SELECT count(*)
        FROM (
            SELECT {values} FROM {source} AS origin WHERE {below} AND {from_walk} ORDER BY {by} LIMIT {step}
        ) AS before
        WHERE {before_far}
    ) ELSE (
        SELECT count(*) FROM {source} AS origin WHERE {at_walk}
    ) END
"""

_REST: LiteralString = """
    SELECT count(*) FROM {source} AS origin WHERE {below} AND {from_start}
"""
