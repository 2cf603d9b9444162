"""The window: the interval of keys that a plan covers, with bounds in PostgreSQL's text format."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, LiteralString

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.key import INTEGER_LIMITS, Bound, Key, KeyColumn
from burla_provider.ranges.ordinals import RELATIVE_DATETIME, max_value, min_value, ordinal_codec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.sort_key import SortKey, comma_separated, fetch_end_keys, is_sorted

_TEXT_TYPES = ("text", "character varying", "bpchar")

_TEXT_SUFFIXES = (" ", "0", "a", "~")
"""Suffixes that make a text greater. A collation may ignore some of these characters, but none ignores all."""

_STEPS: dict[str, LiteralString] = {
    "date": "1",
    "timestamp without time zone": "interval '1 microsecond'",
    "timestamp with time zone": "interval '1 microsecond'",
}
"""Type -> SQL of the difference between a value and the next one."""

_SORTABLE = "Choose a key whose type can be sorted."

_EMPTY_INTERVAL = (
    ' If they are the data interval of a run: with a cron schedule such as "@daily", the data interval of Airflow 3 is'
    ' empty. Use schedule=CronDataIntervalTimetable("@daily", timezone="UTC") from airflow.timetables.interval.'
)


@dataclass(frozen=True)
class WindowLimits:
    """The window as the user gave it: see ``plan_ranges``."""

    start_id: Any = None
    end_id: Any = None
    lower: Any = None
    upper: Any = None

    @property
    def given_names(self) -> list[str]:
        """The names of the limits that are not None."""
        return [name for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class Window:
    """The keys from ``lower`` (inclusive) to ``upper`` (exclusive); None is open.

    :param includes_nulls: whether rows with a NULL key belong to the window too.
    :param is_empty: whether the window is known to contain no key.
    """

    lower: Bound | None = None
    upper: Bound | None = None
    includes_nulls: bool = False
    is_empty: bool = False

    @property
    def is_bounded(self) -> bool:
        """Whether the window has a bound."""
        return self.lower is not None or self.upper is not None


def read_window(connection: PlannerConnection, key: Key, sort_key: SortKey, limits: WindowLimits) -> Window:
    """Return the window with its bounds as the server parses them.

    A window with a bound does not include rows with a NULL key.

    :raises InvalidParameterError: if a bound is invalid for the key or given twice, or lower is not below upper.
    """
    names = limits.given_names
    if not names:
        return Window(includes_nulls=key.nullable)
    if not key.columns:
        raise InvalidParameterError(names[0], "the table has no key to bound.", "Name a key with key=...")
    lower = _read_bound(connection, key, limits, "start_id", "lower")
    upper = _read_bound(connection, key, limits, "end_id", "upper")
    if lower is not None and upper is not None and not _is_below(connection, key, sort_key, lower, upper):
        problem = f"no key is between {', '.join(lower)} (inclusive) and {', '.join(upper)} (exclusive)."
        advice = f"Give {' and '.join(names)} in ascending order."
        raise InvalidParameterError(names[0], problem, advice + (_EMPTY_INTERVAL if lower == upper else ""))
    return _clamp(lower, upper, INTEGER_LIMITS[key.columns[0].type]) if key.is_integer else Window(lower, upper)


def freeze_window(
    connection: PlannerConnection, from_sql: sql.Composable, key: Key, sort_key: SortKey, window: Window
) -> Window:
    """Return the window with an upper bound directly after the maximum key.

    Without it, a job on a table that grows during the run would never be finished.

    :param from_sql: the table, for FROM.
    :raises InvalidParameterError: if the key after the maximum is unknown.
    """
    if window.upper is not None or window.is_empty:
        return window
    # For several columns, ignore the lower bound: an index scan does not stop at a row comparison (see condition.py),
    # so it would read all rows with the lower bound's first value if no key is in the window.
    lower = window.lower if len(key.columns) == 1 else None
    not_null = sql.SQL("{} IS NOT NULL").format(sql.Identifier(key.names[0]))
    condition = sql.SQL("{} AND {}").format(range_condition(key, lower), not_null)
    with connection.local_settings(**PREFER_INDEX), connection.errors_blame("key", _SORTABLE):
        max_key = next(iter(fetch_end_keys(connection, sort_key, from_sql, condition, "max")), None)
    if max_key is None or (window.lower and not is_sorted(connection, sort_key, [window.lower, max_key])):
        return replace(window, is_empty=True)
    return replace(window, upper=_find_next_key(connection, key, sort_key, max_key))


def _read_bound(
    connection: PlannerConnection, key: Key, limits: WindowLimits, id_name: str, key_name: str
) -> Bound | None:
    id_value, key_value = getattr(limits, id_name), getattr(limits, key_name)
    if id_value is None:
        return None if key_value is None else parse_key(connection, key, key_name, key_value)
    if key_value is not None:
        raise InvalidParameterError(id_name, f"cannot be combined with {key_name}.", "Give one of the two.")
    if not key.is_integer:
        problem = f"requires a key of one integer column, got {key} ({_types_of(key)})."
        raise InvalidParameterError(id_name, problem, "Use lower and upper instead.")
    # start_id and end_id are both inclusive. A window's upper bound is exclusive.
    return (str(_parse_id(id_name, id_value) + (id_name == "end_id")),)


def _clamp(lower: Bound | None, upper: Bound | None, limits: tuple[int, int]) -> Window:
    """Replace ids outside the column's type, which the server could not parse, by an open bound."""
    minimum, maximum = limits
    start = minimum if lower is None else max(int(lower[0]), minimum)
    end = maximum + 1 if upper is None else min(int(upper[0]), maximum + 1)
    if start >= end:
        return Window(is_empty=True)
    # The lower bound stays: a range that is open at both ends would include NULL keys.
    return Window((str(start),), (str(end),) if end <= maximum else None)


