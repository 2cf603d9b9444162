"""Walk over an index: find every n-th key, exactly, without a table scan and without a sort."""

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
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sort_key import SortKey, comma_separated, fetch_end_keys

_log = logging.getLogger(__name__)

_ROWS_PER_QUERY = 5_000_000
"""Such a query takes about a second: short enough to report progress, and for most statement timeouts."""

_STEPS_PER_QUERY = 100_000
"""Limits the memory: the result of one query is in memory at a time."""

_LOG_INTERVAL = 5.0
"""Seconds between two log lines."""

_EXACTNESS = 16
"""If more than this part (1/16) of a step's rows has the same key, the step's rows are counted one by one."""


@dataclass(frozen=True)
class IndexScan:
    """The part of a relation to walk over.

    :param from_sql: the relation, for FROM.
    :param sort_key: the columns of the key, to sort by.
    :param key: the key.
    :param lower: where to start, inclusive; None: at the first key.
    :param upper: where to end, exclusive; None: after the last key.
    :param unique: whether no two rows have the same key.
    """

    from_sql: sql.Composable
    sort_key: SortKey
    key: Key
    lower: Bound | None
    upper: Bound | None
    unique: bool = False

    @classmethod
    def of_relation(cls, profile: RelationProfile, lower: Bound | None, upper: Bound | None) -> IndexScan:
        """Return the scan of a relation's key between two bounds."""
        return cls(profile.from_sql, profile.sort_key, profile.key, lower, upper, profile.is_unique)

    def without_shared_columns(self, shared: int) -> IndexScan:
        """Return the same scan by the other columns only, if the first ``shared`` ones have one value from end to end.

        Otherwise the server would read all rows with that value: see condition.py.
        """
        lower, upper = self.lower or (), self.upper or ()
        from_sql = sql.SQL("(SELECT {} FROM {} WHERE {})").format(
            comma_separated([sql.Identifier(name) for name in self.key.names[shared:]]),
            self.from_sql,
            prefix_condition(self.key, lower[:shared]),
        )
        sort_key, key = SortKey(self.sort_key.columns[shared:]), Key(self.key.columns[shared:])
        return IndexScan(from_sql, sort_key, key, lower[shared:], upper[shared:], self.unique)


class Step(NamedTuple):
    """A key, and the number of rows from it up to the next step's key."""

    bound: Bound
    rows: int


def walk(
    connection: PlannerConnection, scan: IndexScan, step_rows: int, *, double_step_after: int | None = None
) -> Iterator[Step]:
    """Yield the first key, and then a key every ``step_rows`` rows, or as soon after that as the key changes.

    :param double_step_after: double the step each time after this number of steps, because there are more rows than
        estimated.
    """
    shared = count_shared_columns(scan.lower, scan.upper)
    if not shared or scan.lower is None:
        return _walk(connection, scan, step_rows, double_step_after)
    shared_values = scan.lower[:shared]
    steps = _walk(connection, scan.without_shared_columns(shared), step_rows, double_step_after)
    return (Step((*shared_values, *bound), rows) for bound, rows in steps)


