from decimal import Decimal

import pytest

from burla_provider.combine.sql_combiner import SqlCombiner
from burla_provider.exceptions import CombineError
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.source import Source


def aggregate(function, argument_type="numeric", name="x"):
    return Aggregate(name, function, "a", type=argument_type, argument_type=argument_type)


def combined(function, parts, argument_type="numeric"):
    combiner = SqlCombiner((aggregate(function, argument_type),), Source("s", "t"))
    for index, part in enumerate(parts):
        combiner.add(index, {"x": part})
    return combiner.result()["x"]


def test_sql_totals_of_no_rows_are_zero_or_none():
    assert combined("count", []) == 0
    assert str(combined("sum", [[None]])) == "0"
    assert combined("sum", [], "double precision") == 0.0
    assert combined("min", [[None]]) is None
    assert combined("avg", [[None, 0]]) is None


def test_a_sum_of_bigint_is_an_int():
    total = combined("sum", [[Decimal(2**63)], [Decimal(1)]], "bigint")
    assert (total, type(total)) == (2**63 + 1, int)


@pytest.mark.parametrize("argument_type", ["bigint", "numeric", "double precision", "text"])
def test_a_count_is_an_int(argument_type):
    total = combined("count", [[3], [4]], argument_type)
    assert (total, type(total)) == (7, int)


@pytest.mark.parametrize("argument_type", ["numeric", "double precision"])
def test_a_sum_of_no_rows_has_the_type_of_the_argument(argument_type):
    kind = {"numeric": Decimal, "double precision": float}[argument_type]
    assert type(combined("sum", [[kind("2.5")], [kind("0.25")]], argument_type)) is kind
    assert type(combined("sum", [[None]], argument_type)) is kind
    assert combined("sum", [[kind("2.5")], [kind("0.25")]], argument_type) == kind("2.75")


def test_minimum_and_maximum_order_nan_as_the_server_does():
    assert combined("min", [[Decimal("NaN")], [Decimal(3)]]) == 3
    assert combined("max", [[Decimal(3)], [Decimal("NaN")], [Decimal(5)]]).is_nan()


def test_a_float_sum_that_is_too_large_is_named():
    with pytest.raises(CombineError, match="'x' is larger than the largest float"):
        combined("sum", [[1.7e308], [1.7e308]], "double precision")


def test_an_average_of_floats_is_weighted_by_row_count():
    average = combined("avg", [[Decimal("1"), 1], [Decimal("5.5"), 2]], "double precision")
    assert (average, type(average)) == (6.5 / 3, float)


def test_a_float_sum_of_decimals_that_is_too_large_is_named():
    with pytest.raises(CombineError, match="'x' is larger than the largest float"):
        combined("sum", [[Decimal("1.7e308")], [Decimal("1.7e308")]], "double precision")


def test_minimum_and_maximum_skip_ranges_without_a_value():
    assert combined("max", [[3], [None], [5]], "integer") == 5
    assert combined("min", [[3], [None], [5]], "integer") == 3


def test_a_total_that_needs_the_server_fails_without_a_connection():
    for total, partial in ((aggregate("max", "text"), ["1"]), (aggregate("avg"), [Decimal(1), 1])):
        combiner = SqlCombiner((total,), Source("s", "t"))
        combiner.add(0, {"x": partial})
        assert combiner.needs_server
        with pytest.raises(ValueError, match="only the server"):
            combiner.result(None)


@pytest.mark.parametrize("function", ["count", "sum", "min", "max"])
def test_the_server_combines_only_what_python_cannot(function):
    numbers = aggregate(function)
    assert not SqlCombiner((numbers,), Source("s", "t")).needs_server
    assert SqlCombiner((numbers, aggregate("max", "text", "y")), Source("s", "t")).needs_server
