"""From the statistics that ANALYZE left: no scan, milliseconds whatever the size of the table."""

from __future__ import annotations

from burla_provider.exceptions import InvalidParameter
from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.size import Size
from burla_provider.ranges.survey import Piece


def measure(queries: Queries, piece: Piece, size: Size) -> Distribution:
    name = piece.key if piece.relation is None else f"{piece.key} in {'.'.join(piece.relation)}"
    if piece.statistics is None:
        problem = f"there are no statistics of {name} that this role may see."
        raise InvalidParameter("split", problem, "ANALYZE the table, or use split='keyset'.")
    if piece.statistics.shape is None:
        raise InvalidParameter("split", f"the statistics of {name} do not say where to cut.", "Use split='keyset'.")
    return piece.statistics.shape.scaled(piece.rows)
