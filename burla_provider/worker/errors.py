"""An exception as text that is fit to be shown."""

from __future__ import annotations

import traceback
from collections.abc import Mapping

import psycopg

from burla_provider.database.errors import advice
from burla_provider.database.redact import redact
from burla_provider.worker.outcome import Failure

MESSAGE_LIMIT = 2_000
TRACEBACK_LIMIT = 4_000
"""Characters kept: a hundred failures must still fit in a log, and in Airflow's state store."""


FRAMES = 6
"""Innermost ones: how we came to call the user's function is of no interest."""

NOT_THERE = (
    "- the workers do not have it. Name its package in requirements=[...]; on the local engine, install it where"
    " Airflow runs."
)


def describe(error: BaseException, parameters: Mapping[str, str]) -> Failure:
    """What went wrong, without the secrets among the connection parameters.

    Advice is added where the server's own words leave a reader alone with them.
    """
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str)]
    message = with_advice(_text(error), " ".join(filter(None, [_advice(error, parameters), *notes])))
    return Failure(
        type=_type_name(error),
        message=redact(message[: 10 * MESSAGE_LIMIT], parameters)[:MESSAGE_LIMIT],
        sqlstate=error.sqlstate if isinstance(error, psycopg.Error) else None,
        traceback=redact(_traceback(error)[-10 * TRACEBACK_LIMIT :], parameters)[-TRACEBACK_LIMIT:],
    )


def with_advice(text: str, advice: str) -> str:
    """A text that may lack its full stop, and sentences, or words behind a dash, that follow it."""
    ends = not text or not advice or advice.startswith("-") or text[-1] in ".!?:;"
    return f"{text}{'' if ends else '.'} {advice}".strip()


def _advice(error: BaseException, parameters: Mapping[str, str]) -> str:
    if isinstance(error, ModuleNotFoundError):
        return NOT_THERE
    return advice(error, parameters.get("host", ""))


def _type_name(error: BaseException) -> str:
    module, name = type(error).__module__, type(error).__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _text(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException as failed:  # user code, too
        return f"(its text cannot be shown: {type(failed).__name__})"


def _traceback(error: BaseException) -> str:
    try:
        lines = traceback.format_exception(error, limit=-FRAMES)
    except Exception:  # formatting calls the exception's own __str__
        lines = traceback.format_tb(error.__traceback__, limit=-FRAMES)
    return "".join(lines).strip()
