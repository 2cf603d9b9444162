"""Dates and timestamps beyond Python's own."""

from __future__ import annotations

import datetime

import pytest
from burla_provider.ranges.datetimes import (
    LAST_DATE,
    LAST_MOMENT,
    read_date,
    read_moment,
    write_date,
    write_moment,
    write_moment_with_zone,
)
from hypothesis import given
from hypothesis import strategies as st

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


@given(st.dates())
def test_a_date_is_counted_as_python_counts_it(date: datetime.date) -> None:
    assert read_date(date.isoformat()) == (date - EPOCH.date()).days
    assert write_date((date - EPOCH.date()).days) == date.isoformat()


@pytest.mark.parametrize("text", ["1900-03-01", "2000-02-29", "2000-03-01", "2100-02-28", "2100-03-01", "2400-02-29"])
def test_leap_days_come_as_often_as_they_should(text: str) -> None:
    day = (datetime.date.fromisoformat(text) - EPOCH.date()).days
    assert (read_date(text), write_date(day)) == (day, text)


@given(st.datetimes(timezones=st.just(datetime.UTC)))
def test_a_moment_is_counted_as_python_counts_it(moment: datetime.datetime) -> None:
    place = (moment - EPOCH) // MICROSECOND
    assert read_moment(moment.isoformat(sep=" ")) == place
    assert datetime.datetime.fromisoformat(write_moment_with_zone(place)) == moment


@given(st.integers(-(10**8), LAST_DATE))
def test_every_day_is_read_as_it_was_written(day: int) -> None:
    assert read_date(write_date(day)) == day


@given(st.integers(-(10**17), LAST_MOMENT))
def test_every_microsecond_is_read_as_it_was_written(moment: int) -> None:
    assert read_moment(write_moment(moment)) == moment


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-05-17 14:30:15.25+02", "2024-05-17 12:30:15.250000"),
        ("2024-05-17 12:30:15+05:45", "2024-05-17 06:45:15"),
        ("1880-01-01 00:00:00+00:09:21", "1879-12-31 23:50:39"),
        ("2024-05-17 12:30:15-03:30", "2024-05-17 16:00:15"),
        ("2024-05-17 12:30:15-11", "2024-05-17 23:30:15"),
        ("0044-03-15 00:00:00+01 BC", "0044-03-14 23:00:00 BC"),
    ],
)
def test_an_offset_is_taken_off(text: str, utc: str) -> None:
    assert write_moment(read_moment(text)) == utc


def test_the_year_before_one_is_one_bc() -> None:
    assert write_date(read_date("0001-01-01") - 1) == "0001-12-31 BC"
    assert read_date("0001-12-31 BC") == read_date("0001-01-01") - 1


@pytest.mark.parametrize("text", ["infinity", "-infinity"])
def test_infinity_has_no_place(text: str) -> None:
    assert read_date(text) is None
    assert read_moment(text) is None


def test_the_last_ones_are_those_of_the_types() -> None:
    assert write_date(LAST_DATE) == "5874897-12-31"
    assert write_moment(LAST_MOMENT) == "294276-12-31 23:59:59.999999"
