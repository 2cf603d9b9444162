"""The ways to find out where to cut: one file each, one signature, listed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import histogram, keyset, pages, sampled, single, width


class Strategy(Protocol):
    """Says where the rows of a piece are; the plan is cut by that."""

    def __call__(self, queries: PlannerConnection, piece: RelationProfile, size: RangeSizing) -> Distribution:
        """
        :raises InvalidParameterError: the strategy cannot do that with such a table or key.
        """


STRATEGIES: Mapping[str, Strategy] = {
    "width": width.measure,
    "histogram": histogram.measure,
    "probed": sampled.measure,
    "keyset": keyset.measure,
    "pages": pages.measure,
    "single": single.measure,
}
"""By the name that ``split`` has for them."""
