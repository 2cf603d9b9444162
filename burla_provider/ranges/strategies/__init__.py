"""The ways to find out where to cut: one file each, one signature, listed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from burla_provider.ranges.distribution import Distribution
from burla_provider.ranges.queries import Queries
from burla_provider.ranges.size import Size
from burla_provider.ranges.strategies import histogram, keyset, pages, probed, single, width
from burla_provider.ranges.survey import Piece


class Strategy(Protocol):
    """Says where the rows of a piece are; the plan is cut by that."""

    def __call__(self, queries: Queries, piece: Piece, size: Size) -> Distribution:
        """
        :raises InvalidParameter: the strategy cannot do that with such a table or key.
        """


STRATEGIES: Mapping[str, Strategy] = {
    "width": width.measure,
    "histogram": histogram.measure,
    "probed": probed.measure,
    "keyset": keyset.measure,
    "pages": pages.measure,
    "single": single.measure,
}
"""By the name that ``split`` has for them."""
