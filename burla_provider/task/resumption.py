"""What the next try of a failed task processes, and what a new run after clearing does: in the words of the tab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from burla_provider.database.wording import quantity
from burla_provider.exceptions import (
    BurlaNotInstalledError,
    ClusterUnauthorizedError,
    InvalidParameterError,
    PermanentError,
    TaskKilledError,
    UnfinishedRunError,
)
from burla_provider.task.masking import masked

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.resume import Resume


_CORRECTABLE = (InvalidParameterError, BurlaNotInstalledError, ClusterUnauthorizedError)
"""Permanent errors whose cause is outside of the run, so that somebody can remove it between two tries."""


@dataclass(frozen=True)
class Resumption:
    """What is stored of a job for later tries.

    :param keeps: whether a retry skips what this try has finished.
    :param reason: where the finished items are stored, or why they are not: a part of a sentence.
    :param clearing: what a new run does after the task was cleared, a sentence.
    """

    keeps: bool
    reason: str
    clearing: str = "Clearing the task starts from the beginning."


NOTHING_STORED = Resumption(keeps=False, reason="nothing was processed yet")
"""A try that has not begun its job."""
_CONTINUED = "The next try continues where the earlier tries ended, as far as that is stored."
"""What is said of a try that has not begun its job, but maybe earlier ones have."""


DISCARDED = Resumption(keeps=False, reason="because partitions or children changed while ranges were read")
"""A try whose ranges have not all read the same partitions."""


def checkpoint_resumption(has_store: bool, resume: Resume, *, is_comparable: bool | None = None) -> Resumption:
    """Return what is stored of a job that does not write.

    :param has_store: whether Airflow has a task state store.
    :param resume: the operator's parameter.
    :param is_comparable: whether a retry can find out if the table has changed; None: it need not.
    """
    if resume is False:
        return Resumption(keeps=False, reason="because of resume=False")
    if not has_store:
        return Resumption(keeps=False, reason="because this Airflow has no task state store, which 3.3 added")
    if is_comparable is False and resume == "auto":
        from burla_provider.database.table_state import UNKNOWN

        return Resumption(keeps=False, reason=f"because {UNKNOWN}")
    unless = ""
    if is_comparable and resume == "auto":
        unless = ". If it cannot prove that the table is unchanged, it processes all ranges"
    return Resumption(keeps=True, reason=f"Airflow's task state store has the others{unless}")


@contextmanager
def keep_retries(context: Context, describe_writes: Callable[[], str]) -> Iterator[None]:
    """Replace a permanent error that somebody can correct by one after which the task keeps its retries.

    :param describe_writes: returns which try may have written rows, which a retry continues behind: a sentence without
        its end; "" if none has.
    :raises UnfinishedRunError: in place of the error.
    """
    try:
        yield
    except _CORRECTABLE as error:
        writes = describe_writes()
        if not writes:
            raise
        # The value may be a rendered secret.
        text = masked(str(error))
        remedy = ": correct this before the next retry, which continues behind them."
        if not _has_retry(context):
            remedy = ", and no retry is left."
        raise UnfinishedRunError(
            f"{text}\n{writes}{remedy} Clearing the task starts a new run, which writes them again."
        ) from (error if text == str(error) else None)


def retry_of(context: Context, error: BaseException, resumption: Resumption, missing: int, total: int) -> Any:
    """Return the part ``retry`` of the report: None if Airflow does not try the task again.

    :param missing: number of items that have no outcome.
    :param total: number of all items.
    """
    if not _retries(context, error):
        return None
    task: Any = context["task"]
    delay = getattr(task, "retry_delay", None)
    is_fixed = not getattr(task, "retry_exponential_backoff", 0) and getattr(task, "retry_policy", None) is None
    seconds = delay.total_seconds() if is_fixed and delay is not None else None
    return {"seconds": seconds, "remaining": (missing if resumption.keeps else total) or None}


def advise(
    context: Context,
    error: BaseException,
    resumption: Resumption,
    missing: int,
    total: int,
    unit: str,
    *,
    is_continued: bool = False,
) -> list[str]:
    """Return what to do about a try that has failed, as sentences.

    :param unit: "range" or "input".
    :param is_continued: whether the run has begun before this try.
    """
    advice = []
    if _retries(context, error):
        is_unknown = resumption is NOTHING_STORED and is_continued
        retry = _CONTINUED if is_unknown else _describe_retry(resumption, missing, total, unit)
        # Airflow does not try a task again that was marked failed, and this is not known here.
        is_stopped = isinstance(error, TaskKilledError)
        advice.append(f"If Airflow tries the task again: {retry[0].lower()}{retry[1:]}" if is_stopped else retry)
    elif isinstance(error, PermanentError):
        advice.append("Airflow does not retry the task, because a retry would fail again. Correct the error first.")
    else:
        advice.append("No retry is left.")
    if total:
        advice.append(resumption.clearing)
    return advice


def _describe_retry(resumption: Resumption, missing: int, total: int, unit: str) -> str:
    if not total:
        return f"The next try starts from the beginning: {resumption.reason}."
    everything = f"all {quantity(total, unit)}" if total > 1 else f"the {unit}"
    if not resumption.keeps:
        return f"The next try processes {everything} again, {resumption.reason}."
    if missing == total:
        return f"The next try processes {everything}."
    if not missing:
        return f"The next try processes no {unit} again: {resumption.reason.replace('the others', 'all of them')}."
    return f"The next try processes only the {quantity(missing, f'missing {unit}')}: {resumption.reason}."


def _retries(context: Context, error: BaseException) -> bool:
    """Return whether Airflow tries the task again. A retry policy may decide otherwise."""
    is_permanent = isinstance(error, PermanentError) or type(error).__name__ == "AirflowFailException"
    return not is_permanent and _has_retry(context)


def _has_retry(context: Context) -> bool:
    ti: Any = context["ti"]
    return getattr(ti, "try_number", 1) <= (getattr(ti, "max_tries", None) or 0)
