"""By the pages of the table's file (ctid): for a table without a key, and only under one snapshot.

An update moves a row to another page, so that without a shared snapshot a row is read twice or not at all. A range of
a whole partitioned table is of the same pages of every partition.
"""

from __future__ import annotations

from itertools import pairwise

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import CTID
from burla_provider.ranges.ordinals import axis_of
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing


def measure(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
    files = [leaf.pages for leaf in piece.leaves]
    rows_a_page = piece.rows / max(piece.pages, 1)
    ends = [0, *sorted({pages for pages in files if pages})]
    gaps = [rows_a_page * (end - start) * sum(pages >= end for pages in files) for start, end in pairwise(ends)]
    knots = (HistogramBound((f"({place},0)",), place, gap=gap) for place, gap in zip(ends, [*gaps, 0.0], strict=True))
    return Distribution(tuple(knots), axis_of(CTID.columns[0]))
