"""What every kind of work has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import GeneratorType
from typing import Any, ClassVar, Protocol

import psycopg

from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.outcome import PLAIN_DATA, RESERVED, find_unserializable
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class RangeResult:
    """What a range gave.

    :param value: plain data.
    :param row_count: rows worked; None when only the user's function knows.
    """

    value: dict[str, Any]
    row_count: int | None


class RangeProcessor(Protocol):
    """Works one range on an open connection, inside a transaction that is begun and ended by the caller."""

    writes: ClassVar[bool]
    """Whether its transaction is read-write where no snapshot is asked for."""

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """:raises Exception: whatever went wrong."""
        ...


def checked(value: Any, key_range: KeyRange) -> dict[str, Any]:
    """``value``, if it can travel and be added up.

    :raises UserFunctionError: it is not a dict of plain data with text keys.
    """
    if type(value) is not dict:
        raise UserFunctionError(
            f"The function returned {type(value).__module__}.{type(value).__qualname__} for {key_range}:"
            f" return a dict of plain data, such as {{'total': 12}}{_hint(value)}."
        )
    reserved = [name for name in RESERVED if name in value]
    if reserved:
        raise UserFunctionError(
            f"For {key_range}, the return value has the key {reserved[0]!r}, which is the result's own."
        )
    problem = find_unserializable(value) or _find_other_key(value)
    if problem:
        raise UserFunctionError(f"For {key_range}, {problem}: return {PLAIN_DATA}, with text as the dict's keys.")
    return value


def _hint(value: Any) -> str:
    if isinstance(value, GeneratorType):
        return ". A function with yield in it returns a generator: write return dict(...)"
    return ", or dict(x)" if isinstance(value, Mapping) else ""


def _find_other_key(value: dict[Any, Any]) -> str | None:
    other = next((key for key in value if type(key) is not str), None)
    return None if other is None else f"the return value has the key {other!r}"
