"""Keys as integers."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.ordinals import min_value, ordinal_codec

DATE = ordinal_codec(KeyColumn("k", "date"))
TIMESTAMP = ordinal_codec(KeyColumn("k", "timestamp without time zone"))
TIMESTAMP_WITH_ZONE = ordinal_codec(KeyColumn("k", "timestamp with time zone"))
MICROSECOND = datetime.timedelta(microseconds=1)


def codec_of(type_: str, *values: str):
    return ordinal_codec(KeyColumn("k", type_), values)


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
def test_the_next_value_has_the_next_ordinal(type_: str, value: str, after: str) -> None:
    assert codec_of(type_).next_value(value) == after


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("integer", "2147483647"),
        ("uuid", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        ("date", "infinity"),
        ("timestamp with time zone", "-infinity"),
        ("date", "9999-12-31"),
        ("timestamp without time zone", "9999-12-31 23:59:59.999999"),
    ],
)
def test_some_values_have_no_next_one(type_: str, value: str) -> None:
    assert codec_of(type_).next_value(value) is None


def test_a_numeric_has_the_decimal_places_of_the_values() -> None:
    codec = codec_of("numeric", "1.5", "20", "0.125")
    assert codec.next_value("1.5") == "1.501"
    assert codec_of("numeric", "1", "20").next_value("20") == "21"


def test_a_numeric_has_no_limit() -> None:
    large = "9" * 5000 + ".5"
    assert codec_of("numeric", large).next_value(large) == "9" * 5000 + ".6"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_infinity_and_nan_have_no_ordinal(value: str) -> None:
    assert codec_of("numeric", value).encode(value) is None


@pytest.mark.parametrize("type_", ["text", "bpchar", "jsonb", "boolean", "double precision"])
def test_some_types_only_the_server_can_order(type_: str) -> None:
    assert codec_of(type_) is None


def test_the_minimum_is_known_if_the_type_has_one() -> None:
    assert min_value(KeyColumn("k", "smallint")) == "-32768"
    assert min_value(KeyColumn("k", "date")) == "-infinity"
    assert min_value(KeyColumn("k", "text")) == ""
    assert min_value(KeyColumn("k", "jsonb")) is None


@given(st.dates(), st.dates())
def test_dates_are_encoded_as_days(date: datetime.date, other: datetime.date) -> None:
    assert DATE.encode(date.isoformat()) - DATE.encode(other.isoformat()) == (date - other).days
    assert DATE.decode(DATE.encode(date.isoformat())) == date.isoformat()


@given(st.datetimes(), st.datetimes())
def test_timestamps_are_encoded_as_microseconds(timestamp: datetime.datetime, other: datetime.datetime) -> None:
    text, other_text = (value.isoformat(sep=" ") for value in (timestamp, other))
    assert TIMESTAMP.encode(text) - TIMESTAMP.encode(other_text) == (timestamp - other) // MICROSECOND
    assert TIMESTAMP.decode(TIMESTAMP.encode(text)) == text


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_timestamps_with_time_zone_are_decoded_in_utc(timestamp: datetime.datetime) -> None:
    ordinal = TIMESTAMP_WITH_ZONE.encode(timestamp.isoformat(sep=" "))
    assert TIMESTAMP_WITH_ZONE.decode(ordinal) == timestamp.replace(tzinfo=None).isoformat(sep=" ") + "+00"


@pytest.mark.parametrize("text", ["1900-03-01", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "2400-02-29"])
def test_leap_days_come_as_often_as_they_should(text: str) -> None:
    assert DATE.decode(DATE.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-05-17 14:30:15.25+02", "2024-05-17 12:30:15.250000+00"),
        ("2024-05-17 12:30:15+05:45", "2024-05-17 06:45:15+00"),
        ("1880-01-01 00:00:00+00:09:21", "1879-12-31 23:50:39+00"),
        ("2024-05-17 12:30:15-03:30", "2024-05-17 16:00:15+00"),
        ("2024-05-17 12:30:15-11", "2024-05-17 23:30:15+00"),
        ("0044-03-15 00:00:00+01", "0044-03-14 23:00:00+00"),
        ("9999-12-31 00:00:00.000001-15:59:59", "9999-12-31 15:59:59.000001+00"),
    ],
)
def test_an_offset_is_subtracted(text: str, utc: str) -> None:
    assert TIMESTAMP_WITH_ZONE.decode(TIMESTAMP_WITH_ZONE.encode(text)) == utc


@pytest.mark.parametrize(
    "day", ["infinity", "-infinity", "0001-12-31 BC", "0044-03-15 BC", "10000-01-01", "5874897-12-31"]
)
def test_infinity_and_years_outside_1_to_9999_have_no_ordinal(day: str) -> None:
    assert DATE.encode(day) is None
    date, _, era = day.partition(" ")
    for time in ("00:00:00", "23:59:59.999999"):
        assert TIMESTAMP.encode(f"{date} {time} {era}".strip()) is None
        assert TIMESTAMP_WITH_ZONE.encode(f"{date} {time}+05:30 {era}".strip()) is None


@given(st.integers(10_000, 294_276), st.integers(1, 12), st.integers(1, 28), st.sampled_from(["", "+00", "-11"]))
def test_no_timestamp_of_a_later_year_is_taken_for_one_of_an_earlier_year(year, month, day, zone) -> None:
    text = f"{year}-{month:02}-{day:02}"
    assert DATE.encode(text) is None
    assert TIMESTAMP_WITH_ZONE.encode(f"{text} 12:30:00{zone}") is None


@pytest.mark.parametrize("text", ["0001-01-01 00:00:00+05", "9999-12-31 23:30:00-01"])
def test_a_timestamp_that_utc_puts_outside_of_these_years_has_no_ordinal(text: str) -> None:
    assert TIMESTAMP_WITH_ZONE.encode(text) is None
