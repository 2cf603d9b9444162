"""What the task's log shows: groups that Airflow's UI folds, the plan, the result, and the workers' output."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burla_provider.ranges.stored_plan import Plan

PENDING_SECONDS = 2.0
"""How long a line of output waits for other lines of its item."""
MAX_RESULT_CHARS = 10_000
"""Logged characters of a result. Airflow masks secrets in all of the log, and the UI loads it."""

_LABELLED = re.compile(r"\[(\d+)\](?: (.*)|$)", re.DOTALL)


def without_markers(text: str) -> str:
    """Return a user's text without group markers, which the UI would find anywhere in a record."""
    return text.replace("::group::", ":group:").replace("::endgroup::", ":endgroup:")


def log_group(log: Any, title: str, lines: Iterable[str]) -> None:
    """Log lines as a group that Airflow's UI folds below its title.

    The UI looks for the markers record by record, so each is a record of its own.
    """
    for line in [f"::group::{title}", *lines, "::endgroup::"]:
        log.info("%s", line)


def log_totals(log: Any, totals: dict[str, Any]) -> None:
    """Log the result of a job, at most its first ``MAX_RESULT_CHARS`` characters."""
    text = without_markers(json.dumps(totals, indent=2))
    rest = len(text) - MAX_RESULT_CHARS
    log.info("Totals\n%s%s", text[:MAX_RESULT_CHARS], f" ... and {rest:,} more characters" if rest > 0 else "")


def log_plan(log: Any, plan: Plan) -> None:
    """Log a plan as a group, with its table and size in the title."""
    summary = plan.as_dict()
    title = f"Plan: {summary['ranges']:,} ranges of {summary['table']}, about {summary['expected_rows']:,} rows"
    log_group(log, title, str(plan).splitlines())


class WorkerOutput:
    """Logs what workers print. The lines of many workers come mixed; those of an item are logged together.

    :param log: the task's log.
    :param total: number of items.
    :param describe: returns an item's name, given its number.
    """

    def __init__(self, log: Any, total: int, describe: Callable[[int], str]) -> None:
        self._log = log
        self._total = total
        self._describe = describe
        self._pending: dict[int, _PendingLines] = {}

    def add(self, text: str) -> None:
        """Keep a line that begins with ``[n]`` for item ``n``; log any other line at once."""
        labelled = _LABELLED.match(text)
        if labelled and int(labelled[1]) < self._total:
            self._pending.setdefault(int(labelled[1]), _PendingLines(time.monotonic())).lines.append(labelled[2] or "")
        else:
            self._log.info("%s", text)

    def flush_item(self, index: int) -> None:
        """Log the item's pending lines."""
        pending = self._pending.pop(index, None)
        if pending is None:
            return
        if len(pending.lines) == 1:
            self._log.info("%s: %s", self._describe(index), pending.lines[0])
        else:
            log_group(self._log, f"{self._describe(index)} printed {len(pending.lines)} lines", pending.lines)

    def flush_expired(self, now: float) -> None:
        """Log the lines that have been pending for ``PENDING_SECONDS``.

        :param now: from ``time.monotonic()``.
        """
        for index in [index for index, pending in self._pending.items() if now - pending.since >= PENDING_SECONDS]:
            self.flush_item(index)

    def flush(self) -> None:
        """Log all pending lines."""
        for index in sorted(self._pending):
            self.flush_item(index)


@dataclass
class _PendingLines:
    since: float
    lines: list[str] = field(default_factory=list)
