"""Decide whether a table is split by its physical pages although it has a key."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from burla_provider.ranges.catalog import STORED_KINDS, TableFacts, tree_query
from burla_provider.ranges.key import Key
from burla_provider.ranges.plan_request import AUTO, PlanRequest
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import can_read_leaves, can_split_by_leaf
from burla_provider.ranges.sizing import RangeSizing

_TID_RANGE_SCAN_SINCE = 140000
"""The first server version that reads a range of pages without a scan of the whole table."""

_MIN_PAGES_PER_RANGE = 4
"""With fewer pages per range, the sizes of the ranges differ too much."""

_INDEX_ADVANTAGE = 0.5
"""An index is used if its estimated cost is below this fraction of the cost of reading all pages."""

_ALL_PAGES = {
    **dict.fromkeys(("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"), "off"),
    "enable_partition_pruning": "off",  # ranges of pages are in all partitions
}


def pages_problem(facts: TableFacts) -> str | None:
    """Return why the table cannot be split by pages; None if it can."""
    if facts.kind not in STORED_KINDS or (facts.is_tree and not can_read_leaves(facts)):
        return f"{facts} is a {facts.kind_name}, whose pages cannot be read separately."
    if any(leaf.access_method != "heap" for leaf in facts.leaves):
        return f"{facts} is not stored as a heap."
    if facts.server_version < _TID_RANGE_SCAN_SINCE:
        return f"PostgreSQL {facts.server_version // 10000} cannot read a range of pages."
    return None


def allows_pages(facts: TableFacts, request: PlanRequest) -> bool:
    """Return whether the pages of the table could be read instead of its key, in one snapshot."""
    has_window = request.limits.given_names or request.freeze_upper
    # Under row security, only split="pages" splits by pages: comparisons of ctid are leakproof.
    return not (has_window or request.refine or facts.row_security or pages_problem(facts))


def prefers_pages(facts: TableFacts, request: PlanRequest) -> bool:
    """Return whether "auto" splits the table by its pages, unless the key is cheaper."""
    return request.split == AUTO and request.key is None and allows_pages(facts, request)


def why_key_is_better(
    connection: PlannerConnection, facts: TableFacts, key: Key, query: sql.Composable, sizing: RangeSizing
) -> str | None:
    """Return why the key is better than pages, a sentence; "" if that needs no explanation; None if it is not.

    :param query: the whole job as one query that also reads the columns of the key.
    """
    if (facts.is_tree and not can_split_by_leaf(facts)) or _has_few_pages(connection, facts, sizing):
        return ""
    by_index = connection.explain(query)
    index = _find_index_of(connection, facts, key, by_index.indexes)
    read = by_index.rows_by_relation
    excluded = sum((leaf.schema, leaf.name) not in read for leaf in facts.leaves) if facts.is_tree else 0
    if index is None and not excluded:
        # An index without the key is as good for ranges of pages: the server reads it for each range, as by key.
        return None
    with connection.local_settings(**_ALL_PAGES):
        by_pages = connection.explain(query)
    if by_index.cost > _INDEX_ADVANTAGE * by_pages.cost:
        return None
    if index is None:
        partitions = f"{excluded:,} of {len(facts.leaves):,} partitions"
        return f"The condition excludes {partitions}, and the key contains the columns that they are partitioned by."
    return f"The index {index} contains the key and is cheaper than reading all pages."


def _has_few_pages(connection: PlannerConnection, facts: TableFacts, sizing: RangeSizing) -> bool:
    """Return whether the table fits into one range, or has too few pages for the ranges that were requested."""
    if sizing.ranges and facts.is_tree and len(facts.leaves) > sizing.ranges:
        return True  # A range of a key can have rows of several partitions.
    rows: float | None = facts.rows
    if rows is None:
        rows = connection.explain(sql.SQL("SELECT FROM {}").format(facts.from_sql)).rows
    if not rows:
        return True
    ranges = replace(sizing, rows=rows, row_bytes=facts.bytes / rows).range_count(rows)
    return ranges == 1 or facts.pages < ranges * _MIN_PAGES_PER_RANGE


def _find_index_of(connection: PlannerConnection, facts: TableFacts, key: Key, indexes: tuple[str, ...]) -> str | None:
    """Return the first of the indexes that has the key's first column."""
    if not indexes:
        return None
    found = connection.fetch_one(
        sql.SQL(_INDEX_OF).format(
            tree=tree_query(facts.oid, facts.server_version),
            names=sql.Literal(list(indexes)),
            column=sql.Literal(key.names[0]),
        )
    )
    return found[0] if found else None


_INDEX_OF = """
    WITH RECURSIVE {tree}
    SELECT c.relname::text
    FROM tree
    JOIN pg_catalog.pg_index AS i ON i.indrelid = tree.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
    WHERE c.relname = ANY ({names}::text[]) AND a.attname = {column}
    ORDER BY c.relname
    LIMIT 1
"""
