import collections
import datetime
import enum
import os
import pickle
import uuid
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.worker.outcome import Failure, Outcome, decode, encode, find_unserializable

plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.datetimes(timezones=st.none() | st.just(datetime.UTC)),
        st.times(),
        st.timedeltas(),
        st.uuids(),
    ),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(plain)
def test_plain_data_survives_the_encoding(value):
    assert decode(encode(Outcome(3, value=value))) == Outcome(3, value=value)


@given(plain)
def test_plain_data_is_recognised(value):
    assert find_unserializable(value) is None


def test_a_failure_survives_the_encoding():
    outcome = Outcome(3, attempts=2, failure=Failure("ValueError", "no", "22012", "in f", "id = 3"))
    assert decode(encode(outcome)) == outcome
    assert not outcome.ok


def test_a_datetime_with_a_zone_is_the_same_time_after_decoding():
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    back = decode(encode(Outcome(0, value=moment))).value
    assert (back, back.tzinfo) == (moment, datetime.UTC)


class Malicious:
    def __reduce__(self):
        return os.system, ("true",)


def test_decoding_runs_no_code():
    with pytest.raises(pickle.UnpicklingError, match="not plain data"):
        decode(pickle.dumps({"value": Malicious(), "failure": None}))


class Amount(Decimal):
    pass


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (object(), "the return value is of type builtins.object"),
        ({"a": [1, {2}]}, r"the return value['a'][1] is of type builtins.set"),
        ({"a": Amount(1)}, "['a'] is of type"),
        ({object: 1}, "is of type builtins.type"),
        (lambda: None, "is of type builtins.function"),
    ],
)
def test_other_data_is_reported_with_its_path(value, where):
    assert where in find_unserializable(value)


def test_uuids_and_decimals_are_exact():
    value = [uuid.UUID(int=2**127), Decimal("1E-30"), 10**50]
    assert decode(encode(Outcome(0, value=value))).value == value


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Number.ONE, "int"),
        (Fraction(1), "float"),
        (type("Name", (str,), {})(), "str"),
        (bytearray(), "bytes"),
        (collections.OrderedDict(), "dict"),
        ({1}, "list"),
        (iter([]), "list"),
    ],
)
def test_the_message_names_the_conversion_to_plain_data(value, advice):
    assert find_unserializable([value]).endswith(f" (use {advice}(x))")


def test_without_a_conversion_only_the_type_is_named():
    assert find_unserializable(object()) == "the return value is of type builtins.object"


def test_a_numpy_value_names_its_method():
    numpy = pytest.importorskip("numpy")
    assert find_unserializable(numpy.int64(1)).endswith("numpy.int64 (use int(x))")
    assert find_unserializable(numpy.array([1])).endswith("numpy.ndarray (use x.tolist())")
