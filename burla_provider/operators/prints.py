"""What workers print, under the name of the item that it belongs to."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from burla_provider.operators.groups import log_group

HELD_SECONDS = 2.0
"""A line waits so long for others of its item."""
_LABELLED = re.compile(r"\[(\d+)\](?: (.*)|$)", re.DOTALL)


class Prints:
    """Lines of many workers come mixed; those of an item are logged together.

    :param log: the task's.
    :param total: number of items.
    :param describe: an item's number -> what people call it.
    """

    def __init__(self, log: Any, total: int, describe: Callable[[int], str]) -> None:
        self._log = log
        self._total = total
        self._describe = describe
        self._lines: dict[int, list[str]] = {}
        self._said_at = time.monotonic()

    def add(self, text: str) -> None:
        """A line; one that begins with ``[n]`` belongs to item ``n``, any other is logged at once."""
        labelled = _LABELLED.match(text)
        if labelled and int(labelled[1]) < self._total:
            self._lines.setdefault(int(labelled[1]), []).append(labelled[2] or "")
        else:
            self._log.info("%s", text)

    def say(self, index: int) -> None:
        """Log the item's lines: it has come to its end."""
        lines = self._lines.pop(index, [])
        if len(lines) == 1:
            self._log.info("%s: %s", self._describe(index), lines[0])
        elif lines:
            log_group(self._log, f"{self._describe(index)} printed {len(lines)} lines", lines)

    def pulse(self, now: float) -> None:
        """Log what has waited for long enough."""
        if now - self._said_at >= HELD_SECONDS:
            self.flush()
            self._said_at = now

    def flush(self) -> None:
        """Log all that waits."""
        for index in sorted(self._lines):
            self.say(index)
