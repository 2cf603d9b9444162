"""Profiles of the relations to split: catalog facts, the server's estimates and the statistics of the key."""

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

_QUICK_SCAN_ROWS = 500_000
"""Up to this number of rows, the indexes of a partitioned table can be scanned, for exact cuts, in about a second."""

_STALE_FRACTION = 0.1
"""Statistics are stale if a larger part of the rows changed since ANALYZE. Autovacuum uses the same threshold."""

_RowsByRelation = dict[tuple[str, str], int]
"""Estimated rows in the window by schema and name of the relation."""


@dataclass(frozen=True)
class RelationProfile:
    """A relation to split.

    :param from_sql: the relation, for FROM.
    :param relation: schema and name if it is a partition; None: the whole table.
    :param sort_key: the key's columns; no columns if the key is ctid or has none.
    :param window: the keys to cover.
    :param rows: estimated rows in the window.
    :param leaves: the relations that store its rows.
    :param analyzed_rows: rows at the last ANALYZE.
    :param changes_since_analyze: rows changed since then, by the server's counters or by the change in size.
    :param is_indexed: whether an index returns the rows in key order.
    :param is_unique: whether no two rows have the same key.
    :param statistics: statistics of the key; None: there are none, or the role cannot see them.
    :param null_rows: estimated rows with a NULL key; None: unknown.
    """

    from_sql: sql.Composable
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
        """Size in pages, without TOAST."""
        return sum(leaf.pages for leaf in self.leaves)

    @property
    def distrust_reason(self) -> str | None:
        """Why the statistics are not good enough to split by; None: they are."""
        if not self.statistics:
            return "there are no statistics of the key"
        if self.statistics.distribution is None:
            return "the statistics contain no usable bounds"
        if self.changes_since_analyze == inf:
            return "row changes since the last ANALYZE are unknown"
        if self.changes_since_analyze > _STALE_FRACTION * self.analyzed_rows:
            return f"about {self.changes_since_analyze:,.0f} rows changed since the last ANALYZE"
        return None

    @property
    def window_condition(self) -> sql.Composable:
        """The condition that selects the rows in the window."""
        return range_condition(self.key, self.window.lower, self.window.upper)


@dataclass(frozen=True)
class TableProfile:
    """The relations to split, and the estimated fraction of their rows for which ``where`` is true."""

    relations: tuple[RelationProfile, ...]
    selectivity: float

    @property
    def rows(self) -> float:
        """Estimated rows in the window."""
        return sum(profile.rows for profile in self.relations)

    def with_even_pages(self) -> TableProfile:
        """Return the profiles as if all pages had the same number of rows: then all ranges have the same pages."""
        pages = sum(profile.pages for profile in self.relations)
        if not pages:
            return self
        relations = (replace(profile, rows=self.rows * profile.pages / pages) for profile in self.relations)
        return replace(self, relations=tuple(relations))


def profile_table(
    connection: PlannerConnection,
    facts: TableFacts,
    key: Key,
    sort_key: SortKey,
    window: Window,
    where: str | None,
    max_partitions: int | None,
) -> TableProfile:
    """Return the profiles of the relations to split.

    :param max_partitions: split a table with more partitions in the window as a whole. None: no limit.
    :raises InvalidParameterError: if ``where`` is not a condition on the table, or the key cannot be read or sorted.
    """
    condition = _estimable_condition(key, window)
    with connection.errors_blame("key", "The role must be allowed to read the columns of the key."):
        query_plan = connection.explain(sql.SQL("SELECT FROM {} WHERE {}").format(facts.from_sql, condition))
    rows_by_relation = query_plan.rows_by_relation
    selectivity = _estimate_selectivity(connection, facts, condition, where, query_plan.rows)
    table = RelationProfile(
        facts.from_sql, None, key, sort_key, window, query_plan.rows, facts.leaves, is_unique=facts.is_unique(key)
    )
    profiles = [
        _with_staleness(_zero_if_empty(profile), facts)
        for profile in _split_by_partition(table, facts, rows_by_relation, max_partitions)
    ]
    if sort_key.columns:
        is_indexed = _is_indexed(connection, facts, sort_key, range_condition(key, None, window.upper))
        outside = _estimate_outside(connection, facts, key, window)
        statistics = _read_statistics(connection, facts, profiles, sort_key, window, outside)
        if facts.is_tree and [profile.relation for profile in profiles] == [None]:
            profile, combined = _combine_leaf_statistics(
                connection, profiles[0], statistics[0], rows_by_relation, outside
            )
            profiles, statistics = [profile], [combined]
        profiles = [
            _with_statistics(connection, profile, is_indexed, relation_statistics)
            for profile, relation_statistics in zip(profiles, statistics, strict=True)
        ]
    return TableProfile(tuple(profiles), selectivity)


