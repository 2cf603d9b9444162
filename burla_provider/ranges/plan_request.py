"""The request for a plan: how to split a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.ranges.window import WindowLimits

AUTO = "auto"


@dataclass(frozen=True)
class PlanRequest:
    """The parameters of ``plan_ranges``, checked as far as that is possible without a server.

    :param whole_query: if the job reads all ranges in one snapshot, and they need no key: returns the job as one query
        that also reads the columns of the key. "auto" then prefers physical pages to a key that was not given. None: it
        prefers a key.
    """

    key: str | Sequence[str] | None
    limits: WindowLimits
    where: str | None
    split: str
    sizing: RangeSizing
    refine: bool
    freeze_upper: bool
    by_partition: bool = True
    whole_query: Callable[[Key], sql.Composable] | None = None

    def __post_init__(self) -> None:
        if self.split != AUTO and self.split not in STRATEGIES:
            problem = f"{self.split!r} is unknown."
            raise InvalidParameterError("split", problem, f"Use one of: {AUTO}, {', '.join(STRATEGIES)}.")
        if self.refine and self.split != AUTO and not STRATEGIES[self.split].can_refine:
            problem = f"is not supported with split={self.split!r}."
            raise InvalidParameterError("refine", problem, "Leave it out, or use another split.")
        if self.split == "pages":
            self._check_pages()

    def _check_pages(self) -> None:
        if self.key is not None:
            problem = "is not supported with split='pages'."
            raise InvalidParameterError("key", problem, "Leave it out, or use another split.")
        if self.limits.given_names:
            problem = "is not supported with split='pages', which has no key."
            raise InvalidParameterError(self.limits.given_names[0], problem, "Use where instead.")
        if self.freeze_upper:
            problem = "'pages' cannot be used by a job that writes or that continues an earlier run: updates move rows."
            raise InvalidParameterError("split", problem, "Split by a key.")
