"""One range for all rows of the window. For tables that are too small to split."""

from __future__ import annotations

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing


def measure(connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
    """Return a distribution without cuts."""
    return Distribution((HistogramBound((), bucket_rows=profile.rows),), cuts_fixed=True)
