import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.combine.exact_sum import ExactSum, order_key

ints = st.integers(-(10**40), 10**40)
decimals = st.decimals(allow_nan=False, allow_infinity=False, places=5)
floats = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)


def total(values):
    exact = ExactSum()
    for value in values:
        exact.add(value)
    return exact.result


@given(st.lists(ints))
def test_ints_of_any_size_add_up_exactly(values):
    assert total(values) == sum(values)


@given(st.lists(decimals), st.lists(ints))
def test_decimals_and_ints_add_up_exactly(numbers, whole):
    assert Fraction(total([*numbers, *whole])) == sum(map(Fraction, [*numbers, *whole]))


@given(st.lists(floats))
def test_floats_add_up_as_with_fsum(values):
    assert total(values) == math.fsum(values)


@given(st.lists(floats), st.randoms())
def test_the_order_of_floats_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    assert total(values) == total(shuffled)


def test_nothing_adds_up_to_zero():
    assert total([]) == 0


def test_the_longest_scale_is_kept():
    assert str(total([Decimal("0.00"), 1])) == "1.00"
    assert str(total([Decimal("1.10"), Decimal("2.900"), 1])) == "5.000"


def test_the_precision_of_the_default_context_does_not_limit_the_sum():
    large, small = Decimal("1e60"), Decimal("1e-60")
    assert total([large, small, -large]) == small


@pytest.mark.parametrize("kind", [float, Decimal])
def test_nan_plus_anything_is_nan(kind):
    assert math.isnan(total([kind("inf"), kind("nan"), kind("-inf"), kind(1)]))


def test_a_signaling_nan_is_nan():
    assert str(total([Decimal("sNaN"), Decimal("inf"), Decimal("sNaN"), 1])) == "NaN"


@pytest.mark.parametrize("kind", [float, Decimal])
def test_infinity_minus_infinity_is_nan(kind):
    assert total([kind(1), kind("inf"), kind("inf")]) == kind("inf")
    assert math.isnan(total([kind("inf"), kind("-inf")]))


def test_decimals_and_floats_in_one_sum_are_refused():
    with pytest.raises(TypeError, match="both Decimal and float"):
        total([Decimal(1), 1.0])


def test_a_sum_larger_than_the_largest_float_is_an_overflow():
    with pytest.raises(OverflowError):
        total([1.7e308, 1.7e308])


def test_a_decimal_larger_than_the_largest_float_is_no_overflow():
    assert total([Decimal("1e400"), Decimal("0.00")]) == Decimal("1e400")


def test_an_intermediate_sum_may_exceed_the_largest_float():
    assert total([1.7e308, 1.7e308, -1.7e308]) == 1.7e308


def test_nan_is_the_largest_number():
    assert max([1.0, math.nan, math.inf], key=order_key) is math.nan
    assert min([math.nan, 1.0, math.inf], key=order_key) == 1.0
