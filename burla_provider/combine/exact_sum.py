"""Add numbers exactly, in any order, with the same result as PostgreSQL."""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

from burla_provider.exceptions import CombineError

Number = int | Decimal | float

_CONTEXT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""Exact for every float and every numeric (131,072 digits before the decimal point, 16,383 after it)."""


class ExactSum:
    """Adds ints, and either Decimals or floats, exactly.

    The result is a Decimal if a Decimal was added, with the largest number of decimal places; a float if a float was
    added, rounded once (like ``math.fsum``); else an int. NaN and infinities are added as in PostgreSQL: NaN plus
    anything is NaN, and infinity minus infinity is NaN.
    """

    def __init__(self) -> None:
        self._int = 0
        self._fractions = Decimal(0)
        self._special: Decimal | None = None
        self._type: type[int] | type[Decimal] | type[float] = int

    def add(self, value: Number) -> None:
        """Add a number.

        :raises TypeError: if both Decimals and floats were added, whose sum would not be exact.
        """
        if isinstance(value, int):
            self._int += value
            return
        value_type = Decimal if isinstance(value, Decimal) else float
        if self._type not in (int, value_type):
            raise TypeError("both Decimal and float")
        self._type = value_type
        exact = Decimal(value)
        if exact.is_finite():
            self._fractions = _CONTEXT.add(self._fractions, exact)
        elif exact.is_nan():  # a signaling one cannot be compared
            self._special = Decimal("NaN")
        elif self._special is None:
            self._special = exact
        elif self._special != exact:  # infinity minus infinity, or already NaN
            self._special = Decimal("NaN")

    @property
    def result(self) -> Number:
        """The sum; 0 if nothing was added.

        :raises OverflowError: if the sum of floats is larger than the largest float.
        """
        if self._special is not None:
            return self._type(self._special)
        if self._type is int:
            return self._int
        total = _CONTEXT.add(self._fractions, Decimal(self._int))
        if self._type is Decimal:
            return total
        rounded = float(total)
        if math.isinf(rounded):
            raise OverflowError("the sum is larger than the largest float")
        return rounded


def order_key(value: Number) -> tuple[bool, Number]:
    """Return a key for ``min`` and ``max`` that orders numbers as PostgreSQL does: NaN is the largest number."""
    is_nan = value != value
    return is_nan, 0 if is_nan else value


def named_result(name: str, total: ExactSum) -> Number:
    """Return the sum of a total or key.

    :raises CombineError: if the sum of floats is larger than the largest float.
    """
    try:
        return total.result
    except OverflowError:
        raise too_large_error(name) from None


def too_large_error(name: str) -> CombineError:
    """Return the error for a sum that is larger than the largest float."""
    return CombineError(f"The sum of {name!r} is larger than the largest float: use Decimal or numeric.")
