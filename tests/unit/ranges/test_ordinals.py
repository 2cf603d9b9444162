"""Keys as whole numbers."""

from __future__ import annotations

import pytest

from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.ordinals import axis_of, least_of


def axis(type_: str, *values: str):
    return axis_of(KeyColumn("k", type_), values)


@pytest.mark.parametrize(
    ("type_", "value", "after"),
    [
        ("smallint", "-1", "0"),
        ("bigint", "9223372036854775806", "9223372036854775807"),
        ("date", "2024-02-28", "2024-02-29"),
        ("timestamp without time zone", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00"),
        ("timestamp with time zone", "1999-12-31 23:59:59.999999+01", "1999-12-31 23:00:00+00"),
        ("uuid", "00000000-0000-0000-ffff-ffffffffffff", "00000000-0000-0001-0000-000000000000"),
        ("tid", "(41,7)", "(42,0)"),
    ],
)
def test_the_next_value_is_one_place_on(type_: str, value: str, after: str) -> None:
    assert axis(type_).after(value) == after


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("integer", "2147483647"),
        ("uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ("date", "infinity"),
        ("timestamp with time zone", "-infinity"),
        ("timestamp without time zone", "294276-12-31 23:59:59.999999"),
    ],
)
def test_some_values_have_no_next_one(type_: str, value: str) -> None:
    assert axis(type_).after(value) is None


def test_a_numeric_is_counted_in_the_digits_that_its_values_have() -> None:
    counted = axis("numeric", "1.5", "20", "0.125")
    assert counted.after("1.5") == "1.501"
    assert axis("numeric", "1", "20").after("20") == "21"


def test_a_numeric_has_no_limit() -> None:
    large = "9" * 5000 + ".5"
    assert axis("numeric", large).after(large) == "9" * 5000 + ".6"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_numeric_that_is_no_number_has_no_place(value: str) -> None:
    assert axis("numeric", value).read(value) is None


@pytest.mark.parametrize("type_", ["text", "bpchar", "jsonb", "boolean", "double precision"])
def test_some_types_only_the_server_can_order(type_: str) -> None:
    assert axis(type_) is None


def test_the_least_value_is_known_where_a_type_has_one() -> None:
    assert least_of(KeyColumn("k", "smallint")) == "-32768"
    assert least_of(KeyColumn("k", "date")) == "-infinity"
    assert least_of(KeyColumn("k", "text")) == ""
    assert least_of(KeyColumn("k", "jsonb")) is None
