"""Dates and timestamps as PostgreSQL prints them (ISO), as days and microseconds since 1970, and back.

Python's own ``datetime`` ends at the years 1 and 9999; PostgreSQL's types go from 4714 BC to 294276 and further.
"""

from __future__ import annotations

import re
from functools import lru_cache

RELATIVE = re.compile(r"(?<![A-Za-z])(?:now|today|tomorrow|yesterday)(?![A-Za-z])", re.IGNORECASE)
"""Words that PostgreSQL takes for another moment each time it reads them as a date, time or timestamp."""

_DAY = 86_400_000_000
_HOUR = 3_600_000_000
_MINUTE = 60_000_000
_SECOND = 1_000_000

_DAYS_IN_400_YEARS = 146_097
_DAYS_BEFORE_1970 = 719_468  # since 1 March of the year 0: with the leap day last, months have a formula

_MOMENT = re.compile(r"(\d{4,}-\d\d-\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-]\d\d(?::\d\d){0,2})?)?( BC)?")
"""The date, hour, minute, second, their fraction, the zone, and the era."""


def read_date(text: str) -> int | None:
    """Days since 1970-01-01; None for infinity."""
    match = _MOMENT.fullmatch(text)
    return None if match is None else _day(match[1], match[7])


def write_date(day: int) -> str:
    """The inverse of ``read_date``."""
    date, era = _date_at(day)
    return date + era


def read_moment(text: str) -> int | None:
    """Microseconds since 1970-01-01 00:00, in UTC when the text has a zone; None for infinity."""
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    date, hour, minute, second, fraction, zone, era = match.groups()
    moment = _day(date, era) * _DAY
    if hour is not None:
        moment += int(hour) * _HOUR + int(minute) * _MINUTE + int(second) * _SECOND
    if fraction is not None:
        moment += int(fraction.ljust(6, "0"))
    return moment if zone is None else moment - _offset(zone)


def write_moment(moment: int, zone: str = "") -> str:
    """The inverse of ``read_moment``, for a timestamp without time zone."""
    day, of_day = divmod(moment, _DAY)
    date, era = _date_at(day)
    hour, of_hour = divmod(of_day, _HOUR)
    minute, of_minute = divmod(of_hour, _MINUTE)
    second, fraction = divmod(of_minute, _SECOND)
    digits = f".{fraction:06}" if fraction else ""
    return f"{date} {hour:02}:{minute:02}:{second:02}{digits}{zone}{era}"


def write_moment_with_zone(moment: int) -> str:
    """The inverse of ``read_moment``, in UTC."""
    return write_moment(moment, "+00")


@lru_cache  # the same one in every text of a session, but for summer time
def _offset(zone: str) -> int:
    parts = zip(zone[1:].split(":"), (_HOUR, _MINUTE, _SECOND), strict=False)
    return sum(int(part) * unit for part, unit in parts) * (-1 if zone[0] == "-" else 1)


@lru_cache  # the bounds of a plan are in order, so that many of one day follow each other
def _day(date: str, era: str | None) -> int:
    year, month, day = map(int, date.split("-"))
    if era:
        year = 1 - year  # The year before 1 is 1 BC, which arithmetic calls 0.
    months = (month - 3) % 12
    years = year - (month < 3)
    day_of_year = (153 * months + 2) // 5 + day - 1
    return 365 * years + years // 4 - years // 100 + years // 400 + day_of_year - _DAYS_BEFORE_1970


def _date_at(day: int) -> tuple[str, str]:
    cycle, of_cycle = divmod(day + _DAYS_BEFORE_1970, _DAYS_IN_400_YEARS)
    year = (of_cycle - of_cycle // 1_460 + of_cycle // 36_524 - of_cycle // 146_096) // 365
    of_year = of_cycle - (365 * year + year // 4 - year // 100)
    months = (5 * of_year + 2) // 153
    day_of_month = of_year - (153 * months + 2) // 5 + 1
    month = (months + 2) % 12 + 1
    year += cycle * 400 + (month < 3)
    shown, era = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04}-{month:02}-{day_of_month:02}", era


LAST_DATE = _day("5874897-12-31", None)
LAST_MOMENT = _day("294277-01-01", None) * _DAY - 1
