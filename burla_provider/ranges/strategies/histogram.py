"""From the statistics that ANALYZE left: no scan, milliseconds whatever the size of the table."""

from __future__ import annotations

from burla_provider.exceptions import InvalidParameter
from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.size import Size
from burla_provider.ranges.survey import Piece


def measure(queries: Queries, piece: Piece, size: Size) -> Distribution:
    if piece.statistics is None or piece.statistics.shape is None:
        name = piece.key if piece.relation is None else f"{piece.key} in {'.'.join(piece.relation)}"
        raise InvalidParameter(
            "split",
            f"there are no statistics of {name} that this role may see and that know the window.",
            "ANALYZE the table, or use split='keyset'.",
        )
    return piece.statistics.shape.scaled(piece.rows)
