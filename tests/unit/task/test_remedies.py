"""What to do about errors that have no SQLSTATE."""

from __future__ import annotations

import pickle
import threading

import pytest

from burla_provider.exceptions import ConnectionLimitError, RangeTimeoutError, SnapshotLostError
from burla_provider.task.remedies import advice_for_group
from burla_provider.worker.errors import to_failure
from burla_provider.worker.outcome import Failure


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "This item killed 3 worker processes (signal 9).",
            "ran out of memory. Give each worker more memory",
        ),
        ("This item killed 3 worker processes (signal 11).", "Code in C crashed"),
        ("This item killed 3 worker processes (exit status 1).", "or the function ended the process"),
        ("Its worker died 3 times. NodeError: container exited with 137", "The worker process was killed"),
        ("Its worker died 3 times. ", "or the function ended the process"),
    ],
)
def test_the_end_of_a_worker_is_explained(text: str, advice: str) -> None:
    assert advice in advice_for_group(Failure("WorkerError", text))


def not_pickled() -> BaseException:
    try:
        pickle.dumps(threading.Lock())
    except TypeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError(), "func_ram"),
        (RangeTimeoutError("too long"), "range_timeout"),
        (ConnectionLimitError("none"), "max_parallelism"),
        (SnapshotLostError("gone"), "Retry the task"),
        (ModuleNotFoundError("No module named 'x'"), "requirements"),
        (pickle.PicklingError("x"), "init"),
        (not_pickled(), "init"),
    ],
)
def test_known_errors_have_advice(error: BaseException, advice: str) -> None:
    assert advice in advice_for_group(to_failure(error, {}))


def test_the_workers_advice_comes_first_and_others_need_none() -> None:
    assert advice_for_group(Failure("MemoryError", "", advice="Do it.")) == "Do it."
    assert advice_for_group(Failure("ValueError", "no")) == ""
