import collections
import datetime
import enum
import os
import pickle
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
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


class Amount(Decimal):
    pass


class Number(enum.IntEnum):
    ONE = 1


class Pair(NamedTuple):
    first: int
    second: int


class Offset(datetime.tzinfo):
    """A zone of the user with any offset, or none."""

    def __init__(self, offset):
        self.offset = offset

    def utcoffset(self, _):
        return self.offset

    def dst(self, _):
        return None


zones = st.one_of(
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia", "Africa/Monrovia"]).map(ZoneInfo),
    st.timedeltas(-datetime.timedelta(hours=23), datetime.timedelta(hours=23)).map(datetime.timezone),
    st.builds(datetime.timezone, st.timedeltas(datetime.timedelta(0), datetime.timedelta(hours=23)), st.text()),
    st.sampled_from([None, datetime.timedelta(hours=2), datetime.timedelta(days=2), "no offset"]).map(Offset),
    st.none() | st.just(datetime.UTC),
)
moments = st.one_of(
    st.datetimes(),
    st.sampled_from([datetime.datetime.min, datetime.datetime.max]),
    st.datetimes(datetime.datetime(2024, 10, 27, 1), datetime.datetime(2024, 10, 27, 4)),  # Berlin: twice
    st.datetimes(datetime.datetime(2024, 3, 31, 1), datetime.datetime(2024, 3, 31, 4)),  # Berlin: not at all
)
folds = st.integers(0, 1)
odd = st.one_of(
    st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), moments, zones, folds),
    st.builds(lambda time, zone, fold: time.replace(tzinfo=zone, fold=fold), st.times(), zones, folds),
    zones,
    st.dates()
    | st.sampled_from([datetime.date.min, datetime.date.max, datetime.timedelta.min, datetime.timedelta.max]),
    st.decimals() | st.sampled_from(["sNaN", "-sNaN123", "NaN7", "-0", "0E-999999", "1E+999999"]).map(Decimal),
    st.floats() | st.integers(1, 9).map(lambda digit: -digit * 10**5000),  # too long for str
    st.text(st.characters(codec=None)) | st.binary() | st.binary().map(bytearray) | st.binary().map(memoryview),
    st.uuids() | st.just(uuid.uuid1()),
    st.sampled_from([Amount(1), Number.ONE, Pair(1, 2), 1j, range(3), ..., Fraction(1), int, os.system]),
    st.frozensets(st.integers()) | st.sets(st.integers()),
)


def with_long_key(value):
    """Return the dict with an integer that is too long for str instead of 10**5."""
    return {10**5_000 if key == 10**5 else key: item for key, item in value.items()}


nested = st.recursive(
    odd | plain,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.tuples(st.integers()) | st.just(10**5), inner).map(with_long_key)
    ),
    max_leaves=8,
)


def identity(value):
    """Return what tells a value from all others, NaN and -0 included."""
    if isinstance(value, dict):
        return dict, [(identity(key), identity(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [identity(item) for item in value]
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        if type(value.tzinfo) is not datetime.timezone:  # the same time in UTC
            value = value.replace(tzinfo=datetime.UTC, fold=0) - value.utcoffset()
        return type(value), repr(value), value.tzname()
    if isinstance(value, int):
        return type(value), hex(value)
    return type(value), repr(value)


@settings(max_examples=1_000)
@given(nested)
def test_every_value_is_refused_with_its_path_or_survives_the_encoding(value):
    problem = find_unserializable(value)
    if problem is None:
        assert identity(decode(encode(Outcome(3, value=value))).value) == identity(value)
    else:
        assert problem.startswith("the return value")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (
            {"opens": datetime.time(9, tzinfo=ZoneInfo("Europe/Berlin"))},
            "the return value['opens'] is a time of the zone Europe/Berlin, whose offset depends on the date"
            " (use x.isoformat())",
        ),
        (
            [datetime.datetime.max.replace(tzinfo=ZoneInfo("America/New_York"))],
            "the return value[0] is a datetime that cannot be converted to UTC: date value out of range"
            " (use x.replace(tzinfo=None))",
        ),
        (
            datetime.datetime(2024, 1, 1, tzinfo=Offset(None)),
            "the return value is a datetime that cannot be converted to UTC: the zone has no offset at that time"
            " (use x.replace(tzinfo=None))",
        ),
    ],
)
def test_times_that_cannot_be_sent_are_refused(value, problem):
    assert find_unserializable(value) == problem


def test_a_value_that_contains_itself_is_refused():
    value = []
    value.append(value)
    assert find_unserializable(value).endswith("... is nested more than 100 levels deep, or contains itself")


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
