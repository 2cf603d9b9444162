"""Estimate the memory of rows."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

_FIXED = 16
"""Bytes of a value of a small type. Its exact size does not matter."""

_SMALL = frozenset(
    {
        *(int, float, bool, Decimal, type(None), uuid.UUID),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
    }
)
_TEXT = frozenset({str, bytes, type(None)})


def size_of_rows(rows: Iterable[Sequence[Any]]) -> int:
    """Return the approximate number of bytes of rows with the same number of values."""
    return sum(map(_size_of_column, zip(*rows, strict=True)))


def _size_of_column(values: tuple[Any, ...]) -> int:
    types = set(map(type, values))
    if types <= _SMALL:
        return _FIXED * len(values)
    if types <= _TEXT:
        return _FIXED * len(values) + sum(map(len, filter(None, values)))
    return sum(map(_size_of_value, values))


def _size_of_value(value: Any) -> int:
    size, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        size += _FIXED
        if isinstance(item, str | bytes | bytearray):
            size += len(item)
        elif isinstance(item, dict):
            waiting += item.keys()
            waiting += item.values()
        elif isinstance(item, list | tuple):
            waiting += item
        else:
            size += getattr(item, "nbytes", 0)  # arrays of NumPy, memoryviews
    return size
