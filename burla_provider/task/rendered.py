"""What Airflow shows of a task besides its parameters: the code of its functions, and its work as one SQL query."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from burla_provider.database.wording import sql_name
from burla_provider.task.validation import is_given


class RenderedText:
    """A text among the rendered templates that is not a template: braces in it have no meaning.

    It is falsy, because Airflow does not render falsy fields. The UI shows its ``str``.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self._text


def preview_code(functions: Iterable[Callable[..., Any] | None]) -> RenderedText | None:
    """Return the source of the functions; None if there are none."""
    text = "\n\n".join(source_code(function) for function in functions if function is not None)
    return RenderedText(text) if text else None


def source_code(function: Callable[..., Any]) -> str:
    """Return the source of a function, or its name if the source is unknown."""
    while isinstance(function, functools.partial):
        function = function.func
    has_source = inspect.isroutine(function) or inspect.isclass(function)
    try:
        source = inspect.getsource(function if has_source else type(function))
    except (OSError, TypeError):
        source = ""
    # In Python 3.13, all code that was made from text has the source of `python -c`.
    if not source or getattr(getattr(function, "__code__", None), "co_filename", "") == "<string>":
        return getattr(function, "__qualname__", type(function).__qualname__)
    return textwrap.dedent(source).rstrip()


def preview_sql(
    table: str,
    *,
    totals: Any,
    columns: Any,
    where: Any,
    key: Any,
    start_id: Any,
    end_id: Any,
    lower: Any,
    upper: Any,
    incremental: bool,
) -> RenderedText:
    """Return all ranges together as one query, as a person would write it to check the result.

    Names and conditions are as the user wrote them. Values may still be templates.
    """
    bounds = [(">=", start_id), (">=", lower), ("<=", end_id), ("<", upper)]
    bounds = [(operator, value) for operator, value in bounds if is_given(value)]
    is_column = isinstance(key, str)
    window = [f"{sql_name(key)} {operator} {_literal(value)}" for operator, value in bounds if is_column]
    conditions = [*([f"({where})"] if where else []), *window]
    lines = [f"SELECT {_selected(totals, columns)}", f"FROM {table}"]
    if conditions:
        lines.append("WHERE " + "\n  AND ".join(conditions))
    if incremental and not bounds:
        lines.append(f"-- only rows whose {key} is new since the last success")
    elif bounds and not window:
        lines.append("-- only rows whose key is in the window")
    return RenderedText("\n".join(lines))


def _selected(totals: Any, columns: Any) -> str:
    if isinstance(totals, Mapping):
        expressions = (f"{expression} AS {sql_name(str(name))}" for name, expression in totals.items())
        return ",\n       ".join(["count(*) AS row_count", *expressions])
    if totals is not None:
        return str(totals)
    if isinstance(columns, Mapping):
        return ", ".join(f"{expression} AS {sql_name(str(name))}" for name, expression in columns.items()) or "*"
    if isinstance(columns, list | tuple):
        return ", ".join(map(sql_name, map(str, columns))) or "*"
    return "*" if columns is None else str(columns)


def _literal(value: Any) -> str:
    text = str(value)
    return text if re.fullmatch(r"-?\d+", text) else "'{}'".format(text.replace("'", "''"))
