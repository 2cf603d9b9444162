"""What Airflow shows of a task besides its parameters: the SQL that it comes to, and the code of its functions."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from burla_provider.operators.postgres import BurlaPostgresOperator


class RenderedText:
    """A text among the rendered templates that is no template: braces in it mean nothing.

    It is falsy, and Airflow leaves falsy fields as they are; what people see is its ``str``.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self._text


def source_code(function: Callable[..., Any]) -> str:
    """A function's source, or its name where there is no source."""
    while isinstance(function, functools.partial):
        function = function.func
    readable = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    try:
        return textwrap.dedent(inspect.getsource(readable)).rstrip()
    except (OSError, TypeError):
        return getattr(function, "__qualname__", type(function).__qualname__)


def statement(asked: BurlaPostgresOperator) -> str | None:
    """What all ranges come to, as the one statement that somebody would write by hand to check the result.

    None for ``process_range``, whose function has its own. Names and conditions are as the user wrote them.
    """
    if asked.process_range is not None:
        return None
    lines = [f"SELECT {_selected(asked)}", f"FROM {asked.table}"]
    conditions = [*([f"({asked.where})"] if asked.where else []), *_window(asked)]
    if conditions:
        lines.append("WHERE " + "\n  AND ".join(conditions))
    if asked.incremental and not asked.has_window:
        lines.append(f"-- and of these the rows whose {asked.key} came since the last success")
    elif asked.has_window and not conditions[bool(asked.where) :]:
        lines.append("-- and of these the rows whose key is in the window")
    return "\n".join(lines)


def _selected(asked: BurlaPostgresOperator) -> str:
    if isinstance(asked.totals, Mapping):
        totals = (f"{expression} AS {_name(name)}" for name, expression in asked.totals.items())
        return ",\n       ".join(["count(*) AS row_count", *totals])
    if asked.totals is not None:
        return str(asked.totals)
    if isinstance(asked.columns, Mapping):
        return ", ".join(f"{text} AS {_name(name)}" for name, text in asked.columns.items()) or "*"
    if isinstance(asked.columns, list | tuple):
        return ", ".join(map(_name, asked.columns)) or "*"
    return "*" if asked.columns is None else str(asked.columns)


def _window(asked: BurlaPostgresOperator) -> Iterator[str]:
    if not isinstance(asked.key, str):
        return
    bounds = {">=": (asked.start_id, asked.lower), "<=": (asked.end_id,), "<": (asked.upper,)}
    for operator, values in bounds.items():
        for value in values:
            if value not in (None, ""):
                yield f"{_name(asked.key)} {operator} {_literal(value)}"


def _name(name: Any) -> str:
    text = str(name)
    return text if re.fullmatch("[a-z_][a-z0-9_]*", text) else '"{}"'.format(text.replace('"', '""'))


def _literal(value: Any) -> str:
    text = str(value)
    return text if re.fullmatch(r"-?\d+", text) else "'{}'".format(text.replace("'", "''"))
