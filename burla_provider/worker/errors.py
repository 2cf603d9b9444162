"""Turn an exception into text that contains no secret. Workers without psycopg use it too."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import replace

from burla_provider.database.redact import redact
from burla_provider.worker.outcome import Failure

MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 4_000
"""Characters: a hundred failures must fit into a log and into Airflow's state store."""

_TRACEBACK_FRAMES = 6
"""Innermost frames to keep: those of the user's function."""

MODULE_NOT_INSTALLED = (
    "- the workers do not have it. Name its package in requirements=[...]; on the local engine, install it where"
    " Airflow runs."
)


def to_failure(error: BaseException, parameters: Mapping[str, str], advice: str = "") -> Failure:
    """Return the error as a failure, with advice if there is any.

    :param parameters: connection parameters; secrets among them are replaced in the texts.
    :param advice: what to do about a database error.
    """
    if isinstance(error, ModuleNotFoundError):
        advice = MODULE_NOT_INSTALLED
    failure = describe_error(error)
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str)]
    message = with_advice(failure.message, " ".join(filter(None, [advice, *notes])))
    return replace(
        failure,
        message=redact_message(message, parameters),
        traceback=redact(_traceback(error)[-10 * _TRACEBACK_LIMIT :], parameters)[-_TRACEBACK_LIMIT:],
    )


def describe_error(error: BaseException) -> Failure:
    """Return class, text and SQLSTATE of the error. The text may have secrets, and any length."""
    sqlstate = getattr(error, "sqlstate", None)
    return Failure(_type_name(error), _message(error), sqlstate if isinstance(sqlstate, str) else None)


def redact_message(message: str, parameters: Mapping[str, str]) -> str:
    """Return the message without the secrets among the connection parameters, at most ``MESSAGE_LIMIT`` characters."""
    return redact(message[: 10 * MESSAGE_LIMIT], parameters)[:MESSAGE_LIMIT]


def with_advice(text: str, advice: str) -> str:
    """Return ``text``, with a full stop if it needs one, followed by ``advice``."""
    is_complete = not text or not advice or advice.startswith("-") or text[-1] in ".!?:;"
    return f"{text}{'' if is_complete else '.'} {advice}".strip()


def _type_name(error: BaseException) -> str:
    module, name = type(error).__module__, type(error).__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _message(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException as problem:  # __str__ may be user code
        return f"(its text cannot be shown: {type(problem).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error, limit=-_TRACEBACK_FRAMES)
    except Exception:  # formatting calls __str__, which may be user code
        lines = traceback.format_tb(error.__traceback__, limit=-_TRACEBACK_FRAMES)
    return "".join(lines).strip()
