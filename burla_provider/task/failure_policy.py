"""Decide what failed items mean for the job: finish, stop, or tolerate them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Literal

from burla_provider.database.wording import quantity
from burla_provider.exceptions import (
    AllFailedError,
    BurlaProviderError,
    InvalidParameterError,
    RangesFailedError,
    UserFunctionError,
    WorkerSetupError,
)
from burla_provider.jobs.code.local_modules import is_local_name
from burla_provider.task.failure_groups import FailureGroups
from burla_provider.task.remedies import advice_for_group
from burla_provider.task.short_text import SEE_LOG
from burla_provider.task.validation import UNRENDERED
from burla_provider.worker.errors import cut
from burla_provider.worker.outcome import Failure, Outcome

OnFailure = Literal["finish", "stop"]
_MAX_KINDS, _MAX_EXAMPLES = 8, 3
"""Kinds of failures that an error lists, and items of each."""
_MAX_TITLE = 300

_CONTINUE = (
    "Rows of this run are written: correct this before the next retry, which continues behind them. Clearing the task"
    " starts a new run, which writes them again."
)

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
    "It is a module of your DAG folder that was not sent with the function. Import it with an import statement,"
    " in the DAG file or in the function: names in strings (importlib, pickle) are not found."
)


def with_local_module_hint(failure: Failure) -> Failure:
    """Return the failure, with another hint if the missing module is local and not part of a package."""
    missing = re.search(r"No module named '([^']+)'", failure.message)
    if failure.type != "ModuleNotFoundError" or missing is None or not is_local_name(missing[1]):
        return failure
    return replace(failure, advice=_LOCAL_MODULE_HINT)


class FailurePolicy:
    """Decides whether failed items have failed the job. An outcome listener.

    :param on_failure: "finish": process the other items before the job fails; "stop": stop the job at once.
    :param tolerated: the number of failed items, or a percentage of all items such as "5%", that do not fail the job.
    :param groups: receives the same outcomes.
    :param has_written: returns whether the run has written rows, so that a retry must stay possible.
    """

    def __init__(
        self,
        on_failure: OnFailure,
        tolerated: int | str,
        groups: FailureGroups,
        has_written: Callable[[], bool] = lambda: False,
    ) -> None:
        self._on_failure = on_failure
        self._tolerated = tolerated
        self._groups = groups
        self._has_success = False
        self._has_written = has_written

    def add(self, outcome: Outcome) -> None:
        """Remember whether an item has succeeded."""
        self._has_success = self._has_success or outcome.ok

    def must_stop(self, item_count: int) -> bool:
        """Return whether to stop the job: more items failed than tolerated, and ``on_failure`` is "stop"."""
        return self._on_failure == "stop" and self._groups.count > self._allowance(item_count)

    def check(self, item_count: int) -> None:
        """Check that no more items failed than tolerated.

        :raises RangesFailedError: if more items failed.
        """
        if self._groups.count > self._allowance(item_count):
            raise self._error(self._describe(item_count, self._tolerated))

    def check_trial(self, item_count: int) -> None:
        """Check that no item of the trial failed.

        :raises RangesFailedError: if an item failed.
        """
        if self._groups.count:
            raise self._error(f"The trial failed, and nothing else was started. {self._describe(item_count, 0)}")

    def setup_error(self, failure: Failure) -> BurlaProviderError:
        """Return the error of a job that has ended because a worker could not make what the function needs."""
        text = f"A worker could not load what the function needs. {failure.text}\n{failure.traceback}"
        if not _is_permanent(failure):
            return WorkerSetupError(text)
        return WorkerSetupError(f"{text}\n{_CONTINUE}") if self._has_written() else UserFunctionError(text)

    def _allowance(self, item_count: int) -> Decimal:
        return allowance(self._tolerated, item_count)

    def _error(self, text: str) -> RangesFailedError:
        failures = [group.failure for group in self._groups]
        are_alike = len({(failure.type, failure.sqlstate) for failure in failures}) == 1
        if self._has_success or not are_alike or not _is_permanent(failures[0]):
            return RangesFailedError(text)
        if self._has_written():
            return RangesFailedError(f"{text}\n{_CONTINUE}")
        reason = f"no {self._groups.unit} succeeded, and all failed with the same permanent error."
        return AllFailedError(f"{text}\nA retry would fail again: {reason}")

    def _describe(self, item_count: int, tolerated: int | str) -> str:
        """Return what has failed, one kind of failure after the other."""
        groups = list(self._groups)
        kinds = f", with {quantity(len(groups), 'kind')} of errors" if len(groups) > 1 else ""
        head = f"{self._groups.count:,} of {quantity(item_count, self._groups.unit)} failed{kinds}"
        lines = [f"{head} (tolerated: {tolerated}):"]
        for group in groups[:_MAX_KINDS]:
            named = [self._groups.name(item.number) for item in group.items[:_MAX_EXAMPLES]]
            more = f" and {group.count - len(named):,} more" if group.count > len(named) else ""
            lines.append(f"- {cut(group.failure.title, _MAX_TITLE, SEE_LOG)}")
            if group.failure.rows:
                lines.append(f"  Rows that fail: {cut(group.failure.rows, _MAX_TITLE, SEE_LOG)}")
            lines.append(f"  in {', '.join(named)}{more}")
            if advice := advice_for_group(group.failure):
                lines.append(f"  {advice}")
        if len(groups) > _MAX_KINDS:
            lines.append(f"- and {len(groups) - _MAX_KINDS:,} more kinds{SEE_LOG}")
        return "\n".join(lines)


def _is_permanent(failure: Failure) -> bool:
    """Return whether a retry would fail with the same error."""
    return failure.type in _CODE_ERRORS or (failure.sqlstate or "").startswith(_STATEMENT_ERRORS)


def allowance(tolerated: int | str, item_count: int, parameter: str = "tolerated_failures") -> Decimal:
    """Return how many of ``item_count`` items may fail; 0 if that is unknown until the task runs.

    :param parameter: name of the parameter, for the error.
    :raises InvalidParameterError: if ``tolerated`` is neither a number nor a percentage.
    """
    if tolerated is UNRENDERED:
        return Decimal(0)
    text = str(tolerated).strip()
    try:
        # Not as a float: 0.57% of 10,000 items are 57.
        count = Decimal(text[:-1]) * item_count / 100 if text.endswith("%") else Decimal(int(text))
        is_valid = count >= 0 and (count <= item_count or not text.endswith("%"))
    except (ValueError, ArithmeticError):  # no number, or NaN
        is_valid = False
    if not is_valid:
        raise InvalidParameterError(
            parameter,
            f"must be a number of items or a percentage, got {tolerated!r}.",
            'Use, for example, 5 or "5%".',
        )
    return count
