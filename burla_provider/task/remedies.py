"""What to do about errors that are not the database's. Those are in ``database/errors.py``, and travel to workers."""

from __future__ import annotations

import re

from burla_provider.worker.errors import NO_AIRFLOW
from burla_provider.worker.outcome import Failure

_OUT_OF_MEMORY = (
    "Give each worker more memory (func_ram), or make the ranges (rows_per_range) or inputs smaller. On the local"
    " engine, lower max_parallelism."
)
_KILLED = f"The worker process was killed. In most cases the machine ran out of memory. {_OUT_OF_MEMORY}"
_CRASHED = (
    "Code in C crashed on this item: a library that the function uses. Call the function on this item alone, with"
    " python -X faulthandler, to see where."
)
_DIED = (
    "The worker process ended while it processed this item: it ran out of memory, code in C crashed, or the function"
    f" ended the process. {_OUT_OF_MEMORY}"
)
_NOT_SENT = (
    "Connections, locks, open files and the like cannot be sent to another process. Make them on the worker: in the"
    " function, or with init."
)

_WORKER_ERRORS = (
    (re.compile(r"\b(?:signal 9|137|SIGKILL|out of memory|OOM\w*)\b", re.I), _KILLED),
    (re.compile(r"\b(?:signal (?:4|6|7|8|11)|132|134|135|136|139|SIGSEGV|SIGABRT)\b", re.I), _CRASHED),
    (re.compile(r"\b(?:died|killed|exit)", re.I), _DIED),
)
"""Texts of the engines about a worker that ended -> what to do. The first match counts."""

_BY_CLASS = {
    "MemoryError": f"The function needs more memory than the worker has. {_OUT_OF_MEMORY}",
    "RangeTimeoutError": (
        "The range took longer than range_timeout: raise it, or make the ranges smaller. The traceback shows what the"
        " worker did at that moment."
    ),
    "ConnectionLimitError": (
        "Other jobs hold the connections of the database: lower their max_parallelism, or run the task at another time."
    ),
    "SnapshotLostError": (
        "The task's session, which held the snapshot, has ended. Retry the task. If the server ends idle or long"
        " transactions, raise its timeouts for this role."
    ),
    "PicklingError": _NOT_SENT,
}
"""Class of an error, without its module -> what to do."""


_OF_AIRFLOW = re.compile(r"^'?Variable \S+ does not exist|^Current context was requested")
"""Texts of other classes of errors that Airflow raises outside of a task: on the local engine, it is installed."""


def advice_for_group(failure: Failure) -> str:
    """Return what to do about errors of this kind, or ""."""
    if failure.advice:
        return failure.advice
    if failure.type == "WorkerError":
        return next((advice for text, advice in _WORKER_ERRORS if text.search(failure.message)), "")
    if failure.type.startswith("airflow.") or _OF_AIRFLOW.search(failure.message):
        return NO_AIRFLOW
    if re.search(r"\b(?:cannot|can't|could not) pickle\b", failure.message, re.I):
        return _NOT_SENT
    return _BY_CLASS.get(failure.type.rpartition(".")[2], "")
