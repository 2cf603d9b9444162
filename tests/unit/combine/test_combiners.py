from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from burla_provider.combine.combiners import CustomCombiner, SqlCombiner, SumByKey, Totals
from burla_provider.exceptions import CombineError
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.json_values import to_json
from burla_provider.worker.outcome import Failure, Outcome
from burla_provider.worker.source import Source


def outcome(index, value=None, row_count=None):
    return Outcome(index, value=value or {}, row_count=row_count)


def failed(index):
    return Outcome(index, failure=Failure("ValueError", "no"))


def test_numbers_are_added_by_key():
    totals = Totals(SumByKey(), range(2))
    totals.add(outcome(0, {"n": 1, "amount": Decimal("1.10")}, row_count=10))
    totals.add(outcome(1, {"n": 2, "amount": Decimal("2.20")}, row_count=20))
    assert totals.result() == {"row_count": 30, "n": 3, "amount": Decimal("3.30")}


def test_ranges_may_lack_a_key():
    totals = Totals(SumByKey(), range(2))
    totals.add(outcome(0, {"DE": 1}))
    totals.add(outcome(1, {"FR": 2, "DE": None}))
    assert totals.result() == {"DE": 1, "FR": 2}


def test_a_value_that_is_not_a_number_is_refused():
    totals = Totals(SumByKey(), range(8))
    with pytest.raises(CombineError, match=r"Range 7 returned 'name' as str.*combine=f"):
        totals.add(outcome(7, {"name": "x"}))


def test_a_bool_is_not_a_number():
    with pytest.raises(CombineError, match="as bool"):
        Totals(SumByKey(), range(1)).add(outcome(0, {"any": True}))


def test_floats_and_decimals_under_one_key_are_refused():
    totals = Totals(SumByKey(), range(2))
    totals.add(outcome(0, {"amount": 1.0}))
    with pytest.raises(CombineError, match="'amount' as both Decimal and float"):
        totals.add(outcome(1, {"amount": Decimal(1)}))


def test_a_second_outcome_of_a_range_is_ignored():
    totals = Totals(SumByKey(), range(1))
    totals.add(outcome(0, {"n": 1}, row_count=1))
    totals.add(outcome(0, {"n": 1}, row_count=1))
    assert totals.result() == {"row_count": 1, "n": 1}


def test_an_outcome_of_an_unplanned_range_is_ignored():
    totals = Totals(SumByKey(), [0])
    totals.add(outcome(5, {"n": 1}))
    assert totals.missing == [0]


def test_a_success_replaces_a_failure():
    totals = Totals(SumByKey(), range(1))
    totals.add(failed(0))
    assert totals.failures == {0: failed(0).failure}
    totals.add(outcome(0, {"n": 1}))
    assert (totals.failures, totals.complete) == ({}, True)


def test_incomplete_totals_are_marked():
    totals = Totals(SumByKey(), range(3))
    totals.add(outcome(0, {"n": 1}, row_count=4))
    totals.add(failed(1))
    assert totals.missing == [1, 2]
    assert totals.result() == {"row_count": 4, "n": 1, "complete": False, "failed_ranges": 2}


def test_a_plan_without_ranges_has_zero_rows():
    assert Totals(SumByKey(), []).result() == {"row_count": 0}


def test_combine_gets_the_values_in_the_order_of_the_plan():
    totals = Totals(CustomCombiner(lambda values: {"all": [value["v"] for value in values]}), range(3))
    for index in (2, 0, 1):
        totals.add(outcome(index, {"v": index}))
    assert totals.result() == {"all": [0, 1, 2]}


def test_combine_is_not_called_without_values():
    assert Totals(CustomCombiner(max), []).result() == {"row_count": 0}


def test_combine_must_return_a_dict():
    totals = Totals(CustomCombiner(len), [0])
    totals.add(outcome(0, {"v": 1}))
    with pytest.raises(CombineError, match="combine returned int"):
        totals.result()


@pytest.mark.parametrize(
    ("result", "place"),
    [
        ({"days": {1, 2}}, r"the result['days'] is of type builtins.set"),
        (
            {"by day": {3: 1, "3": 2}},
            "the result['by day'] has the keys 3 and '3', which are the same in JSON (use another name)",
        ),
        ({"by day": [{3: (1, Totals)}]}, "the result['by day'][0][3][1] is of type builtins.type"),
    ],
)
def test_combine_must_return_data_that_json_can_hold(result, place):
    totals = Totals(CustomCombiner(lambda values: result), [0])
    totals.add(outcome(0, {"v": 1}))
    with pytest.raises(CombineError) as error:
        totals.result()
    assert str(error.value).startswith(f"combine: {place}: turn it into plain data (None, bool, int")


def test_combine_may_return_subclasses_of_plain_data():
    counted = defaultdict(Counter, {1: Counter("abba")})
    totals = Totals(CustomCombiner(lambda values: counted), [0])
    totals.add(outcome(0, {"v": 1}))
    assert to_json(totals.result()) == {"1": {"a": 2, "b": 2}}


def aggregate(function, argument_type="numeric"):
    return Aggregate("x", function, "a", type=argument_type, argument_type=argument_type)


def combined(function, parts, argument_type="numeric"):
    combination = SqlCombiner((aggregate(function, argument_type),), Source("s", "t"))
    for index, part in enumerate(parts):
        combination.add(index, {"x": part})
    return combination.result()["x"]


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


def test_in_json_decimals_are_text_and_ints_are_ints():
    assert to_json({"a": Decimal("1.50"), "b": 2**60, "c": 0.5}) == {"a": "1.50", "b": 2**60, "c": 0.5}
