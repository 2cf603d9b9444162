"""What the server's own planner thinks of a query, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from burla_provider.ranges.queries import Queries


@dataclass(frozen=True)
class Explained:
    """The plan of a query.

    :param rows: estimated.
    :param relations: estimated rows of every relation that is read, by schema and name.
    :param sorts: whether rows are sorted, instead of being read in order from an index.
    :param seeks: whether every index is read from a key on, and not from its beginning.
    """

    rows: int
    relations: dict[tuple[str, str], int]
    sorts: bool
    seeks: bool


def explain(queries: Queries, query: sql.Composable) -> Explained:
    """Asks for the plan of ``query``; the relations that pruning leaves out are not in it."""
    [plan] = queries.value(sql.SQL("EXPLAIN (FORMAT JSON, VERBOSE) {}").format(query))
    nodes = list(_nodes(plan["Plan"]))
    return Explained(
        rows=int(plan["Plan"]["Plan Rows"]),
        relations={
            (node["Schema"], node["Relation Name"]): int(node["Plan Rows"])
            for node in nodes
            if "Relation Name" in node and "Schema" in node
        },
        sorts=any(node["Node Type"].endswith("Sort") for node in nodes),
        seeks=all("Index Cond" in node for node in nodes if node["Node Type"] in ("Index Scan", "Index Only Scan")),
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