def _parse_id(parameter: str, value: Any) -> int:
    try:
        # int() would also accept 1.9 and True.
        return int(value if type(value) in (int, str) else "")
    except ValueError:
        raise InvalidParameterError(parameter, f"must be an integer, got {value!r}.", "Give an id.") from None


def parse_key(connection: PlannerConnection, key: Key, parameter: str, value: Any) -> Bound:
    """Return a key as the server parses it.

    :raises InvalidParameterError: if it is not a key, or not the same one each time.
    """
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if len(values) != len(key.columns):
        problem = f"must have {len(key.columns)} value(s) for the key {key}, got {value!r}."
        raise InvalidParameterError(parameter, problem, "Give a list with one value per key column.")
    pairs = list(zip((_to_text(parameter, item) for item in values), key.columns, strict=True))
    for text, column in pairs:
        _refuse_none(parameter, text)
        _refuse_relative(parameter, text, column)
        _refuse_lost_part(parameter, text, column)
    casts = [sql.SQL("{}::{}::text").format(sql.Literal(text), sql.SQL(column.type)) for text, column in pairs]
    with connection.errors_blame(parameter, f"The type of the key {key} is {_types_of(key)}."):
        return connection.fetch_all(sql.SQL("SELECT {}").format(comma_separated(casts)))[0]


def _to_text(parameter: str, value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if value is None or isinstance(value, float | dict | set):
        problem = f"must be an exact value, got {value!r}."
        raise InvalidParameterError(parameter, problem, "Give a text, an integer, a Decimal or a date.")
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _refuse_none(parameter: str, text: str) -> None:
    if text == "None":  # a text column would accept it
        problem = "got 'None', the text of a template without a value."
        advice = "Let it render to nothing: \"{{ params.first or '' }}\". For the key 'None', use where."
        raise InvalidParameterError(parameter, problem, advice)


def _refuse_relative(parameter: str, text: str, column: KeyColumn) -> None:
    if column.type.startswith(("date", "time")) and RELATIVE_DATETIME.search(text):
        problem = f"{text!r} has another value each time it is read, for example when a retry plans again."
        raise InvalidParameterError(parameter, problem, 'Give a fixed value, such as "{{ data_interval_start }}".')


def _refuse_lost_part(parameter: str, text: str, column: KeyColumn) -> None:
    """Refuse a time of which the server would silently ignore a part."""
    if column.type not in ("timestamp without time zone", "date"):
        return
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return  # Not ISO 8601. The server will parse or refuse it.
    is_date = column.type == "date"
    if is_date and moment.time() != datetime.time():
        # In UTC, the local midnight at which a data interval begins is on another day.
        problem = f"{text} has a time of day, but the column {column.name} is a date."
        advice = "Give the date: \"{{ data_interval_start.in_timezone('Europe/Berlin').date() }}\"."
        raise InvalidParameterError(parameter, problem, advice)
    if not is_date and moment.utcoffset():
        problem = f"{text} has a UTC offset, but the column {column.name} has no time zone."
        raise InvalidParameterError(parameter, problem, "Give the timestamp without offset, as the column stores it.")


def _is_below(connection: PlannerConnection, key: Key, sort_key: SortKey, lower: Bound, upper: Bound) -> bool:
    if key.is_integer:
        return int(lower[0]) < int(upper[0])
    with connection.errors_blame("key", _SORTABLE):
        return is_sorted(connection, sort_key, [lower, upper], "<")


def _find_next_key(connection: PlannerConnection, key: Key, sort_key: SortKey, max_key: Bound) -> Bound | None:
    """Return a key directly, or closely, after ``max_key``; None if the type has no greater value."""
    for number in reversed(range(len(max_key))):
        suffix_bounds = [minimum for column in key.columns[number + 1 :] if (minimum := min_value(column)) is not None]
        for greater in _greater_values(connection, key.columns[number], max_key[number]):
            candidate = (*max_key[:number], greater, *suffix_bounds)
            if len(candidate) == len(max_key) and is_sorted(connection, sort_key, [max_key, candidate], "<"):
                return candidate
    if max_key == tuple(map(max_value, key.columns)):
        return None
    problem = f"the next key after the maximum, {', '.join(max_key)} ({_types_of(key)}), is unknown."
    raise InvalidParameterError("key", problem, "Give upper, or split by an integer, date, timestamp, uuid or text.")


def _greater_values(connection: PlannerConnection, column: KeyColumn, value: str) -> list[str]:
    """Return candidates for the next value. The server checks whether they are greater."""
    if column.type in _TEXT_TYPES:
        return [value + suffix for suffix in _TEXT_SUFFIXES]
    codec = ordinal_codec(column, [value])
    greater = codec.next_value(value) if codec else None
    if greater is None and column.type in _STEPS:
        greater = _next_datetime(connection, column, value)
    return [] if greater is None else [greater]


def _next_datetime(connection: PlannerConnection, column: KeyColumn, value: str) -> str | None:
    """Return the next date or timestamp in a year that Python's datetime does not have; None if there is none."""
    statement = sql.SQL("SELECT ({}::{} + {})::text").format(
        sql.Literal(value), sql.SQL(column.type), sql.SQL(_STEPS[column.type])
    )
    with suppress(InvalidParameterError), connection.errors_blame("key", _SORTABLE):
        return str(connection.fetch_value(statement))
    return None


def _types_of(key: Key) -> str:
    return ", ".join(column.type for column in key.columns)
