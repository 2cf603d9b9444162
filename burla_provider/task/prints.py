"""What workers print, under the name of the item that it belongs to."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from burla_provider.task.log_groups import log_group

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
        self._held: dict[int, _Held] = {}

    def add(self, text: str) -> None:
        """A line; one that begins with ``[n]`` belongs to item ``n``, any other is logged at once."""
        labelled = _LABELLED.match(text)
        if labelled and int(labelled[1]) < self._total:
            self._held.setdefault(int(labelled[1]), _Held(time.monotonic())).lines.append(labelled[2] or "")
        else:
            self._log.info("%s", text)

    def say(self, index: int) -> None:
        """Log the item's lines: it has come to its end."""
        held = self._held.pop(index, None)
        if held is None:
            return
        if len(held.lines) == 1:
            self._log.info("%s: %s", self._describe(index), held.lines[0])
        else:
            log_group(self._log, f"{self._describe(index)} printed {len(held.lines)} lines", held.lines)

    def pulse(self, now: float) -> None:
        """Log what has waited for long enough."""
        for index in [index for index, held in self._held.items() if now - held.since >= HELD_SECONDS]:
            self.say(index)

    def flush(self) -> None:
        """Log all that waits."""
        for index in sorted(self._held):
            self.say(index)


@dataclass
class _Held:
    """Lines of one item that wait for more."""

    since: float
    lines: list[str] = field(default_factory=list)
