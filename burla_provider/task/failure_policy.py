"""What is to be done about items that failed: go on, stop, or tolerate them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from burla_provider.exceptions import AllFailedError, InvalidParameterError, RangesFailedError
from burla_provider.jobs.code.local_modules import is_local_name
from burla_provider.worker.outcome import Failure, Outcome

OnFailure = Literal["finish", "stop"]
SHOWN = 20
"""How many failed items an error names one by one."""


_OF_THE_CODE = (
    "AttributeError",
    "ImportError",
    "ModuleNotFoundError",
    "NameError",
    "SyntaxError",
    "TypeError",
    "UnboundLocalError",
    "burla_provider.exceptions.InvalidParameterError",
    "burla_provider.exceptions.UserFunctionError",
)
_OF_THE_STATEMENT = ("0A", "25006", "3F", "42")
"""SQLSTATE classes: not supported, read-only, no such schema, syntax error or access rule violation."""

LOCAL_NOT_THERE = (
    "- it is a module of your DAG folder that did not travel with the function. Import it with an import statement,"
    " in the DAG file or in the function: a name in a text (importlib, pickle) is not seen."
)


def with_true_advice(failure: Failure) -> Failure:
    """The failure of a call; a missing module that no package has is named as what it is."""
    from burla_provider.worker.errors import MODULE_NOT_INSTALLED

    missing = re.search(r"No module named '([^']+)'", failure.message)
    if missing is None or not is_local_name(missing[1]):
        return failure
    return replace(failure, message=failure.message.replace(MODULE_NOT_INSTALLED, LOCAL_NOT_THERE))


class FailurePolicy:
    """Gathers the failed outcomes of a job and knows what they mean for it.

    :param on_failure: "finish": the other items finish first, then the job has failed; "stop": end it at once.
    :param tolerated: so many failed items, or a percentage of all items such as "5%", are no failure of the job.
    :param describe: an item's number -> what people call it.
    """

    def __init__(self, on_failure: OnFailure, tolerated: int | str, describe: Callable[[int], str]) -> None:
        self._on_failure = on_failure
        self._tolerated = tolerated
        self._describe = describe
        self.failed: dict[int, Outcome] = {}
        self._succeeded = False

    def add(self, outcome: Outcome) -> None:
        if outcome.failure is not None:
            self.failed[outcome.index] = outcome
        else:
            self._succeeded = True

    def must_stop(self, item_count: int) -> bool:
        """Whether going on is pointless: more failed than is tolerated, and "finish" was not asked for."""
        return self._on_failure == "stop" and len(self.failed) > self._allowance(item_count)

    def check(self, item_count: int) -> None:
        """Accept the job's failures, or raise.

        :raises RangesFailedError: more items failed than is tolerated.
        """
        if len(self.failed) > self._allowance(item_count):
            raise self._error(self._report(item_count))

    def check_trial(self, item_count: int) -> None:
        """Accept a trial, of which no item may fail.

        :raises RangesFailedError: one did.
        """
        if self.failed:
            raise self._error(f"The trial failed, nothing else was started. {self._report(item_count)}")

    def describe(self, outcome: Outcome) -> str:
        """One line: which item, and why."""
        failure = outcome.failure
        if failure is None:
            return f"{self._describe(outcome.index)}: ok"
        state = f" [{failure.sqlstate}]" if failure.sqlstate else ""
        tries = f" (after {outcome.attempts} attempts)" if outcome.attempts > 1 else ""
        return f"{self._describe(outcome.index)}: {failure.type}{state}: {failure.message}{tries}"

    def _allowance(self, item_count: int) -> float:
        return allowance(self._tolerated, item_count)

    def _error(self, report: str) -> RangesFailedError:
        failures = [outcome.failure for outcome in self.failed.values() if outcome.failure is not None]
        is_one_kind = len({(failure.type, failure.sqlstate) for failure in failures}) == 1
        if self._succeeded or not is_one_kind or not _is_permanent(failures[0]):
            return RangesFailedError(report)
        return AllFailedError(f"{report}\nNo retry can mend this: none succeeded, and all failed in the same way.")

    def _report(self, item_count: int) -> str:
        shown = [self.describe(self.failed[index]) for index in sorted(self.failed)[:SHOWN]]
        more = [f"... and {len(self.failed) - SHOWN} more"] if len(self.failed) > SHOWN else []
        head = f"{len(self.failed)} of {item_count} failed (tolerated: {self._tolerated}):"
        return "\n  ".join([head, *shown, *more])


def _is_permanent(failure: Failure) -> bool:
    """Whether the same function, on the same table, fails in the same way again."""
    return failure.type in _OF_THE_CODE or (failure.sqlstate or "").startswith(_OF_THE_STATEMENT)


def allowance(tolerated: int | str, item_count: int) -> float:
    """How many of ``item_count`` items may fail.

    :raises InvalidParameterError: neither a count nor a percentage.
    """
    text = str(tolerated).strip()
    try:
        count = float(text[:-1]) * item_count / 100 if text.endswith("%") else int(text)
    except ValueError:
        count = -1
    if count < 0 or (text.endswith("%") and count > item_count):
        raise InvalidParameterError("tolerated_failures", f"{tolerated!r} is no count.", 'Use a number or, say, "5%".')
    return count
