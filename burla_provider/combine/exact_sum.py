"""Sums, averages and extremes that lose no digit, however many parts they come in, as PostgreSQL would have them."""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_FLOOR, Context, Decimal

Number = int | Decimal | float

_CONTEXT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Wide enough for every digit of PostgreSQL's numeric (131,072 before the point, 16,383 behind it)."""

_UNIT = 1074
"""Every finite float is a whole multiple of 2**-1074, the least positive one."""

_DIGIT = 4  # PostgreSQL's numeric counts in digits of 10,000
_SIGNIFICANT = 16
_SCALE_LIMIT = 1000


class ExactSum:
    """Adds ints, Decimals and floats one by one, in any order, with the same result.

    The result is a Decimal if there was one, with as many decimals as the longest; a float if there was one, rounded
    once at the end (what ``math.fsum`` gives); else an int. NaN and infinities are as in PostgreSQL: NaN wins, and
    infinity minus infinity is NaN.
    """

    def __init__(self) -> None:
        self._whole = 0
        self._decimal: Decimal | None = None
        self._float: int | None = None  # in units of 2**-_UNIT
        self._special: Number | None = None

    def add(self, value: Number) -> None:
        """:raises TypeError: Decimals and floats in one sum: no result would be exact."""
        if isinstance(value, int):
            self._whole += value
        elif isinstance(value, Decimal):
            self._add_decimal(value)
        else:
            self._add_float(value)
        if self._decimal is not None and self._float is not None:
            raise TypeError("both Decimal and float")

    @property
    def result(self) -> Number:
        """0 when nothing was added.

        :raises OverflowError: the sum of floats is beyond the greatest float.
        """
        if self._special is not None:
            return self._special
        if self._decimal is not None:
            return _CONTEXT.add(self._decimal, Decimal(self._whole))
        if self._float is not None:
            return (self._float + (self._whole << _UNIT)) / (1 << _UNIT)  # int by int: correctly rounded
        return self._whole

    def _add_decimal(self, value: Decimal) -> None:
        self._decimal = Decimal(0) if self._decimal is None else self._decimal
        if value.is_finite():
            self._decimal = _CONTEXT.add(self._decimal, value)
        else:
            self._add_special(value, value.is_nan())

    def _add_float(self, value: float) -> None:
        self._float = self._float or 0
        if math.isfinite(value):
            numerator, denominator = value.as_integer_ratio()
            self._float += numerator << (_UNIT + 1 - denominator.bit_length())
        else:
            self._add_special(value, math.isnan(value))

    def _add_special(self, value: Decimal | float, is_nan: bool) -> None:
        if self._special is None or is_nan:
            self._special = value
        elif self._special != value:  # the other infinity, or a NaN, which stays
            self._special = type(value)("NaN")


def average(total: Number, count: int) -> Decimal | float:
    """``total / count``: of floats the float, of others with the digits that PostgreSQL's ``avg`` gives.

    That is at least 16 significant digits, and no fewer decimals than the total has; the last one is rounded half away
    from zero.
    """
    if isinstance(total, float):
        return total / count
    total = Decimal(total)
    if not total.is_finite():
        return total
    scale = _division_scale(total, Decimal(count))
    sign, digits, exponent = total.as_tuple()
    numerator = int("".join(map(str, digits))) * 10 ** (scale + int(exponent))
    quotient, rest = divmod(numerator, count)
    quotient += 2 * rest >= count
    return Decimal(-quotient if sign else quotient).scaleb(-scale, _CONTEXT)


def order(value: Number) -> tuple[bool, Number]:
    """A key for ``min`` and ``max`` that orders numbers as PostgreSQL does: NaN is the greatest."""
    is_nan = value != value
    return is_nan, 0 if is_nan else value


def _division_scale(dividend: Decimal, divisor: Decimal) -> int:
    """Decimals of a quotient: ``select_div_scale`` of PostgreSQL's numeric.c."""
    weight, first = _leading(dividend)
    divisor_weight, divisor_first = _leading(divisor)
    weight -= divisor_weight + (first <= divisor_first)
    scale = max(_SIGNIFICANT - weight * _DIGIT, -int(dividend.as_tuple().exponent), 0)
    return min(scale, _SCALE_LIMIT)


def _leading(value: Decimal) -> tuple[int, int]:
    """Place and value of the first digit, in base 10,000."""
    if not value:
        return 0, 0
    weight = value.adjusted() // _DIGIT
    first = abs(value).scaleb(-weight * _DIGIT, _CONTEXT).to_integral_value(ROUND_FLOOR)
    return weight, int(first)
