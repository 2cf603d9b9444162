"""What the server's own planner thinks of a query, without running it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from burla_provider.ranges.planner_connection import PlannerConnection

UNKNOWN: LiteralString = "(SELECT NULL::{})"
"""A value of a type that the server does not know when it plans."""


@dataclass(frozen=True)
class Explained:
    """The plan of a query.

    :param rows: estimated.
    :param relations: estimated rows of every relation that is read, by schema and name.
    :param sorts: whether rows are sorted, instead of being read in order from an index.
    :param seeks: whether every index is read from a key on, and not from its beginning, as far as that is ``UNKNOWN``.
    """

    rows: int
    relations: dict[tuple[str, str], int]
    sorts: bool
    seeks: bool


def explain(queries: PlannerConnection, query: sql.Composable) -> Explained:
    """Asks for the plan of ``query``; the relations that pruning leaves out are not in it."""
    [plan] = queries.fetch_value(sql.SQL("EXPLAIN (FORMAT JSON, VERBOSE) {}").format(query))
    nodes = list(_nodes(plan["Plan"]))
    return Explained(
        rows=int(plan["Plan"]["Plan Rows"]),
        relations={
            (node["Schema"], node["Relation Name"]): int(node["Plan Rows"])
            for node in nodes
            if "Relation Name" in node and "Schema" in node
        },
        sorts=any(node["Node Type"].endswith("Sort") for node in nodes),
        seeks=_seeks(list(_nodes(plan["Plan"], beside=False)), nodes),
    )


def _nodes(node: dict[str, Any], *, beside: bool = True) -> Iterator[dict[str, Any]]:
    """The node and those below it; without ``beside`` those only that rows come from, not those of expressions."""
    yield node
    for child in node.get("Plans", ()):
        if beside or child["Parent Relationship"] not in ("InitPlan", "SubPlan"):
            yield from _nodes(child, beside=beside)


def _seeks(sources: list[dict[str, Any]], nodes: list[dict[str, Any]]) -> bool:
    scans = [node for node in sources if node["Node Type"] in ("Index Scan", "Index Only Scan")]
    # The condition of an index may be another one, such as a policy's, with the key's only behind it.
    unknown = [_name_of(node) for node in nodes if "".join(node.get("Output", ())).startswith("NULL::")]
    filters = [node.get("Filter", "") for node in sources]
    is_behind = any(re.search(rf"{re.escape(name)}(?!\d)", text) for name in unknown for text in filters)
    return all("Index Cond" in scan for scan in scans) and not is_behind


def _name_of(node: dict[str, Any]) -> str:
    """What conditions call the value of an InitPlan: $0 up to PostgreSQL 16, (InitPlan 1).col1 from then on."""
    name = node.get("Subplan Name", "")
    returned = re.search(r"returns (\$\d+)", name)
    return returned[1] if returned else f"({name}).col1"