def can_split_by_leaf(facts: TableFacts) -> bool:
    """Return whether every partition can be read by its own name with the same results.

    In a partition with another column order, the whole row, such as ``orders::text``, has another value.
    """
    return can_read_leaves(facts) and all(leaf.has_same_columns for leaf in facts.leaves)


def can_read_leaves(facts: TableFacts) -> bool:
    """Return whether every partition can be read by its own name with the same rows.

    Policies of the table do not apply when a partition is read, and privileges on the table do not include partitions.
    """
    return facts.kind == "p" and not facts.row_security and all(leaf.is_readable for leaf in facts.leaves)


def _estimable_condition(key: Key, window: Window) -> sql.Composable:
    """Return a condition on the first column whose rows the server can estimate, for the rows in the window.

    The server estimates a row comparison by its first column, as if no row had the upper bound's first value.
    """
    if len(key.columns) < 2:
        return range_condition(key, window.lower, window.upper)
    column = key.columns[0]
    name, type_name = sql.Identifier(column.name), sql.SQL(column.type)
    conditions = [
        comparison([column], [name], operator, [sql.SQL("{}::{}").format(sql.Literal(bound[0]), type_name)])
        for operator, bound in ((">=", window.lower), ("<=", window.upper))
        if bound is not None
    ]
    return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("TRUE")


def _estimate_outside(
    connection: PlannerConnection, facts: TableFacts, key: Key, window: Window
) -> tuple[float, float]:
    """Return the fractions outside the window of the rows with the first value of its lower and its upper bound.

    The estimate uses the second column, as if it were independent of the first one.
    """
    if len(key.columns) < 2 or not window.is_bounded:
        return 0.0, 0.0
    suffix = Key(key.columns[1:])
    halves = (Window(lower=window.lower and window.lower[1:]), Window(upper=window.upper and window.upper[1:]))
    query = sql.SQL("SELECT FROM {} WHERE {}")
    all_rows, *inside = (
        connection.explain(query.format(facts.from_sql, _estimable_condition(suffix, half))).rows
        for half in (Window(), *halves)
    )
    lower, upper = (max(1 - rows / max(all_rows, 1), 0.0) for rows in inside)
    return lower, upper


def _estimate_selectivity(
    connection: PlannerConnection, facts: TableFacts, condition: sql.Composable, where: str | None, rows: float
) -> float:
    if where is None:
        return 1.0
    # The line breaks end a comment at the end of where.
    query = sql.SQL("SELECT FROM {} WHERE {} AND (\n{}\n)").format(facts.aliased_from_sql, condition, sql.SQL(where))
    with connection.errors_blame("where", f"It must be a condition on one row of {facts}."):
        matching = connection.explain(query).rows
    return min(matching / max(rows, 1), 1.0)


def _split_by_partition(
    table: RelationProfile, facts: TableFacts, rows_by_relation: _RowsByRelation, max_partitions: int | None
) -> list[RelationProfile]:
    if not can_split_by_leaf(facts):
        return [table]
    leaves = [
        leaf for leaf in facts.leaves if not table.window.is_bounded or (leaf.schema, leaf.name) in rows_by_relation
    ]
    if max_partitions is not None and len(leaves) > max_partitions:
        return [replace(table, leaves=tuple(leaves))]
    return [
        replace(
            table,
            from_sql=sql.SQL("ONLY {}").format(sql.Identifier(leaf.schema, leaf.name)),
            relation=(leaf.schema, leaf.name),
            rows=rows_by_relation.get((leaf.schema, leaf.name), 0),
            leaves=(leaf,),
        )
        for leaf in leaves
    ]


def _is_indexed(
    connection: PlannerConnection, facts: TableFacts, sort_key: SortKey, below_upper: sql.Composable
) -> bool:
    """Return whether an index walk, which reads from a key to the window's upper bound, can use an index."""
    # Under row security, an operator that is not leakproof is not an index condition, so that each step of a walk would
    # start at the beginning of the index.
    query = sql.SQL("SELECT {by} FROM {table} WHERE {below_upper} AND {from_key} ORDER BY {by} LIMIT 1").format(
        by=sort_key.order_by,
        table=facts.from_sql,
        below_upper=below_upper,
        from_key=sort_key.compare(sort_key.identifiers, ">=", _unknown_key(sort_key)),
    )
    with (
        connection.local_settings(**PREFER_INDEX),
        connection.errors_blame("key", "Choose a key whose type can be sorted."),
    ):
        query_plan = connection.explain(query)
    return query_plan.seeks and not query_plan.has_sort


