import datetime
import enum
import json
import uuid
from decimal import Decimal

import pytest

from burla_provider.worker.json_values import find_non_json, to_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12345678901234567890.1200"), "12345678901234567890.1200"),
        (Decimal("1E+3"), "1000"),
        (Decimal("NaN"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (float("-inf"), "-Infinity"),
        (0.1, 0.1),
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, "-9223372036854775809"),
        (True, True),
        (None, None),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "2024-01-01T00:00:00+00:00"),
        (datetime.timedelta(days=1, hours=2), "1 day, 2:00:00"),
        (datetime.timezone(datetime.timedelta(hours=2)), "UTC+02:00"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (b"\x00\xff", "00ff"),
        ((1, [Decimal("1.0")]), [1, ["1.0"]]),
        ({"a\0\udcff": "\ud800\0ä€"}, {"a\ufffd\\udcff": "\\ud800\ufffdä€"}),
        ({1: {"a": Decimal(1)}}, {"1": {"a": "1"}}),
    ],
)
def test_plain_data_is_converted_to_json(value, expected):
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False, ensure_ascii=False).encode()


class Status(str, enum.Enum):  # noqa: UP042 (str(Status.PAID) is "Status.PAID")
    PAID = "paid"


class Level(enum.IntEnum):
    HIGH = 3


class Approximate(float):
    """Like NumPy's, which is a float."""

    def __repr__(self):
        return "Approximate"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Approximate(0.1), 0.1),
        (Level.HIGH, 3),
        (Status.PAID, "paid"),
        ({Status.PAID: {Level.HIGH: Approximate(0.5)}}, {"paid": {"3": 0.5}}),
    ],
)
def test_objects_of_subclasses_become_plain(value, expected):
    assert repr(to_json(value)) == repr(expected)


def test_a_huge_integer_is_converted():
    assert to_json(10**5000) == "1" + 5000 * "0"


@pytest.mark.parametrize(
    "value", [{1: "a", "1": "b"}, {"a\0": 1, "a\ufffd": 2}, {Level.HIGH: 1, "3": 2}, [{"\udcff": 1, "\\udcff": 2}]]
)
def test_keys_that_are_the_same_in_json_are_found(value):
    assert "which are the same in JSON" in find_non_json(value, "the result")
