"""Log failed items: one traceback per kind of failure, and a summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from burla_provider.database.wording import quantity
from burla_provider.task.failure_groups import FailureGroup, FailureGroups, share
from burla_provider.task.logs import log_group
from burla_provider.task.remedies import advice_for_group
from burla_provider.worker.errors import cut
from burla_provider.worker.outcome import Failure, Outcome

_SHORT_LINES = 2
"""Failures of a kind that are logged in one line each, after the first one."""
_MAX_LINE = 200
_MAX_NAMED = 1_000
"""Items in the summary, of all kinds together."""


class FailureLog:
    """Logs failures. An outcome listener, which must come after ``groups``.

    :param log: the task's log.
    :param groups: has the outcomes.
    """

    def __init__(self, log: Any, groups: FailureGroups) -> None:
        self._log = log
        self._groups = groups
        self._logged: Counter[int] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Log the failure, unless failures of the same kind are in the log already."""
        if outcome.failure is None:
            return
        group = self._groups.group(outcome.index)
        self._logged[id(group)] += 1
        number = self._logged[id(group)]
        name = self._groups.name(outcome.index)
        if number == 1:
            self._log.error("%s", "\n".join(_whole(name, outcome, outcome.failure)))
        elif number <= 1 + _SHORT_LINES:
            line = cut(f"{name} failed too: {outcome.failure.title}", _MAX_LINE)
            more = "\nFurther failures of this kind are listed at the end." if number == 1 + _SHORT_LINES else ""
            self._log.error("%s%s", line, more)

    def finish(self) -> None:
        """Log the summary, if there is more than one failure."""
        count, groups = self._groups.count, list(self._groups)
        if count < 2:
            return
        kinds = "with the same error" if len(groups) == 1 else f"with {len(groups):,} kinds of errors"
        log_group(self._log, f"{quantity(count, self._groups.unit)} failed, {kinds}", self._summary(groups))

    def _summary(self, groups: list[FailureGroup]) -> Iterator[str]:
        for group, number in zip(groups, share([group.count for group in groups], _MAX_NAMED), strict=True):
            yield cut(f"{quantity(group.count, self._groups.unit)}: {group.failure.title}", _MAX_LINE)
            line = "   "
            for item in group.items[:number]:
                name = f" {self._groups.name(item.number)},"
                if len(line) + len(name) > _MAX_LINE:
                    yield line
                    line = "   "
                line += name
            yield f"{line} and {group.count - number:,} more" if number < group.count else line.rstrip(",")


def _whole(name: str, outcome: Outcome, failure: Failure) -> Iterator[str]:
    attempts = f" after {outcome.attempts} attempts" if outcome.attempts > 1 else ""
    yield f"{name} failed{attempts}: {failure.kind}"
    if failure.message:
        yield failure.message
    if failure.rows:
        yield f"Rows that fail: {failure.rows}"
    if advice := advice_for_group(failure):
        yield advice
    if failure.traceback:
        yield failure.traceback