def _unknown_key(sort_key: SortKey) -> list[sql.Composable]:
    """Return a key that is unknown to the server when it plans."""
    return [cast_and_collate(sql.SQL(UNKNOWN).format(sql.SQL(column.type)), column) for column in sort_key.columns]


def _read_statistics(
    connection: PlannerConnection,
    facts: TableFacts,
    profiles: Sequence[RelationProfile],
    sort_key: SortKey,
    window: Window,
    outside: tuple[float, float],
) -> list[Statistics | None]:
    groups = [[(*(profile.relation or (facts.schema, facts.table)), 1.0)] for profile in profiles]
    inherited = facts.is_tree and any(profile.relation is None for profile in profiles)
    return read_statistics(connection, sort_key, window, groups, outside, inherited=inherited) if profiles else []


def _combine_leaf_statistics(
    connection: PlannerConnection,
    profile: RelationProfile,
    statistics: Statistics | None,
    rows_by_relation: _RowsByRelation,
    outside: tuple[float, float],
) -> tuple[RelationProfile, Statistics | None]:
    """Return the profile of a whole table with the combined statistics of its leaves.

    The whole table has statistics only if a user runs ANALYZE on it: autovacuum does not. They are used only for a
    small table, because walking the indexes of many partitions is several times slower than walking one index.
    """
    leaves = [leaf for leaf in profile.leaves if leaf.pages]
    if not leaves or (statistics is not None and profile.rows <= _QUICK_SCAN_ROWS):
        return profile, statistics
    group = [(leaf.schema, leaf.name, float(leaf.rows or 0)) for leaf in leaves]
    [combined] = read_statistics(connection, profile.sort_key, profile.window, [group], outside, inherited=False)
    if combined is None:
        return profile, statistics
    known = [leaf for number, leaf in enumerate(leaves) if number in combined.known_relations]
    unknown_rows = sum(rows_by_relation.get((leaf.schema, leaf.name), 0) for leaf in leaves if leaf not in known)
    profile = replace(
        profile,
        analyzed_rows=sum(leaf.reltuples or 0 for leaf in known),
        changes_since_analyze=unknown_rows + sum(map(_changed_rows, known)),
    )
    return profile, combined


def _with_statistics(
    connection: PlannerConnection, profile: RelationProfile, is_indexed: bool, statistics: Statistics | None
) -> RelationProfile:
    rows = profile.rows * (statistics.window_fraction if statistics else 1.0)
    profile = replace(profile, rows=rows, is_indexed=is_indexed, statistics=statistics)
    if statistics is None or not profile.window.includes_nulls:
        return profile
    null_fraction = statistics.null_fraction
    if null_fraction == 1 and _has_key(connection, profile):
        return profile  # The column was filled after ANALYZE.
    if not profile.window.is_bounded:
        return replace(profile, rows=rows * (1 - null_fraction), null_rows=rows * null_fraction)
    return replace(profile, null_rows=rows * null_fraction / (1 - null_fraction) if null_fraction < 1 else None)


def _has_key(connection: PlannerConnection, profile: RelationProfile) -> bool:
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE {} IS NOT NULL)")
    return bool(connection.fetch_value(query.format(profile.from_sql, sql.Identifier(profile.key.names[0]))))


def _zero_if_empty(profile: RelationProfile) -> RelationProfile:
    # The server assumes that a table without statistics has a few pages, even if it is empty.
    is_stored = all(leaf.kind in STORED_KINDS for leaf in profile.leaves)
    return replace(profile, rows=0.0) if is_stored and not profile.pages else profile


def _with_staleness(profile: RelationProfile, facts: TableFacts) -> RelationProfile:
    if profile.relation is None and facts.is_tree:
        # Only a manual ANALYZE updates the statistics of the whole table, so the leaves' counters do not apply.
        analyzed = facts.reltuples or 0
        changed = abs((facts.rows or 0) - analyzed) if analyzed else inf
    else:
        analyzed = sum(leaf.reltuples or 0 for leaf in profile.leaves)
        changed = sum(map(_changed_rows, profile.leaves))
    return replace(profile, analyzed_rows=analyzed, changes_since_analyze=changed)


def _changed_rows(leaf: Leaf) -> float:
    if leaf.pages and leaf.reltuples is None:
        return inf  # A standby counts no changes, so the statistics may be of any age.
    return max(leaf.changes_since_analyze, abs((leaf.rows or 0) - (leaf.reltuples or 0)))
