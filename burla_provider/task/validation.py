"""Check single parameters. Each error names the parameter, its value, and what to use instead.

Airflow renders templates and resolves results of other tasks (``XComArg``) before a run. When a DAG file is parsed,
such a value is passed to these functions as ``UNRENDERED``, which all of them accept.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from math import isfinite
from numbers import Integral
from typing import Any

from burla_provider.exceptions import InvalidParameterError

UNRENDERED: Any = type("Unrendered", (), {})()
"""Stands for a value that is unknown until the task runs."""


def mask_unrendered(value: Any) -> Any:
    """Return ``UNRENDERED`` for a value that Airflow renders before a run, and any other value unchanged."""
    is_template = isinstance(value, str) and ("{{" in value or "{%" in value)
    return UNRENDERED if is_template or callable(value) or _is_xcom(value) else value


def is_given(value: Any) -> bool:
    """Return whether a parameter has a value. A template that renders to "" leaves the parameter out."""
    return value is not None and not (isinstance(value, str) and value == "")


def template_hint(value: Any) -> str:
    """Return a sentence about a list or a dict that a template has rendered to text; "" for other values."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{", "(")):
        return " A template renders to text, unless the DAG has render_template_as_native_obj=True."
    return ""


def check_names(operator: type, names: Collection[str]) -> None:
    """Check that the operator, or one of its base classes, has parameters of these names.

    :raises InvalidParameterError: if one is unknown.
    """
    constructors = [vars(base)["__init__"] for base in operator.__mro__ if "__init__" in vars(base)]
    known = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    for name in names:
        if name not in known and not name.startswith("_"):  # Airflow passes private ones
            similar = difflib.get_close_matches(name, known, n=1)
            advice = f"Did you mean {similar[0]}?" if similar else "Leave it out."
            label = getattr(operator, "custom_operator_name", operator.__name__)
            raise InvalidParameterError(name, f"{label} has no such parameter.", advice)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that the value is one of the choices, and of the same type.

    :raises InvalidParameterError: if it is not.
    """
    # 0 == False, so types are compared too.
    if value is not UNRENDERED and not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InvalidParameterError(name, f"{value!r} is unknown.", f"Use {_listed(choices)}.")


def check_function(name: str, value: Any) -> None:
    """Check that the value can be called.

    :raises InvalidParameterError: if it cannot.
    """
    if not callable(value):
        raise InvalidParameterError(name, f"must be a function, got {value!r}.", "Use a callable.")
    if hasattr(value, "expand_kwargs"):  # a decorated function of a DAG file
        label = getattr(value, "__name__", "it")
        raise InvalidParameterError(name, f"{label} is a task of Airflow.", f"Use its function, {label}.function.")


def check_single(advice: str, **parameters: Any) -> None:
    """Check that exactly one of these parameters is given.

    :raises InvalidParameterError: if none or several are.
    """
    given = [name for name, value in parameters.items() if value is not None]
    if len(given) != 1:
        problem = f"exactly one must be given, got {' and '.join(given) or 'none'}."
        raise InvalidParameterError(", ".join(parameters), problem, advice)


def check_integer(name: str, value: Any, minimum: int) -> None:
    """Check that the value is an integer, not text, and not less than ``minimum``.

    :raises InvalidParameterError: if it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < minimum:
        raise _not_integer(name, value, minimum, "")


def parse_integer(name: str, value: Any, minimum: int | None = None, *, keyword: str | None = None) -> Any:
    """Return the value as an int. Text is accepted, because a template renders to text.

    :param minimum: the smallest number that is allowed.
    :param keyword: a text that is allowed in place of a number. None: the parameter may be left out.
    :raises InvalidParameterError: if the value is neither a whole number nor the keyword.
    """
    if value is UNRENDERED:
        return value
    if keyword is None and not is_given(value):
        return None
    if keyword is not None and isinstance(value, str) and value == keyword:
        return keyword
    if isinstance(value, Integral | str | Decimal) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):  # text without a number; Decimal("NaN") and Decimal("Infinity")
            number = int(value)
            is_whole = isinstance(value, str) or number == value
            if is_whole and (minimum is None or number >= minimum):
                return number
    raise _not_integer(name, value, minimum, "leave it out" if keyword is None else f'"{keyword}"')


def parse_boolean(name: str, value: Any) -> Any:
    """Return the value as a bool. Text is accepted, because a template renders to text; nothing is False.

    :raises InvalidParameterError: if the value is neither true nor false.
    """
    if value is UNRENDERED or isinstance(value, bool):
        return value
    if not is_given(value):
        return False
    text = value.strip().lower() if isinstance(value, str) else None
    if text not in ("true", "false"):
        raise InvalidParameterError(name, f"must be a boolean, got {value!r}.", "Use True or False.")
    return text == "true"


def check_boolean(name: str, value: Any) -> None:
    """Check that the value is True or False. Text is refused: ``"False"`` would be true.

    :raises InvalidParameterError: if it is something else.
    """
    if not isinstance(value, bool):
        advice = "Use True or False. It is not a template."
        raise InvalidParameterError(name, f"must be a boolean, got {value!r}.", advice)


