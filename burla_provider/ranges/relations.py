"""Which relations a plan has to cut, and what is known of each: facts, the server's estimates, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from psycopg import sql

from burla_provider.ranges.catalog import STORED_KINDS, Leaf, TableFacts
from burla_provider.ranges.condition import comparison, range_condition
from burla_provider.ranges.key import Key
from burla_provider.ranges.planner_connection import PREFER_INDEX, UNKNOWN, PlannerConnection
from burla_provider.ranges.sort_key import SortKey, cast_and_collate
from burla_provider.ranges.statistics import Statistics, read_statistics
from burla_provider.ranges.window import Window

_QUICKLY_WALKED = 500_000
"""Rows of a partitioned table whose index is walked, exactly, in about a second."""

_STALE = 0.1
"""Part of the rows that may have changed since ANALYZE; autovacuum's own threshold."""


@dataclass(frozen=True)
class RelationProfile:
    """One relation to cut.

    :param source: the relation, as FROM takes it.
    :param relation: schema and name of the partition that it is; None: the whole table.
    :param sort_key: of the key's columns; of none for pages or the whole table.
    :param window: the keys to cover.
    :param rows: in the window, as estimated.
    :param leaves: what holds its rows.
    :param analyzed_rows: rows when the statistics were made.
    :param changes_since_analyze: rows that changed since then, as far as the server knows or the size tells.
    :param is_indexed: an index gives the rows in the key's order.
    :param is_unique: no two rows have the same key.
    :param statistics: of the key; None: there are none, or the role may not see them.
    :param null_rows: rows whose key is NULL, as estimated; None: nothing is known of them.
    """

    source: sql.Composable
    relation: tuple[str, str] | None
    key: Key
    sort_key: SortKey
    window: Window
    rows: float
    leaves: tuple[Leaf, ...]
    analyzed_rows: float = 0.0
    changes_since_analyze: float = 0.0
    is_indexed: bool = False
    is_unique: bool = False
    statistics: Statistics | None = None
    null_rows: float | None = None

    @property
    def pages(self) -> int:
        return sum(leaf.pages for leaf in self.leaves)

    @property
    def distrust_reason(self) -> str | None:
        """Why the statistics do not tell where the rows are; None: they do."""
        if not self.statistics:
            return "there are no statistics of the key"
        if self.statistics.distribution is None:
            return "the statistics do not say where to cut"
        if self.changes_since_analyze > _STALE * self.analyzed_rows:
            known = (
                f"about {self.changes_since_analyze:,.0f} rows"
                if self.changes_since_analyze < inf
                else "nobody knows how many rows"
            )
            return f"{known} changed since the last ANALYZE"
        return None

    @property
    def window_condition(self) -> sql.Composable:
        """The condition that picks the window's rows."""
        return range_condition(self.key, self.window.lower, self.window.upper)


@dataclass(frozen=True)
class TableProfile:
    """The relations to cut, and which part of their rows passes ``where``."""

    relations: tuple[RelationProfile, ...]
    selectivity: float

    @property
    def rows(self) -> float:
        return sum(piece.rows for piece in self.relations)


def profile_table(
    queries: PlannerConnection,
    facts: TableFacts,
    key: Key,
    order: SortKey,
    window: Window,
    where: str | None,
    most_pieces: int | None,
) -> TableProfile:
    """Looks at everything that a plan is made from.

    :param most_pieces: a partitioned table with more partitions in the window is cut as a whole. None: never.
    :raises InvalidParameterError: ``where`` is no condition on the table, the role may not read the key, or it has no order.
    """
    estimable = _estimable(key, window)
    with queries.errors_blame("key", "The role must be allowed to read the columns of the key."):
        whole = queries.explain(sql.SQL("SELECT FROM {} WHERE {}").format(facts.source, estimable))
    selectivity = _selectivity(queries, facts, estimable, where, whole.rows)
    piece = RelationProfile(
        facts.source, None, key, order, window, whole.rows, facts.leaves, is_unique=facts.is_unique(key)
    )
    pieces = [
        _with_age(_without_phantoms(piece), facts)
        for piece in _split(piece, facts, whole.rows_by_relation, most_pieces)
    ]
    if order.columns:
        indexed = _is_indexed(queries, facts, order, range_condition(key, None, window.upper))
        outside = _outside(queries, facts, key, window)
        known = _statistics(queries, facts, order, window, pieces, outside)
        if facts.is_tree and [piece.relation for piece in pieces] == [None]:
            pieces, known = _by_leaves(queries, pieces[0], known[0], whole.rows_by_relation, outside)
        pieces = [_with_statistics(queries, piece, indexed, of) for piece, of in zip(pieces, known, strict=True)]
    return TableProfile(tuple(pieces), selectivity)


