"""What a parameter may say, checked when the DAG file is parsed, and again when its templates are rendered."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from datetime import timedelta
from math import isfinite
from numbers import Integral
from typing import Any

from burla_provider.exceptions import InvalidParameterError


def check_names(operator: type, given: Collection[str]) -> None:
    """:raises InvalidParameterError: neither the operator nor a class that it is made of has such a parameter."""
    makers = [vars(kind)["__init__"] for kind in operator.__mro__ if "__init__" in vars(kind)]
    known = {name for maker in makers for name in inspect.signature(maker).parameters}
    for name in given:
        if name not in known and not name.startswith("_"):  # Airflow's own
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"Did you mean {near[0]}?" if near else "Leave it out."
            raise InvalidParameterError(name, f"{operator.__name__} has no such parameter.", advice)


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """:raises InvalidParameterError: ``value`` is none of ``choices``."""
    # By type too: 0 is False otherwise.
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise InvalidParameterError(name, f"{value!r} is unknown.", f"Use {_either(choices)}.")


def check_function(name: str, value: Any) -> None:
    """:raises InvalidParameterError: ``value`` cannot be called."""
    if not callable(value):
        raise InvalidParameterError(name, f"{value!r} cannot be called.", "Give a function.")


def check_count(name: str, value: Any, least: int) -> None:
    """:raises InvalidParameterError: ``value`` is no whole number, or less than ``least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise InvalidParameterError(name, f"{value!r} is no number that fits.", f"Use a whole number from {least} on.")


def check_amount(name: str, value: Any, instead: str | None) -> None:
    """A whole number from 1 on, which a template or another task may give.

    :param instead: what may stand in its place.
    :raises InvalidParameterError: it is something else.
    """
    if value == instead or is_rendered_later(value):
        return
    try:
        check_count(name, whole_number(value), 1)
    except InvalidParameterError:
        other = "leave it out" if instead is None else f'"{instead}"'
        advice = f"Use a whole number from 1 on, or {other}."
        raise InvalidParameterError(name, f"{value!r} is no number that fits.", advice) from None


def check_seconds(name: str, value: Any, *, zero: bool = True) -> None:
    """:param zero: 0 means something too.
    :raises InvalidParameterError: ``value`` is no number, negative, or 0 where that means nothing.
    """
    is_number = isinstance(value, (int, float)) and isfinite(value)
    if not is_number or value < 0 or (value == 0 and not zero):
        advice = f"Give seconds, a number {'from 0 on' if zero else 'above 0'}."
        raise InvalidParameterError(name, f"{value!r} is no time.", advice)


def check_age(name: str, value: Any) -> None:
    """:raises InvalidParameterError: ``value`` is no timedelta above 0."""
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise InvalidParameterError(name, f"{value!r} is no age.", "Give a timedelta above 0, or leave it out.")


def check_texts(name: str, value: Any) -> None:
    """A list of text, which a template or another task may give.

    :raises InvalidParameterError: ``value`` is something else.
    """
    if is_rendered_later(value):
        return
    if not isinstance(value, Collection) or isinstance(value, str | bytes | Mapping):
        raise InvalidParameterError(name, f"{value!r} is no list.", "Give a list of text, also of a single one.")
    _check_all_text(name, value)


def check_dict(name: str, value: Any) -> None:
    """A dict, which a template or another task may give.

    :raises InvalidParameterError: ``value`` is something else.
    """
    if not isinstance(value, Mapping) and not is_rendered_later(value):
        raise InvalidParameterError(name, f"{value!r} is no dict.", "Give a dict: name -> value.")


def check_text_by_name(name: str, value: Any) -> None:
    """A dict of text, which a template or another task may give.

    :raises InvalidParameterError: ``value`` is something else.
    """
    check_dict(name, value)
    if isinstance(value, Mapping):
        _check_all_text(name, [*value, *value.values()])


def check_columns(name: str, value: Any) -> None:
    """A list of text, or a dict of text, which a template or another task may give.

    :raises InvalidParameterError: ``value`` is something else.
    """
    if isinstance(value, Mapping):
        check_text_by_name(name, value)
    else:
        check_texts(name, value)


def whole_number(amount: Any) -> Any:
    """A template's digits as the number that they are; anything else as it is."""
    is_digits = isinstance(amount, str) and amount.strip().isdecimal()
    return int(amount) if is_digits else amount


def is_rendered_later(value: Any) -> bool:
    """Whether Airflow makes the value before a run: of a template, of a function, or of another task's (XComArg)."""
    return callable(value) or hasattr(value, "resolve") or (isinstance(value, str) and ("{{" in value or "{%" in value))


def _check_all_text(name: str, values: Collection[Any]) -> None:
    for value in values:
        if not isinstance(value, str) and not is_rendered_later(value):
            raise InvalidParameterError(name, f"{value!r} in it is no text.", "Give text only.")


def _either(choices: Collection[Any]) -> str:
    *others, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
