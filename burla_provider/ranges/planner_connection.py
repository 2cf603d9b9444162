"""The planner's connection: one statement at a time, counted, without changes to the session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.database.settings import set_config
from burla_provider.exceptions import InvalidParameterError

PREFER_INDEX = {"enable_seqscan": "off", "enable_sort": "off", "enable_bitmapscan": "off"}
"""Settings that make the server read rows in order from an index, if there is one, regardless of the estimated cost."""

UNKNOWN: LiteralString = "(SELECT NULL::{})"
"""A value of a type, unknown to the server when it plans the query."""

_USER_ERRORS = ("0A", "22", "3F", "42")
"""SQLSTATE classes: not supported, bad data, bad schema name, syntax error or access rule violation."""


@dataclass(frozen=True)
class QueryPlan:
    """The server's plan of a query.

    :param rows: estimated rows of the result.
    :param rows_by_relation: estimated rows of every relation that is read, by schema and name. Pruned partitions are
        not included.
    :param has_sort: whether rows are sorted, instead of read in order from an index.
    :param seeks: whether every index scan starts at the ``UNKNOWN`` key, not at the beginning of the index.
    :param cost: estimated cost of the whole query.
    :param indexes: names of the indexes that are read, without schema.
    """

    rows: int
    rows_by_relation: dict[tuple[str, str], int]
    has_sort: bool
    seeks: bool
    cost: float
    indexes: tuple[str, ...]


class PlannerConnection:
    """Runs statements on a caller's connection, which may be in a transaction.

    :param connection: a connection that is not in a failed transaction.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.statement_count = 0

    def fetch_all(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """Return all rows as tuples. The row factory of the connection is ignored."""
        self.statement_count += 1
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            # binary=True: the server accepts exactly one statement, so a condition cannot smuggle in a second one.
            # prepare=False: a pooler may run the next statement in another session.
            return cursor.execute(sql.Composed([statement]), binary=True, prepare=False).fetchall()

    def fetch_visible(self, statement: sql.Composable) -> list[tuple[Any, ...]]:
        """Return all rows as tuples; none if the role has no privilege to read them. The transaction survives that."""
        try:
            with self._connection.transaction():
                return self.fetch_all(statement)
        except psycopg.errors.InsufficientPrivilege:
            return []

    def fetch_one(self, statement: sql.Composable) -> tuple[Any, ...] | None:
        """Return the first row, or None if there are no rows."""
        return next(iter(self.fetch_all(statement)), None)

    def fetch_value(self, statement: sql.Composable) -> Any:
        """Return the first column of the only row."""
        [(value,)] = self.fetch_all(statement)
        return value

    def explain(self, query: sql.Composable) -> QueryPlan:
        """Return the server's plan of a query without running it."""
        [plan] = self.fetch_value(sql.SQL("EXPLAIN (FORMAT JSON, VERBOSE) {}").format(query))
        nodes = list(_iterate_nodes(plan["Plan"]))
        return QueryPlan(
            rows=int(plan["Plan"]["Plan Rows"]),
            rows_by_relation={
                (node["Schema"], node["Relation Name"]): int(node["Plan Rows"])
                for node in nodes
                if "Relation Name" in node and "Schema" in node
            },
            has_sort=any(node["Node Type"].endswith("Sort") for node in nodes),
            seeks=_seeks(list(_iterate_nodes(plan["Plan"], subplans=False)), nodes),
            cost=plan["Plan"]["Total Cost"],
            indexes=tuple(dict.fromkeys(node["Index Name"] for node in nodes if "Index Name" in node)),
        )

    @contextmanager
    def local_settings(self, **settings: str) -> Iterator[None]:
        """Apply settings inside the block; restore the session and the transaction afterwards."""
        # The planner writes nothing, so the rollback undoes only the settings.
        with self._connection.transaction(force_rollback=True):
            self.fetch_all(set_config(settings, local=True))
            yield

    @contextmanager
    def errors_blame(self, parameter: str, advice: str) -> Iterator[None]:
        """Report the server's errors inside the block as errors of ``parameter``. The transaction survives them.

        :raises InvalidParameterError: with the server's message.
        """
        try:
            with self._connection.transaction():
                yield
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] not in _USER_ERRORS:
                raise
            raise InvalidParameterError(parameter, f"{error.diag.message_primary}.", advice) from None


def _iterate_nodes(node: dict[str, Any], *, subplans: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the node and its children; without ``subplans``, leave out the plans of expressions."""
    yield node
    for child in node.get("Plans", ()):
        if subplans or child["Parent Relationship"] not in ("InitPlan", "SubPlan"):
            yield from _iterate_nodes(child, subplans=subplans)


def _seeks(row_nodes: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> bool:
    scans = [node for node in row_nodes if node["Node Type"] in ("Index Scan", "Index Only Scan")]
    # An index condition may belong to something else, such as a row security policy. Then the key is in the filter.
    unknown_names = [_init_plan_name(node) for node in nodes if "".join(node.get("Output", ())).startswith("NULL::")]
    filters = [node.get("Filter", "") for node in row_nodes]
    is_filtered = any(re.search(rf"{re.escape(name)}(?!\d)", text) for name in unknown_names for text in filters)
    return all("Index Cond" in scan for scan in scans) and not is_filtered


def _init_plan_name(node: dict[str, Any]) -> str:
    """Return the name that conditions use: $0 up to PostgreSQL 16, (InitPlan 1).col1 since 17."""
    name = node.get("Subplan Name", "")
    returned = re.search(r"returns (\$\d+)", name)
    return returned[1] if returned else f"({name}).col1"