def _walk(
    connection: PlannerConnection, scan: IndexScan, step_rows: int, double_step_after: int | None
) -> Iterator[Step]:
    window = range_condition(scan.key, scan.lower, scan.upper)
    start = next(iter(fetch_end_keys(connection, scan.sort_key, scan.from_sql, window, "min")), None)
    if start is None or start[0] is None:
        return
    progress = _Progress()
    steps = 0
    while True:
        batch = min(max(_ROWS_PER_QUERY // step_rows, 1), double_step_after or _STEPS_PER_QUERY)
        rows = connection.fetch_all(
            _statement(_WALK, scan, start, step=sql.Literal(step_rows), batch=sql.Literal(batch))
        )
        for *bound, passed in rows:
            yield Step(start, passed)
            start = tuple(bound)
        progress.add(sum(passed for *_, passed in rows))
        if len(rows) < batch:
            break
        steps += batch
        if double_step_after is not None and steps >= double_step_after:
            step_rows, steps = step_rows * 2, 0
    yield Step(start, connection.fetch_value(_statement(_REMAINING, scan, start)))


def _statement(template: LiteralString, scan: IndexScan, start: Bound = (), **parts: sql.Composable) -> sql.Composable:
    sort_key = scan.sort_key
    literals = sort_key.literals(start) if start else []
    frequent = "false" if scan.unique else _FREQUENT
    count = _COUNT if len(sort_key.columns) == 1 else _COUNT_SEVERAL_COLUMNS
    return sql.SQL(template.replace("{frequent}", frequent).replace("{count}", count)).format(
        from_sql=scan.from_sql,
        # Without the lower bound, which is before every start. For several columns, the server would otherwise start
        # its index scan at the lower bound.
        below=range_condition(scan.key, None, scan.upper),
        by=sort_key.order_by,
        values=sort_key.select_list,
        names=comma_separated([sql.Identifier(name) for name in sort_key.aliases]),
        texts=sort_key.texts_of("walk"),
        from_walk=sort_key.compare(sort_key.identifiers, ">=", sort_key.values_of("walk")),
        behind_walk=sort_key.compare(sort_key.identifiers, ">", sort_key.values_of("walk")),
        at_walk=sort_key.compare(sort_key.identifiers, "=", sort_key.values_of("walk")),
        at_far=sort_key.compare(sort_key.identifiers, "=", sort_key.values_of("far")),
        before_cut=sort_key.compare(sort_key.identifiers, "<", sort_key.values_of("cut")),
        far_behind_walk=sort_key.compare(sort_key.values_of("far"), ">", sort_key.values_of("walk")),
        before_far=sort_key.compare(sort_key.values_of("before"), "<", sort_key.values_of("far")),
        cuts=comma_separated([sql.Identifier("cut", name) for name in sort_key.aliases]),
        from_start=sort_key.compare(sort_key.identifiers, ">=", literals) if literals else sql.SQL(""),
        starts=comma_separated(literals),
        exactness=sql.Literal(_EXACTNESS),
        **parts,
    )


class _Progress:
    """Logs the progress of a long walk."""

    def __init__(self) -> None:
        self._rows = 0
        self._logged_at = time.monotonic()

    def add(self, rows: int) -> None:
        self._rows += rows
        if time.monotonic() - self._logged_at > _LOG_INTERVAL:
            _log.info("Planning: scanned %s rows of the index so far.", f"{self._rows:,}")
            self._logged_at = time.monotonic()


# far: the key {step} rows after walk. cut: far, or the next key if all rows from walk to far have the same key.
_WALK: LiteralString = """
    WITH RECURSIVE walk ({names}, passed) AS (
        SELECT {starts}, 0::bigint
        UNION ALL
        SELECT {cuts}, passed.passed
        FROM walk
        CROSS JOIN LATERAL (
            SELECT {values} FROM {from_sql} AS origin WHERE {below} AND {from_walk}
            ORDER BY {by} OFFSET {step} LIMIT 1
        ) AS far
        CROSS JOIN LATERAL (
            SELECT far.*, {frequent} WHERE {far_behind_walk}
            UNION ALL
            (
                SELECT {values}, true FROM {from_sql} AS origin
                WHERE NOT {far_behind_walk} AND {below} AND {behind_walk}
                ORDER BY {by} LIMIT 1
            )
        ) AS cut ({names}, counted)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN cut.counted THEN ({count}) ELSE {step} END
        ) AS passed (passed)
    )
    SELECT {texts}, passed FROM walk OFFSET 1 LIMIT {batch}
"""

_FREQUENT: LiteralString = "EXISTS (SELECT FROM {from_sql} AS origin WHERE {at_far} OFFSET {step} / {exactness})"

_COUNT: LiteralString = "SELECT count(*) FROM {from_sql} AS origin WHERE {below} AND {from_walk} AND {before_cut}"

# By LIMIT or by value, because the server may read beyond the end of a row comparison: see condition.py.
_COUNT_SEVERAL_COLUMNS: LiteralString = """
    SELECT CASE WHEN {far_behind_walk} THEN (
        SELECT count(*)
        FROM (
            SELECT {values} FROM {from_sql} AS origin WHERE {below} AND {from_walk} ORDER BY {by} LIMIT {step}
        ) AS before
        WHERE {before_far}
    ) ELSE (
        SELECT count(*) FROM {from_sql} AS origin WHERE {at_walk}
    ) END
"""

_REMAINING: LiteralString = """
    SELECT count(*) FROM {from_sql} AS origin WHERE {below} AND {from_start}
"""
