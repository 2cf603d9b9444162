"""What Burla's exceptions mean. Loaded by ``burla_engine.py`` by its path, so burla's classes are known by name."""

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
_REFUSALS = ("No compatible containers", "must use HTTPS")  # the workers' Python is another one; http:// to the public
# The first that fits: the words of the refusal, and the parameter that it is about.
_REFUSED_PARAMETERS = (
    ("uv failed to install", "requirements"),
    ("python version", "python"),
    ("requested image", "image"),
    ("requested region", "region"),
    ("func_cpu", "func_cpu"),
    ("Input at index", "inputs"),
    ("HTTPS", "host"),
    ("LocalHeadError", "host"),
    ("large objects", "function"),
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n.*\n(?=[\w.]+(Error|Exception|Exit|Interrupt): )", re.S)


def kind_of(error: Exception, started: bool) -> str:
    """One of ``client.KINDS``.

    :param started: whether the job existed when it happened.
    """
    names = [kind.__name__ for kind in type(error).__mro__]
    if _NETWORK_ERRORS.intersection(names):
        return "lost" if started else "unreachable"
    if any(words in str(error) for words in _REFUSALS):
        return "refused"
    return next((_KINDS[name] for name in names if name in _KINDS), "lost")


def describe(error: Exception) -> str:
    """The error in a line or two, without the tracebacks that Burla's nodes put into it."""
    text, _, last_error = str(error).partition("Last error reported by the node:")
    sentences = [f"{type(error).__name__}:", _tidy(text)]
    if last_error and culprit(text) is None:  # it may be of an earlier job, so only where nothing better is known
        sentences += ["The node's last error:", _tidy(last_error)]
    return " ".join(sentences)


def culprit(message: str) -> int | None:
    """The position of the input whose worker died, where Burla says it."""
    found = re.search(r"while executing input index (\d+)", message)
    return int(found[1]) if found else None


def refused_parameter(message: str) -> str:
    """Which parameter of the job the cluster cannot serve."""
    return next((parameter for words, parameter in _REFUSED_PARAMETERS if words in message), "job")


def stalled_nodes(message: str) -> list[str]:
    """The nodes that could not be prepared for the job."""
    return re.findall(r"^\s*(\S+)\s+state=REMOVED.*\n\s+reason: assignment failed: 500", message, re.M)


def install_problem(log: Mapping[str, Any], job_id: str) -> str | None:
    """What a node's log says of packages that could not be installed for this job."""
    messages = [entry["message"] for entry in log["items"]]
    starts = [number for number, message in enumerate(messages) if f"Executing job {job_id}" in message]
    for message in messages[starts[-1] :] if starts else ():
        _, found, problem = message.partition("uv failed to install the client environment")
        if found:
            return f"{found}{problem}".strip()
    return None


def recorded(errors: Mapping[str, Any]) -> Iterator[str]:
    """What the head has on record of calls that failed, where Burla's client did not say it: five kinds at most."""
    for error in errors["items"][:5]:
        yield f"The head has on record, {error['count']} times: {_tidy(error['representative_error'])}"


def _tidy(text: str) -> str:
    return " ".join(_TRACEBACK.sub("", text).split())
