"""The items that workers process at the moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burla_provider.jobs.job import ItemBegan
from burla_provider.worker.outcome import Outcome


class InFlight:
    """Knows which items are being processed, where and since when. An outcome listener.

    :param describe: returns an item's name, given its number.
    """

    def __init__(self, describe: Callable[[int], str]) -> None:
        self._describe = describe

    def begin(self, event: ItemBegan) -> None:
        """Note that a worker process has begun an item, or its next stage."""

    def add(self, outcome: Outcome) -> None:
        """Note that an item has an outcome."""

    def restart(self) -> None:
        """Forget all items: another job processes those that are missing."""

    def as_dict(self) -> dict[str, Any]:
        """Return the part ``in_flight`` of the report."""
        return {"count": 0, "listed": []}
