"""A window cut into stretches that leave nothing out and share nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from burla_provider.ranges.distribution import Cut
from burla_provider.ranges.key import Bound
from burla_provider.ranges.window import Window


class Span(NamedTuple):
    """The keys from ``lower`` (inclusive) to ``upper`` (exclusive), None where it is open, with about ``rows`` rows."""

    lower: Bound | None
    upper: Bound | None
    rows: float


def tile(window: Window, cuts: Sequence[Cut], rows: float) -> list[Span]:
    """Cuts a window of ``rows`` rows: each span begins where the one before it ends, and the ends are the window's."""
    if window.is_empty:
        return []
    bounds = [window.lower, *(cut.bound for cut in cuts), window.upper]
    before = [0.0, *(cut.before for cut in cuts), rows]
    return [
        Span(lower, upper, later - earlier)
        for (lower, upper), (earlier, later) in zip(pairwise(bounds), pairwise(before), strict=True)
    ]
