"""Turn an exception into text that contains no secret. Workers without psycopg use it too."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType

from burla_provider.database.redact import redact
from burla_provider.worker.outcome import Failure, join_sentences

MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 8_000
"""Characters: many failures may be on their way to the task at the same time."""

_OWN_PACKAGE = __name__.partition(".")[0]
_TRACEBACK_FRAMES = 12
"""Innermost frames to keep: those of the user's function."""

_MODULE_NOT_INSTALLED = (
    "The workers do not have this module. Name its package in requirements=[...]; on the local engine, install it"
    " where Airflow runs."
)
NO_AIRFLOW = (
    "The workers have no Airflow: no connections, no variables and no context. Pass the values to the function as"
    ' arguments (op_kwargs), which are templates: "{{ var.value.rate }}", "{{ conn.shop.password }}", "{{ ds }}".'
)
_ROWS, _ROW_NAMES = "burla_rows", "burla_row_names"
"""Attributes of an error: keys of the rows that have caused it, and the names of the columns of the keys."""

_MAX_ROWS = 10
"""Rows that an error names."""
_MAX_VALUE_CHARS = 80


def to_failure(error: BaseException, parameters: Mapping[str, str], advice: str = "") -> Failure:
    """Return the error as a failure, with advice if there is any.

    :param parameters: connection parameters; secrets among them are replaced in the texts.
    :param advice: what to do about a database error.
    """
    if isinstance(error, ModuleNotFoundError):
        is_airflow = (error.name or "").partition(".")[0] == "airflow"
        advice = NO_AIRFLOW if is_airflow else _MODULE_NOT_INSTALLED
    failure = describe_error(error)
    notes = [note for note in getattr(error, "__notes__", []) if isinstance(note, str)]
    return replace(
        failure,
        message=redact_message(join_sentences(failure.message, *notes), parameters),
        rows=redact(_describe_rows(error), parameters),
        advice=advice,
        traceback=_cut_front(redact(_traceback(error)[-10 * _TRACEBACK_LIMIT :], parameters), _TRACEBACK_LIMIT),
    )


def mark_rows(error: BaseException, keys: Sequence[Sequence[str]]) -> None:
    """Remember the rows that have caused the error, for ``to_failure``.

    :param keys: the values of their keys; those of a row without a key are empty.
    """
    if any(keys):
        vars(error)[_ROWS] = [key for key in keys if key]


def mark_row_names(error: BaseException, names: Sequence[str]) -> None:
    """Remember the names of the columns of these keys."""
    vars(error)[_ROW_NAMES] = tuple(names)


def describe_error(error: BaseException) -> Failure:
    """Return class, text and SQLSTATE of the error. The text may have secrets, and any length."""
    sqlstate = getattr(error, "sqlstate", None)
    return Failure(_type_name(error), _message(error), sqlstate if isinstance(sqlstate, str) else None)


def redact_message(message: str, parameters: Mapping[str, str]) -> str:
    """Return the message without the secrets among the connection parameters, at most ``MESSAGE_LIMIT`` characters."""
    hidden = redact(message[: 10 * MESSAGE_LIMIT], parameters)
    return cut(hidden + message[10 * MESSAGE_LIMIT :], MESSAGE_LIMIT)


def cut(text: str, limit: int, more: str = "") -> str:
    """Return at most the first ``limit`` characters of a text. If it is longer, its end says so.

    :param more: added to what it says, such as ", see the log".
    """
    if len(text) <= limit:
        return text
    # The mark is at most a few characters shorter than this.
    kept = max(limit - len(f"... ({len(text):,} more characters{more})"), 0)
    return f"{text[:kept]}... ({len(text) - kept:,} more characters{more})"


def _cut_front(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"({len(text) - limit:,} characters are left out) ...{text[-limit:]}"


def _describe_rows(error: BaseException) -> str:
    """Return the keys of the rows that have caused the error: "id = 5; id = 9"."""
    keys = getattr(error, _ROWS, [])
    names = getattr(error, _ROW_NAMES, ())
    more = f"; and {len(keys) - _MAX_ROWS:,} more" if len(keys) > _MAX_ROWS else ""
    return "; ".join(_describe_key(names, key) for key in keys[:_MAX_ROWS]) + more


def _describe_key(names: Sequence[str], key: Sequence[str]) -> str:
    values = [cut(str(value), _MAX_VALUE_CHARS) for value in key]
    if len(names) != len(values):
        return ", ".join(values)
    return " and ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))


def _type_name(error: BaseException) -> str:
    module, name = type(error).__module__, type(error).__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _message(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException as problem:  # __str__ may be user code
        return f"(its text cannot be shown: {type(problem).__name__})"


def _traceback(error: BaseException) -> str:
    first = _first_frame(error.__traceback__)
    try:
        lines = traceback.format_exception(type(error), error, first, limit=-_TRACEBACK_FRAMES)
    except Exception:  # formatting calls __str__, which may be user code
        lines = traceback.format_tb(first, limit=-_TRACEBACK_FRAMES)
    return "".join(lines).strip()


def _first_frame(first: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's function on, if the function is in it."""
    frame = first
    while frame is not None and _package(frame) == _OWN_PACKAGE:
        frame = frame.tb_next
    return first if frame is None or _package(frame) == "psycopg" else frame


def _package(frame: TracebackType) -> str:
    return str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0]
