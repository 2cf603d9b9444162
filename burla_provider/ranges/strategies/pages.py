"""Cut by physical pages (ctid): for tables without a key, and only with a shared snapshot.

An update moves a row to another page. Without a shared snapshot, the row would be read twice or not at all. A range of
a whole partitioned table contains the same pages of every partition.
"""

from __future__ import annotations

from itertools import pairwise

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import CTID
from burla_provider.ranges.ordinals import ordinal_codec
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return the distribution if every page has the same number of rows."""
    sizes = [leaf.pages for leaf in profile.leaves]
    rows_per_page = profile.rows / max(profile.pages, 1)
    ends = [0, *sorted({pages for pages in sizes if pages})]
    rows = [rows_per_page * (end - start) * sum(pages >= end for pages in sizes) for start, end in pairwise(ends)]
    bounds = (
        HistogramBound((f"({page},0)",), page, bucket_rows=bucket_rows)
        for page, bucket_rows in zip(ends, [*rows, 0.0], strict=True)
    )
    return Distribution(tuple(bounds), ordinal_codec(CTID.columns[0]))
