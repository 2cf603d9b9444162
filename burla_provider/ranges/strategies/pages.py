"""By the pages of the table's file (ctid): for a table without a key, and only under one snapshot.

An update moves a row to another page, so that without a shared snapshot a row is read twice or not at all.
"""

from __future__ import annotations

from burla_provider.ranges.axis import axis_of
from burla_provider.ranges.distribution import Distribution, Knot
from burla_provider.ranges.key import CTID
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.size import Size
from burla_provider.ranges.survey import Piece


def measure(queries: Queries, piece: Piece, size: Size) -> Distribution:
    start = Knot(("(0,0)",), 0, gap=piece.rows)
    end = Knot((f"({piece.pages},0)",), piece.pages)
    return Distribution((start, end), axis_of(CTID.columns[0]))
