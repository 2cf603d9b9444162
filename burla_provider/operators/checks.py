"""What a parameter may say, checked when the DAG file is parsed, and again when its templates are rendered."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from burla_provider.exceptions import InvalidParameter


def check_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """:raises InvalidParameter: ``value`` is none of ``choices``."""
    if value not in choices:
        raise InvalidParameter(name, f"{value!r} is unknown.", f"Use {_either(choices)}.")


def check_function(name: str, value: Any) -> None:
    """:raises InvalidParameter: ``value`` cannot be called."""
    if not callable(value):
        raise InvalidParameter(name, f"{value!r} cannot be called.", "Give a function.")


def check_count(name: str, value: Any, *, least: int = 1, words: Collection[str | None] = ()) -> None:
    """A whole number, as a number or as a template's digits.

    :param words: what may stand in its place; None among them: it may be left out.
    :raises InvalidParameter: it is something else, or less than ``least``.
    """
    if value in words or _is_rendered_later(value):
        return
    digits = str(value) if type(value) in (int, str) else ""
    if not digits.isdecimal() or int(digits) < least:
        instead = "".join(" or leave it out" if word is None else f' or "{word}"' for word in words)
        raise InvalidParameter(
            name, f"{value!r} is no number that fits.", f"Use a whole number from {least} on{instead}."
        )


def check_seconds(name: str, value: Any, *, zero: bool = True) -> None:
    """Seconds, or None.

    :param zero: 0 means something too.
    :raises InvalidParameter: no number, negative, or 0 where that means nothing.
    """
    fits = isinstance(value, (int, float)) and (value >= 0 if zero else value > 0)
    if value is not None and not fits:
        least = "from 0 on" if zero else "above 0"
        raise InvalidParameter(name, f"{value!r} is no time.", f"Give seconds, a number {least}, or leave it out.")


def _is_rendered_later(value: Any) -> bool:
    # Airflow resolves what another task returns (XComArg) when it renders templates.
    return hasattr(value, "resolve") or (isinstance(value, str) and "{" in value)


def _either(choices: Collection[Any]) -> str:
    *others, last = (f'"{choice}"' if isinstance(choice, str) else str(choice) for choice in choices)
    return f"{', '.join(others)} or {last}" if others else last