def check_seconds(name: str, value: Any, *, allow_zero: bool = True) -> None:
    """Check that the value is a finite number of seconds, 0 or more.

    :raises InvalidParameterError: if it is not, or if it is 0 and ``allow_zero`` is false.
    """
    is_number = isinstance(value, int | float) and isfinite(value)
    if not is_number or value < 0 or (value == 0 and not allow_zero):
        problem = f"must be a number {'>= 0' if allow_zero else '> 0'}, got {value!r}."
        raise InvalidParameterError(name, problem, "Use a number of seconds.")


def check_age(name: str, value: Any) -> None:
    """Check that the value is a timedelta greater than 0.

    :raises InvalidParameterError: if it is not.
    """
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise InvalidParameterError(name, f"must be a timedelta > 0, got {value!r}.", "Use timedelta(days=30).")


def check_lag(name: str, value: Any) -> None:
    """Check that the lag is a number of ids, a timedelta or None.

    :raises InvalidParameterError: if it is not, or negative: the watermark would pass rows that are not visible yet.
    """
    if value is not None and (not isinstance(value, int | timedelta) or isinstance(value, bool)):
        problem = f"must be a number of ids or a timedelta, got {value!r}."
        raise InvalidParameterError(name, problem, "Use, for example, 100 or timedelta(minutes=5).")
    zero = timedelta(0) if isinstance(value, timedelta) else 0
    if isinstance(value, int | timedelta) and value < zero:  # type: ignore[operator]
        raise InvalidParameterError(name, f"must not be negative, got {value!r}.", "Use 0 or more.")


def check_text(name: str, value: Any, kind: str, advice: str) -> None:
    """Check that the value is text, or None. With native rendering, a template such as "False" is not.

    :param kind: what the text is, for the error.
    :raises InvalidParameterError: if it is something else.
    """
    if value is not None and value is not UNRENDERED and not isinstance(value, str):
        raise InvalidParameterError(name, f"must be {kind}, got {value!r}.", advice)


def check_name(name: str, value: Any, advice: str) -> None:
    """Check that the value is text, and not empty.

    :raises InvalidParameterError: if it is not.
    """
    if value is not UNRENDERED and not (isinstance(value, str) and value):
        raise InvalidParameterError(name, f"must be a name, got {value!r}.", advice)


def check_strings(name: str, value: Any) -> None:
    """Check that the value is a list of strings.

    :raises InvalidParameterError: if it is not.
    """
    if value is UNRENDERED:
        return
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        advice = f"Use a list, also for a single string.{template_hint(value)}"
        raise InvalidParameterError(name, f"must be a list, got {value!r}.", advice)
    _check_items(name, value)


def check_dict(name: str, value: Any) -> None:
    """Check that the value is a dict.

    :raises InvalidParameterError: if it is not.
    """
    if value is not UNRENDERED and not isinstance(value, Mapping):
        advice = f"Use {{name: value}}.{template_hint(value)}"
        raise InvalidParameterError(name, f"must be a dict, got {value!r}.", advice)


def check_dict_of_strings(name: str, value: Any) -> None:
    """Check that the value is a dict with strings as keys and values.

    :raises InvalidParameterError: if it is not.
    """
    check_dict(name, value)
    if isinstance(value, Mapping):
        _check_items(name, [*value, *value.values()])


def check_columns(name: str, value: Any) -> None:
    """Check that the value is a list of strings, or a dict of strings.

    :raises InvalidParameterError: if it is neither.
    """
    check = check_dict_of_strings if isinstance(value, Mapping) else check_strings
    check(name, value)


def check_single_output(multiple_outputs: bool | None) -> None:
    """Check that Airflow does not expect a dict. With ``multiple_outputs`` it would refuse the list after all calls.

    :raises InvalidParameterError: if ``multiple_outputs`` is true.
    """
    if multiple_outputs:
        raise InvalidParameterError("multiple_outputs", "the result is a list, got True.", "Leave it out.")


def check_decorated(parameters: Mapping[str, Any]) -> None:
    """Check that the parameters of a decorator do not have the arguments of the call.

    :raises InvalidParameterError: if they have.
    """
    for name in ("op_args", "op_kwargs"):
        if name in parameters:
            problem = "are the arguments of the call."
            raise InvalidParameterError(name, problem, "Call the decorated function with them.")


def _is_xcom(value: Any) -> bool:
    return hasattr(value, "resolve")


def _check_items(name: str, items: Collection[Any]) -> None:
    for item in items:
        if not isinstance(item, str) and not _is_xcom(item):
            raise InvalidParameterError(name, f"must contain only strings, got {item!r}.", "Use strings.")


def _not_integer(name: str, value: Any, minimum: int | None, alternative: str) -> InvalidParameterError:
    limit = "" if minimum is None else f" >= {minimum}"
    advice = "Use a whole number" + (f", or {alternative}." if alternative else ".")
    return InvalidParameterError(name, f"must be an integer{limit}, got {value!r}.", advice)


def _listed(choices: Collection[Any]) -> str:
    *others, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
