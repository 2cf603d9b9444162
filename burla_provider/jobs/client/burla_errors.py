"""Classify Burla's exceptions, by the names of their classes. ``burla_engine.py`` loads this file by path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_KINDS = {
    "NoNodes": "busy",
    "AllNodesBusy": "busy",
    "UnauthorizedError": "unauthorized",
    "AuthException": "unauthorized",
    "ADCBootstrapException": "unauthorized",
    "DefaultCredentialsError": "unauthorized",
    "LocalHeadError": "unauthorized",
    "JobCanceled": "canceled",
    "NoCompatibleNodes": "refused",
    "FunctionTooBig": "refused",
    "InputTooBig": "refused",
    "VersionMismatch": "not installed",
    "MainServiceTimeout": "unreachable",
}
_NETWORK_ERRORS = {"ClientError", "RequestException", "OSError", "TimeoutError"}
_REFUSALS = (
    "No compatible containers",  # another Python on the workers
    "must use HTTPS",  # http:// and a public host
    "/start failed: 400",  # a parameter that the cluster does not know
)
_REFUSED_START = re.compile(r"/start failed: 400 \{'detail': (['\"])(.*)\1\}", re.S)
# Text in the message -> the parameter that the cluster refuses. The first match counts.
_REFUSED_PARAMETERS = (
    ("uv failed to install", "requirements"),
    ("python version", "python"),
    ("requested image", "image"),
    ("requested region", "region"),
    ("func_gpu", "func_gpu"),
    ("func_cpu", "func_cpu"),
    ("Input at index", "inputs"),
    ("HTTPS", "host"),
    ("LocalHeadError", "host"),
    ("large objects", "function"),
)
_WORKER_FAILED = re.compile(r"Worker on node (\S+) failed while executing input index (\d+):")
_CLASS = re.compile(r"^[\w.]+(?:Error|Exception): ")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n.*\n(?=[\w.]+(Error|Exception|Exit|Interrupt): )", re.S)


def kind_of(error: Exception, started: bool) -> str:
    """Return the ``client.FailureKind`` of an exception.

    :param started: whether the job existed on the cluster when the exception was raised.
    """
    names = [kind.__name__ for kind in type(error).__mro__]
    if _NETWORK_ERRORS.intersection(names):
        return "lost" if started else "unreachable"
    if any(text in str(error) for text in _REFUSALS):
        return "refused"
    return next((_KINDS[name] for name in names if name in _KINDS), "lost")


def describe(error: Exception) -> str:
    """Return the error text without the tracebacks of Burla's nodes."""
    if refused := _REFUSED_START.search(str(error)):
        return f"The cluster refused the job: {refused[2]}."
    text, _, last_error = str(error).partition("Last error reported by the node:")
    if failed := _WORKER_FAILED.search(text):  # the node's last error may be that of an earlier job
        return f"Node {failed[1]}: {_describe_end(text[failed.end() :])}"
    parts = [f"{type(error).__name__}:", _without_traceback(text)]
    if last_error:
        parts += ["The node's last error:", _without_traceback(last_error)]
    return " ".join(parts)


def crashed_input(message: str) -> int | None:
    """Return the position of the input whose worker died, if the message says it."""
    found = _WORKER_FAILED.search(message)
    return int(found[2]) if found else None


def refused_parameter(message: str) -> str:
    """Return the parameter that the cluster refuses; "job" if it is unknown."""
    return next((parameter for text, parameter in _REFUSED_PARAMETERS if text in message), "job")


def stalled_nodes(message: str) -> list[str]:
    """Return the nodes that could not be prepared for the job."""
    return re.findall(r"^\s*(\S+)\s+state=REMOVED.*\n\s+reason: assignment failed: 500", message, re.M)


def find_install_error(log: Mapping[str, Any], job_id: str) -> str | None:
    """Return the error of a node that could not install the job's packages, from its log; None if there is none."""
    messages = [entry["message"] for entry in log["items"]]
    starts = [number for number, message in enumerate(messages) if f"Executing job {job_id}" in message]
    for message in messages[starts[-1] :] if starts else ():
        _, found, problem = message.partition("uv failed to install the client environment")
        if found:
            return f"{found}{problem}".strip()
    return None


def describe_recorded_errors(errors: Mapping[str, Any]) -> Iterator[str]:
    """Yield the errors that the cluster recorded for a job, at most five kinds."""
    for error in errors["items"][:5]:
        yield f"The cluster recorded {error['count']} times: {_without_traceback(error['representative_error'])}"


def _describe_end(text: str) -> str:
    """Return how a worker ended, without the possible causes that Burla adds: they are always the same."""
    end, _, _ = _without_traceback(text).partition(" This usually means ")
    return _CLASS.sub("", end)


def _without_traceback(text: str) -> str:
    return " ".join(_TRACEBACK.sub("", text).split())
