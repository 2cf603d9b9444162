from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from burla_provider.combine.combiners import CustomCombiner, SumByKey, Totals
from burla_provider.exceptions import CombineError
from burla_provider.worker.json_values import to_json
from burla_provider.worker.outcome import Failure, Outcome


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
    assert (totals.missing, totals.complete) == ([0], False)
    totals.add(outcome(0, {"n": 1}))
    assert (totals.missing, totals.complete) == ([], True)


def test_incomplete_totals_are_marked():
    totals = Totals(SumByKey(), range(3))
    totals.add(outcome(0, {"n": 1}, row_count=4))
    totals.add(failed(1))
    assert totals.missing == [1, 2]
    assert totals.result() == {"row_count": 4, "n": 1, "complete": False, "failed_ranges": 2}


def test_what_a_range_did_before_it_failed_counts_and_the_range_is_missing():
    totals = Totals(SumByKey(), range(3))
    totals.add_partial(0, {"rows_inserted": 3}, 4)
    totals.add(outcome(1, {"rows_inserted": 5}, row_count=6))
    totals.add_partial(2, {"rows_inserted": 1}, 1)
    assert totals.missing == [0, 2]
    assert totals.result() == {"row_count": 11, "rows_inserted": 9, "complete": False, "failed_ranges": 2}


@pytest.mark.parametrize("name", ["complete", "failed_ranges", "row_count"])
def test_combine_cannot_replace_what_the_result_says_about_the_job(name):
    totals = Totals(CustomCombiner(lambda values: {name: 5}), [0])
    totals.add(outcome(0, {"v": 1}, row_count=4))
    with pytest.raises(CombineError, match=f"combine returned the key '{name}', which is reserved"):
        totals.result()


def test_combine_may_return_the_row_count_itself():
    totals = Totals(CustomCombiner(lambda values: {"row_count": 4}), [0])
    totals.add(outcome(0, {"v": 1}, row_count=4))
    assert totals.result() == {"row_count": 4}


def test_numbers_under_keys_that_xcom_cannot_store_are_refused():
    totals = Totals(SumByKey(), range(2))
    totals.add(outcome(0, {"__type": 1}))
    with pytest.raises(CombineError, match=r"Range 1 returned the key '__type', which Airflow reserves"):
        totals.add(outcome(1, {"__var": 1}))


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


def test_in_json_decimals_are_text_and_ints_are_ints():
    assert to_json({"a": Decimal("1.50"), "b": 2**60, "c": 0.5}) == {"a": "1.50", "b": 2**60, "c": 0.5}
