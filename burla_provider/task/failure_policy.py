"""Decide what failed items mean for the job: finish, stop, or tolerate them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from burla_provider.exceptions import (
    AllFailedError,
    BurlaProviderError,
    InvalidParameterError,
    RangesFailedError,
    UserFunctionError,
    WorkerSetupError,
)
from burla_provider.jobs.code.local_modules import is_local_name
from burla_provider.task.validation import UNRENDERED
from burla_provider.worker.outcome import Failure, Outcome

OnFailure = Literal["finish", "stop"]
MAX_LISTED = 20
"""The number of failed items that an error lists."""

_CODE_ERRORS = (
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
_STATEMENT_ERRORS = ("0A", "25006", "3F", "42")
"""Prefixes of SQLSTATEs: not supported, read-only, invalid schema, syntax error or access rule violation."""

_LOCAL_MODULE_HINT = (
    "- it is a module of your DAG folder that was not sent with the function. Import it with an import statement,"
    " in the DAG file or in the function: names in strings (importlib, pickle) are not found."
)


def with_local_module_hint(failure: Failure) -> Failure:
    """Return the failure, with another hint if the missing module is local and not part of a package."""
    from burla_provider.worker.errors import MODULE_NOT_INSTALLED

    missing = re.search(r"No module named '([^']+)'", failure.message)
    if missing is None or not is_local_name(missing[1]):
        return failure
    return replace(failure, message=failure.message.replace(MODULE_NOT_INSTALLED, _LOCAL_MODULE_HINT))


def make_setup_error(failure: Failure) -> BurlaProviderError:
    """Return the error of a job that has ended because a worker could not make what the function needs."""
    text = f"A worker could not load what the function needs. {failure.type}: {failure.message}\n{failure.traceback}"
    return UserFunctionError(text) if _is_permanent(failure) else WorkerSetupError(text)


class FailurePolicy:
    """Collects failed outcomes, and decides whether the job has failed. An outcome listener.

    :param on_failure: "finish": process the other items before the job fails; "stop": stop the job at once.
    :param tolerated: the number of failed items, or a percentage of all items such as "5%", that do not fail the job.
    :param describe: returns an item's name, given its number.
    """

    def __init__(self, on_failure: OnFailure, tolerated: int | str, describe: Callable[[int], str]) -> None:
        self._on_failure = on_failure
        self._tolerated = tolerated
        self._describe = describe
        self.failed: dict[int, Outcome] = {}
        self._has_success = False

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        if outcome.failure is not None:
            self.failed[outcome.index] = outcome
        else:
            self._has_success = True

    def must_stop(self, item_count: int) -> bool:
        """Return whether to stop the job: more items failed than tolerated, and ``on_failure`` is "stop"."""
        return self._on_failure == "stop" and len(self.failed) > self._allowance(item_count)

    def check(self, item_count: int) -> None:
        """Check that no more items failed than tolerated.

        :raises RangesFailedError: if more items failed.
        """
        if len(self.failed) > self._allowance(item_count):
            raise self._error(self._report(item_count))

    def check_trial(self, item_count: int) -> None:
        """Check that no item of the trial failed.

        :raises RangesFailedError: if an item failed.
        """
        if self.failed:
            raise self._error(f"The trial failed, and nothing else was started. {self._report(item_count)}")

    def describe(self, outcome: Outcome) -> str:
        """Return a line with the item and its error."""
        failure = outcome.failure
        if failure is None:
            return f"{self._describe(outcome.index)}: ok"
        state = f" [{failure.sqlstate}]" if failure.sqlstate else ""
        attempts = f" (after {outcome.attempts} attempts)" if outcome.attempts > 1 else ""
        item = failure.locate(self._describe(outcome.index))
        return f"{item}: {failure.type}{state}: {failure.message}{attempts}"

    def _allowance(self, item_count: int) -> float:
        return allowance(self._tolerated, item_count)

    def _error(self, report: str) -> RangesFailedError:
        failures = [outcome.failure for outcome in self.failed.values() if outcome.failure is not None]
        are_alike = len({(failure.type, failure.sqlstate) for failure in failures}) == 1
        if self._has_success or not are_alike or not _is_permanent(failures[0]):
            return RangesFailedError(report)
        return AllFailedError(
            f"{report}\nA retry would fail again: no item succeeded, and all failed with the same permanent error."
        )

    def _report(self, item_count: int) -> str:
        listed = [self.describe(self.failed[index]) for index in sorted(self.failed)[:MAX_LISTED]]
        more = [f"... and {len(self.failed) - MAX_LISTED} more"] if len(self.failed) > MAX_LISTED else []
        head = f"{len(self.failed)} of {item_count} failed (tolerated: {self._tolerated}):"
        return "\n  ".join([head, *listed, *more])


def _is_permanent(failure: Failure) -> bool:
    """Return whether a retry would fail with the same error."""
    return failure.type in _CODE_ERRORS or (failure.sqlstate or "").startswith(_STATEMENT_ERRORS)


def allowance(tolerated: int | str, item_count: int, parameter: str = "tolerated_failures") -> float:
    """Return how many of ``item_count`` items may fail; 0 if that is unknown until the task runs.

    :param parameter: name of the parameter, for the error.
    :raises InvalidParameterError: if ``tolerated`` is neither a number nor a percentage.
    """
    if tolerated is UNRENDERED:
        return 0
    text = str(tolerated).strip()
    try:
        count = float(text[:-1]) * item_count / 100 if text.endswith("%") else int(text)
    except ValueError:
        count = -1
    limit = item_count if text.endswith("%") else count
    if not 0 <= count <= limit:  # false for nan
        raise InvalidParameterError(
            parameter,
            f"must be a number of items or a percentage, got {tolerated!r}.",
            'Use, for example, 5 or "5%".',
        )
    return count
