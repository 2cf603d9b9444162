"""What to do about errors that have no SQLSTATE."""

from __future__ import annotations

import pickle
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from burla_provider.exceptions import ConnectionLimitError, RangeTimeoutError, SnapshotLostError
from burla_provider.jobs.client import burla_errors
from burla_provider.task.remedies import advice_for_group
from burla_provider.worker.errors import to_failure
from burla_provider.worker.outcome import Failure

# The texts of Burla's nodes.
KILLED = """node_service.worker_client.WorkerOutOfMemoryError:

Worker process was killed by the Linux OOM killer while the container stayed healthy.
This usually means this function call used more memory than was available at the current node parallelism.
"""
ENDED = """node_service.worker_client.WorkerProcessTerminatedError:

Worker process ended unexpectedly while the container was still healthy.
This usually means the user function called `os._exit`, or crashed a C extension (segfault / OOM of
the worker subprocess specifically). The cluster itself is fine.
"""


def burla(text: str) -> str:
    failed = "Worker on node burla-node-5b failed while executing input index 12:"
    return str(burla_errors.describe(Exception(f"{failed}\n\n{text}")))


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
        (f"Its worker died 3 times. {burla(KILLED)}", "The worker process was killed"),
        (f"Its worker died 3 times. {burla(ENDED)}", "or the function ended the process"),
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
        (ModuleNotFoundError("No module named 'airflow'", name="airflow"), "The workers have no Airflow"),
        (ModuleNotFoundError("No module named 'airflow.sdk'", name="airflow.sdk"), "The workers have no Airflow"),
        (AirflowNotFoundException("The conn_id `shop` isn't defined"), "The workers have no Airflow"),
        (KeyError("Variable rate does not exist."), "The workers have no Airflow"),
        (pickle.PicklingError("x"), "init"),
        (not_pickled(), "init"),
    ],
)
def test_known_errors_have_advice(error: BaseException, advice: str) -> None:
    assert advice in advice_for_group(to_failure(error, {}))


def test_the_workers_advice_comes_first_and_others_need_none() -> None:
    assert advice_for_group(Failure("MemoryError", "", advice="Do it.")) == "Do it."
    assert advice_for_group(Failure("ValueError", "no")) == ""
