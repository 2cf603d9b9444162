"""Encode the values of some key types as integers in the server's order, so that a key can be cut by distance."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

from burla_provider.ranges.key import INTEGER_LIMITS, KeyColumn

RELATIVE_DATETIME = re.compile(r"(?<![A-Za-z])(?:now|today|tomorrow|yesterday)(?![A-Za-z])", re.IGNORECASE)
"""Words that PostgreSQL reads as the current date or time: a different value each time."""

_DATETIME_TYPES = ("date", "timestamp without time zone", "timestamp with time zone")

_MIN_VALUES = {
    **{name: str(minimum) for name, (minimum, _) in INTEGER_LIMITS.items()},
    **dict.fromkeys(_DATETIME_TYPES, "-infinity"),
    **dict.fromkeys(("real", "double precision"), "-Infinity"),
    **dict.fromkeys(("text", "character varying", "bpchar"), ""),
    "uuid": "00000000-0000-0000-0000-000000000000",
    "boolean": "false",
    "bytea": "\\x",
}

_MAX_VALUES = {
    **{name: str(maximum) for name, (_, maximum) in INTEGER_LIMITS.items()},
    **dict.fromkeys(_DATETIME_TYPES, "infinity"),
    **dict.fromkeys(("numeric", "real", "double precision"), "NaN"),
    "uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "boolean": "true",
}

_ALL_DIGITS = Context(prec=150_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""A numeric has up to 131,072 digits before the decimal point and 16,383 after it."""

_EPOCH = datetime(1970, 1, 1)  # of UTC
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class OrdinalCodec:
    """Encodes a type's values as integers (ordinals), in the server's order.

    :param encode: return a value's ordinal; None for infinity, NaN, and years outside 1 to 9999.
    :param decode: return the value with an ordinal.
    :param last: the ordinal of the maximum value that can be encoded; None: there is no maximum.
    """

    encode: Callable[[str], int | None]
    decode: Callable[[int], str]
    last: int | None = None

    def next_value(self, value: str) -> str | None:
        """Return the next value; None if there is none, or it is unknown."""
        ordinal = self.encode(value)
        return None if ordinal is None or ordinal == self.last else self.decode(ordinal + 1)


def min_value(column: KeyColumn) -> str | None:
    """Return the minimum of the column's type; None if it is unknown."""
    return _MIN_VALUES.get(column.type)


def max_value(column: KeyColumn) -> str | None:
    """Return the maximum of the column's type; None if the type has none, or it is unknown."""
    return _MAX_VALUES.get(column.type)


def ordinal_codec(column: KeyColumn, values: Iterable[str] = ()) -> OrdinalCodec | None:
    """Return the codec for a column; None for a type whose order only the server knows.

    :param values: the values that will be encoded. They determine how many decimal places of a numeric count.
    """
    if column.type == "numeric":
        return _numeric_codec(max((_decimal_places(value) for value in values), default=0))
    return _CODECS.get(column.type)


def _numeric_codec(places: int) -> OrdinalCodec:
    def encode(value: str) -> int | None:
        number = Decimal(value)
        return int(number.scaleb(places, _ALL_DIGITS)) if number.is_finite() else None

    return OrdinalCodec(encode, lambda ordinal: f"{Decimal(ordinal).scaleb(-places, _ALL_DIGITS):f}")


def _decimal_places(value: str) -> int:
    return len(value.partition(".")[2])


def _encode_uuid(value: str) -> int:
    return int(value.replace("-", ""), 16)


def _decode_uuid(ordinal: int) -> str:
    digits = f"{ordinal:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _encode_page(value: str) -> int:
    return int(value[1:].partition(",")[0])


def _decode_page(ordinal: int) -> str:
    return f"({ordinal},0)"


def _encode_date(value: str) -> int | None:
    try:
        return date.fromisoformat(value).toordinal()
    except ValueError:  # infinity, or a year that Python's datetime does not have
        return None


def _decode_date(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def _encode_timestamp(value: str) -> int | None:
    try:
        timestamp = datetime.fromisoformat(value)
        if timestamp.tzinfo is not None:
            timestamp = timestamp.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):  # infinity, or a year that Python's datetime does not have
        return None
    return (timestamp - _EPOCH) // _MICROSECOND


def _decode_timestamp(ordinal: int) -> str:
    return (_EPOCH + ordinal * _MICROSECOND).isoformat(sep=" ")


def _decode_timestamp_with_zone(ordinal: int) -> str:
    return f"{_decode_timestamp(ordinal)}+00"


_LAST_TIMESTAMP = (datetime.max - _EPOCH) // _MICROSECOND

_CODECS = {
    **{name: OrdinalCodec(int, str, maximum) for name, (_, maximum) in INTEGER_LIMITS.items()},
    "uuid": OrdinalCodec(_encode_uuid, _decode_uuid, 2**128 - 1),
    "date": OrdinalCodec(_encode_date, _decode_date, date.max.toordinal()),
    "timestamp without time zone": OrdinalCodec(_encode_timestamp, _decode_timestamp, _LAST_TIMESTAMP),
    "timestamp with time zone": OrdinalCodec(_encode_timestamp, _decode_timestamp_with_zone, _LAST_TIMESTAMP),
    "tid": OrdinalCodec(_encode_page, _decode_page, 2**32 - 1),
}
