"""The protocol of range processors, and the check of what a user's function returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, ClassVar, Protocol

import psycopg

from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.outcome import PLAIN_DATA, RESERVED_KEYS, find_unserializable
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class RangeResult:
    """The result of one range.

    :param value: plain data.
    :param row_count: rows processed; None if only the user's function knows.
    """

    value: dict[str, Any]
    row_count: int | None


class RangeProcessor(Protocol):
    """Processes one range on an open connection. The caller starts and ends the transaction."""

    writes: ClassVar[bool]
    """Whether its transaction is read-write if there is no snapshot."""

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return the result of the range.

        :raises Exception: if the range failed.
        """
        ...


def check_value(value: Any, key_range: KeyRange) -> dict[str, Any]:
    """Return ``value`` if it is a dict of plain data with text keys.

    :raises UserFunctionError: if it is not.
    """
    if type(value) is not dict:
        raise UserFunctionError(
            f"The function returned {type(value).__module__}.{type(value).__qualname__} for {key_range}:"
            f" return a dict of plain data, such as {{'total': 12}}{_hint(value)}."
        )
    reserved = [name for name in RESERVED_KEYS if name in value]
    if reserved:
        raise UserFunctionError(
            f"For {key_range}, the return value has the key {reserved[0]!r}, which is reserved: use another name."
        )
    problem = find_unserializable(value) or _find_non_text_key(value)
    if problem:
        raise UserFunctionError(f"For {key_range}, {problem}: return {PLAIN_DATA}, with text as the dict's keys.")
    return value


def _hint(value: Any) -> str:
    if isinstance(value, GeneratorType):
        return ". A function with yield in it returns a generator: write return dict(...)"
    return ", or dict(x)" if isinstance(value, Mapping) else ""


def _find_non_text_key(value: dict[Any, Any]) -> str | None:
    other = next((key for key in value if type(key) is not str), None)
    return None if other is None else f"the return value has the key {other!r}"
