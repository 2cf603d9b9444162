"""Burla's exceptions, with the texts of a real cluster."""

from __future__ import annotations

import pytest

from burla_provider.jobs.client import burla_errors


def raised(name, message="", *bases):
    return type(name, bases or (Exception,), {})(message)


WORKER_DIED = """Worker on node burla-node-5b failed while executing input index 12:

Traceback (most recent call last):
  File "/opt/worker_client.py", line 2442, in _read_response
    status = await self.reader.readexactly(1)
asyncio.exceptions.IncompleteReadError: 0 bytes read on a total of 1 expected bytes

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/opt/worker_client.py", line 2281, in _raise_if_worker_failed
    raise WorkerProcessTerminatedError(
node_service.worker_client.WorkerProcessTerminatedError:\x20

Worker process ended unexpectedly while the container was still healthy.
This usually means the user function called `os._exit`, or crashed a C extension (segfault / OOM of
the worker subprocess specifically). The cluster itself is fine.


Last error reported by the node:
RuntimeError: of another job"""

STALLED = """Job ended before all results were received (0/4).
Final node states:
  burla-node-5b  state=REMOVED  result_count=0
    reason: assignment failed: 500
  burla-node-6c  state=REMOVED  result_count=0
    reason: assignment failed: 502"""


UNKNOWN_GPU = """POST /v1/jobs/a-test-5b/start failed: 400 {'detail': "func_gpu must be one of ['A100', 'H100']"}"""


@pytest.mark.parametrize(
    ("error", "started", "kind"),
    [
        (raised("NoNodes"), False, "busy"),
        (raised("UnauthorizedError"), True, "unauthorized"),
        (raised("AuthException"), False, "unauthorized"),
        (raised("LocalHeadError"), False, "unauthorized"),
        (raised("NoCompatibleNodes"), False, "refused"),
        (raised("ClientConnectorError", "", ConnectionError), False, "unreachable"),
        (raised("ClientConnectorError", "", ConnectionError), True, "lost"),
        (raised("NodeDisconnected", WORKER_DIED), True, "lost"),
        (raised("JobStalled", "No compatible containers.\nUser is running python version 3.12"), True, "refused"),
        (ValueError("BURLA_CLUSTER_DASHBOARD_URL must use HTTPS"), False, "refused"),
        (raised("SomethingNew"), True, "lost"),
        (Exception(UNKNOWN_GPU), False, "refused"),
    ],
)
def test_every_exception_has_a_kind(error, started, kind):
    assert burla_errors.kind_of(error, started) == kind


def test_the_description_of_a_dead_worker_has_neither_traceback_nor_guesses():
    assert burla_errors.describe(raised("NodeDisconnected", WORKER_DIED)) == (
        "Node burla-node-5b: Worker process ended unexpectedly while the container was still healthy."
    )


def test_an_unknown_gpu_is_named_by_the_parameter_and_in_words():
    message = burla_errors.describe(Exception(UNKNOWN_GPU))
    assert message == "The cluster refused the job: func_gpu must be one of ['A100', 'H100']."
    assert burla_errors.refused_parameter(message) == "func_gpu"


def test_the_input_that_killed_its_worker_is_found():
    assert burla_errors.crashed_input(WORKER_DIED) == 12
    assert burla_errors.crashed_input(STALLED) is None


def test_nodes_that_could_not_be_prepared_are_found():
    assert burla_errors.stalled_nodes(STALLED) == ["burla-node-5b"]


def test_the_install_error_of_a_job_is_found_in_the_log_of_a_node():
    log = {
        "items": [
            {"message": "Executing job old-1 ..."},
            {"message": "RuntimeError: uv failed to install the client environment (exit status 1).\nold trouble"},
            {"message": "Executing job new-2 ..."},
            {"message": "Traceback ...\nRuntimeError: uv failed to install the client environment.\n\nzz is unknown"},
        ]
    }
    assert (
        burla_errors.find_install_error(log, "new-2") == "uv failed to install the client environment.\n\nzz is unknown"
    )
    assert burla_errors.find_install_error(log, "other-3") is None


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ("No ready nodes have the requested image `x`.", "image"),
        ("No ready nodes are in the requested region `x`.", "region"),
        ("to support your `func_cpu` and `func_ram` arguments?", "func_cpu"),
        ("User is running python version 3.12", "python"),
        ("uv failed to install the client environment", "requirements"),
        ("BURLA_CLUSTER_DASHBOARD_URL must use HTTPS", "host"),
        ("Your function `f` is referencing some large objects!", "function"),
    ],
)
def test_the_refused_parameter_is_found(message, parameter):
    assert burla_errors.refused_parameter(message) == parameter


def test_recorded_errors_are_described_without_traceback():
    text = 'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: no such thing\n'
    errors = {"items": [{"count": 12, "representative_error": text, "signature": "s"}]}
    described = list(burla_errors.describe_recorded_errors(errors))
    assert described == ["The cluster recorded 12 times: ValueError: no such thing"]