def can_split_by_leaf(facts: TableFacts) -> bool:
    """Whether every partition may be read by its own name, and a query gives the same that way.

    In a partition whose columns are in another order, the row as a whole, such as ``orders::text``, is another value.
    """
    return can_read_leaves(facts) and all(leaf.has_same_columns for leaf in facts.leaves)


def can_read_leaves(facts: TableFacts) -> bool:
    """Whether every partition may be read by its own name, and shows the same rows that way.

    Policies of the table do not reach a read of the partition, and rights on the one say nothing about the other.
    """
    return facts.kind == "p" and not facts.row_security and all(leaf.is_readable for leaf in facts.leaves)


def _estimable(key: Key, window: Window) -> sql.Composable:
    """The condition that picks the window's rows, or, of several columns, those that the first one does not rule out.

    The server estimates a comparison of rows by their first column only, as if no row had the upper end's own value.
    """
    if len(key.columns) < 2:
        return range_condition(key, window.lower, window.upper)
    column = key.columns[0]
    name, type_ = sql.Identifier(column.name), sql.SQL(column.type)
    conditions = [
        comparison([column], [name], operator, [sql.SQL("{}::{}").format(sql.Literal(bound[0]), type_)])
        for operator, bound in ((">=", window.lower), ("<=", window.upper))
        if bound is not None
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")


def _outside(queries: PlannerConnection, facts: TableFacts, key: Key, window: Window) -> tuple[float, float]:
    """Of the rows that share the first value of the window's lower and upper end, the parts beyond that end.

    Estimated by the second column, as if it had nothing to do with the first one.
    """
    if len(key.columns) < 2 or not window.is_bounded:
        return 0.0, 0.0
    later = Key(key.columns[1:])
    ends = (Window(lower=window.lower and window.lower[1:]), Window(upper=window.upper and window.upper[1:]))
    query = sql.SQL("SELECT FROM {} WHERE {}")
    every, *inside = (
        queries.explain(query.format(facts.source, _estimable(later, end))).rows for end in (Window(), *ends)
    )
    lower, upper = (max(1 - rows / max(every, 1), 0.0) for rows in inside)
    return lower, upper


def _selectivity(
    queries: PlannerConnection, facts: TableFacts, inside: sql.Composable, where: str | None, rows: float
) -> float:
    if where is None:
        return 1.0
    # On lines of its own, so that a comment at its end ends there.
    condition = sql.SQL(where)
    query = sql.SQL("SELECT FROM {} WHERE {} AND (\n{}\n)").format(facts.aliased_source, inside, condition)
    with queries.errors_blame("where", f"It must be a condition on one row of {facts}."):
        passing = queries.explain(query).rows
    return min(passing / max(rows, 1), 1.0)


def _split(
    piece: RelationProfile, facts: TableFacts, rows: dict[tuple[str, str], int], most: int | None
) -> list[RelationProfile]:
    if not can_split_by_leaf(facts):
        return [piece]
    leaves = [leaf for leaf in facts.leaves if not piece.window.is_bounded or (leaf.schema, leaf.name) in rows]
    if most is not None and len(leaves) > most:
        return [replace(piece, leaves=tuple(leaves))]
    return [
        replace(
            piece,
            source=sql.SQL("ONLY {}").format(sql.Identifier(leaf.schema, leaf.name)),
            relation=(leaf.schema, leaf.name),
            rows=rows.get((leaf.schema, leaf.name), 0),
            leaves=(leaf,),
        )
        for leaf in leaves
    ]


def _is_indexed(queries: PlannerConnection, facts: TableFacts, order: SortKey, below: sql.Composable) -> bool:
    """Whether a walk, whose steps go from a key on to the window's upper end, takes its rows from an index."""
    # Under row security, an operator that might leak what it compares is no condition of the index: each step of a walk
    # would begin at the index's first entry.
    query = sql.SQL("SELECT {by} FROM {table} WHERE {below} AND {from_somewhere} ORDER BY {by} LIMIT 1")
    with queries.local_settings(**PREFER_INDEX), queries.errors_blame("key", "Choose a key whose type can be sorted."):
        explained = queries.explain(
            query.format(
                by=order.order_by,
                table=facts.source,
                below=below,
                from_somewhere=order.compare(order.identifiers, ">=", _unknown_key(order)),
            ),
        )
    return explained.seeks and not explained.has_sort


def _unknown_key(sort_key: SortKey) -> list[sql.Composable]:
    """Return a key that is unknown to the server when it plans."""
    return [cast_and_collate(sql.SQL(UNKNOWN).format(sql.SQL(column.type)), column) for column in sort_key.columns]


def _statistics(
    queries: PlannerConnection,
    facts: TableFacts,
    order: SortKey,
    window: Window,
    pieces: Sequence[RelationProfile],
    outside: tuple[float, float],
) -> list[Statistics | None]:
    groups = [[(*(piece.relation or (facts.schema, facts.table)), 1.0)] for piece in pieces]
    inherited = facts.is_tree and any(piece.relation is None for piece in pieces)
    return read_statistics(queries, order, window, groups, outside, inherited=inherited) if pieces else []


def _by_leaves(
    queries: PlannerConnection,
    piece: RelationProfile,
    of_the_whole: Statistics | None,
    rows: dict[tuple[str, str], int],
    outside: tuple[float, float],
) -> tuple[list[RelationProfile], list[Statistics | None]]:
    """The statistics of all leaves put together: the whole has none unless somebody runs ANALYZE on it by hand.

    An index of many partitions is walked several times as slowly as one of a table.

    :param rows: of each leaf in the window, as estimated.
    """
    leaves = [leaf for leaf in piece.leaves if leaf.pages]
    if not leaves or (of_the_whole is not None and piece.rows <= _QUICKLY_WALKED):
        return [piece], [of_the_whole]
    group = [(leaf.schema, leaf.name, float(leaf.rows or 0)) for leaf in leaves]
    [known] = read_statistics(queries, piece.sort_key, piece.window, [group], outside, inherited=False)
    if known is None:
        return [piece], [of_the_whole]
    seen = [leaf for number, leaf in enumerate(leaves) if number in known.known_relations]
    unseen = sum(rows.get((leaf.schema, leaf.name), 0) for leaf in leaves if leaf not in seen)
    counted = sum(leaf.reltuples or 0 for leaf in seen)
    return [replace(piece, analyzed_rows=counted, changes_since_analyze=unseen + sum(map(_changed, seen)))], [known]


def _with_statistics(
    queries: PlannerConnection, piece: RelationProfile, indexed: bool, statistics: Statistics | None
) -> RelationProfile:
    rows = piece.rows * (statistics.window_fraction if statistics else 1.0)
    piece = replace(piece, rows=rows, is_indexed=indexed, statistics=statistics)
    if statistics is None or not piece.window.includes_nulls:
        return piece
    nulls = statistics.null_fraction
    if nulls == 1 and _has_key(queries, piece):
        return piece  # A column that was filled since ANALYZE.
    if not piece.window.is_bounded:
        return replace(piece, rows=piece.rows * (1 - nulls), null_rows=piece.rows * nulls)
    return replace(piece, null_rows=piece.rows * nulls / (1 - nulls) if nulls < 1 else None)


def _has_key(queries: PlannerConnection, piece: RelationProfile) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)")
    return bool(queries.fetch_value(query.format(piece.source, sql.Identifier(piece.key.names[0]))))


def _without_phantoms(piece: RelationProfile) -> RelationProfile:
    # The server takes a table that it never counted for a few pages long, even an empty one.
    stored = all(leaf.kind in STORED_KINDS for leaf in piece.leaves)
    return replace(piece, rows=0.0) if stored and not piece.pages else piece


def _with_age(piece: RelationProfile, facts: TableFacts) -> RelationProfile:
    counted = sum(leaf.reltuples or 0 for leaf in piece.leaves)
    if piece.relation is None and facts.is_tree:
        # The leaves' counters say nothing about the statistics of the whole, which nobody updates but by hand.
        counted = facts.reltuples or 0
        return replace(
            piece, analyzed_rows=counted, changes_since_analyze=abs((facts.rows or 0) - counted) if counted else inf
        )
    return replace(piece, analyzed_rows=counted, changes_since_analyze=sum(map(_changed, piece.leaves)))


def _changed(leaf: Leaf) -> float:
    if leaf.pages and leaf.reltuples is None:
        return inf  # Its statistics, if it has any, are of other times: a server that only follows counts no changes.
    return max(leaf.changes_since_analyze, abs((leaf.rows or 0) - (leaf.reltuples or 0)))
