"""The strategies that find where to cut: one module each, with the same signature, listed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import histogram, keyset, pages, probed, single, width


class Measure(Protocol):
    """Finds where the rows of a relation are along the key. The ranges are cut by this distribution."""

    def __call__(self, connection: PlannerConnection, profile: RelationProfile, sizing: RangeSizing) -> Distribution:
        """Return the distribution of the rows in the window.

        :raises InvalidParameterError: if the strategy does not support such a table or key.
        """


@dataclass(frozen=True)
class Strategy:
    """A way to find where to cut.

    :param measure: its function.
    :param can_refine: whether ``refine`` is supported.
    :param is_exact: whether the rows of ranges are counted, so that ``refine`` has no effect.
    :param uses_statistics: whether it relies on statistics, which do not include rows inserted since the last ANALYZE.
    """

    measure: Measure
    can_refine: bool = False
    is_exact: bool = False
    uses_statistics: bool = False


STRATEGIES: Mapping[str, Strategy] = {
    "width": Strategy(width.measure, can_refine=True),
    "histogram": Strategy(histogram.measure, can_refine=True, uses_statistics=True),
    "probed": Strategy(probed.measure, can_refine=True, uses_statistics=True),
    "keyset": Strategy(keyset.measure, can_refine=True, is_exact=True),
    "pages": Strategy(pages.measure),
    "single": Strategy(single.measure),
}
"""By their names, which are the values of ``split``."""
