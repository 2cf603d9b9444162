"""Key types whose values can be counted: their text as a whole number and back, in the server's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

from burla_provider.ranges import datetimes
from burla_provider.ranges.key import INTEGER_LIMITS, KeyColumn

_LEAST = {
    **{name: str(least) for name, (least, _) in INTEGER_LIMITS.items()},
    **dict.fromkeys(("date", "timestamp without time zone", "timestamp with time zone"), "-infinity"),
    **dict.fromkeys(("real", "double precision"), "-Infinity"),
    **dict.fromkeys(("text", "character varying", "bpchar"), ""),
    "uuid": "00000000-0000-0000-0000-000000000000",
    "boolean": "false",
    "bytea": "\\x",
}

_GREATEST = {
    **{name: str(greatest) for name, (_, greatest) in INTEGER_LIMITS.items()},
    **dict.fromkeys(("date", "timestamp without time zone", "timestamp with time zone"), "infinity"),
    **dict.fromkeys(("numeric", "real", "double precision"), "NaN"),
    "uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff",
    "boolean": "true",
}


_EVERY_DIGIT = Context(prec=150_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""A numeric has up to 131,072 digits before the point and 16,383 behind it."""


@dataclass(frozen=True)
class OrdinalCodec:
    """A type as a line of whole numbers.

    :param read: a value's place on the line; None for infinity and NaN, which have none.
    :param write: the value at a place.
    :param last: the greatest place that the type has; None: there is always a greater one.
    """

    read: Callable[[str], int | None]
    write: Callable[[int], str]
    last: int | None = None

    def after(self, value: str) -> str | None:
        """The next value; None when there is none."""
        place = self.read(value)
        return None if place is None or place == self.last else self.write(place + 1)


def least_of(column: KeyColumn) -> str | None:
    """The least value of the column's type; None when this module does not know it."""
    return _LEAST.get(column.type)


def greatest_of(column: KeyColumn) -> str | None:
    """The greatest value of the column's type; None when it has none, or this module does not know it."""
    return _GREATEST.get(column.type)


def axis_of(column: KeyColumn, values: Iterable[str] = ()) -> OrdinalCodec | None:
    """The line that a column's values lie on; None for a type whose order only the server knows.

    :param values: the values that will be read. They say to how many digits a numeric is counted.
    """
    if column.type == "numeric":
        return _numeric(max((_digits(value) for value in values), default=0))
    return _AXES.get(column.type)


def _numeric(digits: int) -> OrdinalCodec:
    def read(value: str) -> int | None:
        number = Decimal(value)
        return int(number.scaleb(digits, _EVERY_DIGIT)) if number.is_finite() else None

    return OrdinalCodec(read, lambda place: f"{Decimal(place).scaleb(-digits, _EVERY_DIGIT):f}")


def _digits(value: str) -> int:
    return len(value.partition(".")[2])


def _read_uuid(value: str) -> int:
    return int(value.replace("-", ""), 16)


def _write_uuid(place: int) -> str:
    digits = f"{place:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _read_page(value: str) -> int:
    return int(value[1:].partition(",")[0])


def _write_page(place: int) -> str:
    return f"({place},0)"


_AXES = {
    **{name: OrdinalCodec(int, str, last) for name, (_, last) in INTEGER_LIMITS.items()},
    "uuid": OrdinalCodec(_read_uuid, _write_uuid, 2**128 - 1),
    "date": OrdinalCodec(datetimes.read_date, datetimes.write_date, datetimes.LAST_DATE),
    "timestamp without time zone": OrdinalCodec(datetimes.read_moment, datetimes.write_moment, datetimes.LAST_MOMENT),
    "timestamp with time zone": OrdinalCodec(
        datetimes.read_moment, datetimes.write_moment_with_zone, datetimes.LAST_MOMENT
    ),
    "tid": OrdinalCodec(_read_page, _write_page, 2**32 - 1),
}
