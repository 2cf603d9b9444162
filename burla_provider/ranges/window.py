"""The stretch of keys that a plan covers: what the user bounds, in PostgreSQL's own text."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import INTEGER_LIMITS, Bound, Key, KeyColumn
from burla_provider.ranges.ordinals import RELATIVE_DATETIME
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.sort_key import SortKey, comma_separated, is_sorted

_NO_INTERVAL = (
    ' If they are the data interval of a run: with a cron schedule such as "@daily", the interval of Airflow 3 begins'
    ' where it ends. Use schedule=CronDataIntervalTimetable("@daily", timezone="UTC") from airflow.timetables.interval.'
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
        """The names of those that were given."""
        return [name for name, value in vars(self).items() if value is not None]


@dataclass(frozen=True)
class Window:
    """The keys from ``lower`` (inclusive) to ``upper`` (exclusive); None is open-ended.

    :param includes_nulls: the rows whose key is NULL belong to it too.
    :param is_empty: it is known to hold no key at all.
    """

    lower: Bound | None = None
    upper: Bound | None = None
    includes_nulls: bool = False
    is_empty: bool = False

    @property
    def is_bounded(self) -> bool:
        return self.lower is not None or self.upper is not None


def read_window(queries: PlannerConnection, order: SortKey, key: Key, limits: WindowLimits) -> Window:
    """The window with its bounds as the server understands them.

    Rows whose key is NULL are in no window that has a bound.

    :raises InvalidParameterError: a bound does not parse as the key's type, is given twice, or the lower one is not lower.
    """
    if not limits.given_names:
        return Window(includes_nulls=key.nullable)
    if not key.columns:
        raise InvalidParameterError(
            limits.given_names[0], "there is no key that it could be a bound of.", "Name one with key=..."
        )
    lower = _bound(queries, key, limits, "start_id", "lower")
    upper = _bound(queries, key, limits, "end_id", "upper")
    if lower is not None and upper is not None and not _is_below(queries, order, key, lower, upper):
        problem = f"there is no key from {', '.join(lower)} (inclusive) to {', '.join(upper)} (exclusive)."
        advice = f"Give {' and '.join(limits.given_names)} so that the first is the lesser one."
        raise InvalidParameterError(limits.given_names[0], problem, advice + (_NO_INTERVAL if lower == upper else ""))
    return _clamped(lower, upper, INTEGER_LIMITS[key.columns[0].type]) if key.is_integer else Window(lower, upper)


def _bound(queries: PlannerConnection, key: Key, limits: WindowLimits, of_ids: str, of_any: str) -> Bound | None:
    identifier, value = getattr(limits, of_ids), getattr(limits, of_any)
    if identifier is None:
        return None if value is None else _parse(queries, key, of_any, value)
    if value is not None:
        raise InvalidParameterError(of_ids, f"{of_any} says the same.", "Give one of them.")
    if not key.is_integer:
        kinds = ", ".join(column.type for column in key.columns)
        raise InvalidParameterError(
            of_ids, f"the key {key} is not one integer ({kinds}).", "Use lower and upper instead."
        )
    # Inclusive both, as the guide has it; a window's upper bound is exclusive.
    return (str(_integer(of_ids, identifier) + (of_ids == "end_id")),)


def _clamped(lower: Bound | None, upper: Bound | None, limits: tuple[int, int]) -> Window:
    """Ids that the column's type cannot hold bound nothing, but the server would not even parse them."""
    least, greatest = limits
    start = least if lower is None else max(int(lower[0]), least)
    end = greatest + 1 if upper is None else min(int(upper[0]), greatest + 1)
    if start >= end:
        return Window(is_empty=True)
    # A range that is open at both ends would have the NULL keys, too.
    return Window((str(start),), (str(end),) if end <= greatest else None)


def _integer(parameter: str, value: Any) -> int:
    try:
        # int() also takes 1.9 and True.
        return int(value if type(value) in (int, str) else "")
    except ValueError:
        raise InvalidParameterError(parameter, f"{value!r} is not a whole number.", "Give an id.") from None


def _parse(queries: PlannerConnection, key: Key, parameter: str, value: Any) -> Bound:
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
    if len(values) != len(key.columns):
        problem = f"{value!r} has {len(values)} value(s) for the {len(key.columns)} column(s) of the key {key}."
        raise InvalidParameterError(parameter, problem, "Give one value a column, a list for several columns.")
    pairs = list(zip((_text(parameter, item) for item in values), key.columns, strict=True))
    for text, column in pairs:
        _refuse_relative(parameter, text, column)
        _refuse_offset(parameter, text, column)
    casts = [sql.SQL("{}::{}::text").format(sql.Literal(text), sql.SQL(column.type)) for text, column in pairs]
    kinds = ", ".join(column.type for column in key.columns)
    with queries.errors_blame(parameter, f"The key {key} is of type {kinds}."):
        return queries.fetch_all(sql.SQL("SELECT {}").format(comma_separated(casts)))[0]


def _text(parameter: str, value: Any) -> str:
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if value is None or isinstance(value, float | dict | set):
        raise InvalidParameterError(
            parameter, f"{value!r} is no exact value.", "Give text, an integer, a date or the like."
        )
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def _refuse_relative(parameter: str, text: str, column: KeyColumn) -> None:
    if column.type.startswith(("date", "time")) and RELATIVE_DATETIME.search(text):
        problem = f"{text!r} is another moment each time it is read, also when a retry plans again."
        raise InvalidParameterError(parameter, problem, 'Give a fixed value, such as "{{ data_interval_start }}".')


def _refuse_offset(parameter: str, text: str, column: KeyColumn) -> None:
    if column.type != "timestamp without time zone":
        return
    try:
        offset = datetime.datetime.fromisoformat(text).utcoffset()
    except ValueError:
        return  # Not ISO: whether it is anything at all, the server will say.
    if offset:
        # The server would drop the offset without a word.
        problem = f"{text} has an offset from UTC, and {column.name} has no time zone."
        raise InvalidParameterError(parameter, problem, "Give the moment as the column stores it, without offset.")


def _is_below(queries: PlannerConnection, order: SortKey, key: Key, lower: Bound, upper: Bound) -> bool:
    if key.is_integer:
        return int(lower[0]) < int(upper[0])
    with queries.errors_blame("key", "Choose a key whose type can be sorted."):
        return is_sorted(queries, order, [lower, upper], "<")
