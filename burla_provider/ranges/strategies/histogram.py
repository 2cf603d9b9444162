"""From the statistics that ANALYZE left: no scan, milliseconds whatever the size of the table."""

from __future__ import annotations

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing


def measure(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
    name = piece.key if piece.relation is None else f"{piece.key} in {'.'.join(piece.relation)}"
    if piece.statistics is None:
        problem = f"there are no statistics of {name} that this role may see."
        raise InvalidParameterError("split", problem, "ANALYZE the table, or use split='keyset'.")
    if piece.statistics.distribution is None:
        raise InvalidParameterError(
            "split", f"the statistics of {name} do not say where to cut.", "Use split='keyset'."
        )
    return piece.statistics.distribution.scaled(piece.rows)
