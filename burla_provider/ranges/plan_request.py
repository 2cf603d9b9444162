"""What the user asks of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.ranges.window import WindowLimits

AUTO = "auto"

_KEYLESS = ("pages", "single")
_REFINABLE = (AUTO, "width", "histogram", "probed", "keyset")


@dataclass(frozen=True)
class Request:
    """The parameters of ``plan_ranges``, which says what they mean, as far as they can be checked without a server."""

    key: str | Sequence[str] | None
    limits: WindowLimits
    where: str | None
    split: str
    size: RangeSizing
    refine: bool
    freeze_upper: bool
    by_partition: bool = True

    def __post_init__(self) -> None:
        if self.split != AUTO and self.split not in STRATEGIES:
            raise InvalidParameterError(
                "split", f"{self.split!r} is unknown.", f"Use one of: {AUTO}, {', '.join(STRATEGIES)}."
            )
        if self.refine and self.split not in _REFINABLE:
            raise InvalidParameterError("refine", f"split={self.split!r} has nothing to refine.", "Leave it out.")
        if self.split == "pages":
            self._check_pages()

    def _check_pages(self) -> None:
        if self.key is not None:
            raise InvalidParameterError("key", "split='pages' uses none.", "Leave it out, or choose another split.")
        if self.limits.given:
            raise InvalidParameterError(
                self.limits.given[0], "split='pages' has no key to bound.", "Use where instead."
            )
        if self.freeze_upper:
            problem = (
                "'pages' is not for a job that writes or goes on from where the last one ended: updates move rows."
            )
            raise InvalidParameterError("split", problem, "Split by a key.")
