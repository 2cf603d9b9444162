"""Ending a window right behind the greatest key of now, so that a job ends although rows keep coming."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.key import Bound, Key
from burla_provider.ranges.ordinals import max_value, min_value, ordinal_codec
from burla_provider.ranges.planner_connection import PREFER_INDEX, PlannerConnection
from burla_provider.ranges.sort_key import SortKey, is_sorted
from burla_provider.ranges.window import Window

_TEXTS = ("text", "character varying", "bpchar")

_LONGER = (" ", "0", "a", "~")
"""What makes a text a greater one. A collation may ignore some of these, none ignores them all."""


def freeze(queries: PlannerConnection, source: sql.Composable, key: Key, order: SortKey, window: Window) -> Window:
    """The window with an upper end; as it is when it has one.

    :raises InvalidParameterError: it is not known which key comes behind the greatest one.
    """
    if window.upper is not None or window.is_empty:
        return window
    greatest = _greatest(queries, source, key, order, window)
    if greatest is None or (window.lower and not is_sorted(queries, order, [window.lower, greatest])):
        return replace(window, is_empty=True)
    return replace(window, upper=_behind(queries, key, order, greatest))


def _greatest(
    queries: PlannerConnection, source: sql.Composable, key: Key, order: SortKey, window: Window
) -> Bound | None:
    # Of several columns the greatest key of all: backwards, too, an index scan does not end where a comparison of rows
    # does (condition.py), and all rows with the lower end's first value would be read only to find none.
    lower = window.lower if len(key.columns) == 1 else None
    statement = sql.SQL(
        "SELECT {texts} FROM (SELECT {values} FROM {source} AS origin WHERE {inside} AND {first} IS NOT NULL"
        " ORDER BY {by} LIMIT 1) AS greatest"
    ).format(
        texts=order.texts_of("greatest"),
        values=order.select_list,
        source=source,
        inside=range_condition(key, lower),
        first=sql.Identifier(key.names[0]),
        by=order.order_by_descending,
    )
    with queries.local_settings(**PREFER_INDEX), queries.errors_blame("key", "Choose a key whose type can be sorted."):
        return queries.fetch_one(statement)


def _behind(queries: PlannerConnection, key: Key, order: SortKey, greatest: Bound) -> Bound | None:
    """A greater key, as close as possible; None when there is none, so that an open end is an end, too."""
    for place in reversed(range(len(greatest))):
        for bound in _candidates(key, greatest, place):
            if is_sorted(queries, order, [greatest, bound], "<"):
                return bound
    if greatest == tuple(map(max_value, key.columns)):
        return None
    kinds = ", ".join(column.type for column in key.columns)
    problem = f"nothing is known to come right behind the greatest key, {', '.join(greatest)} ({kinds})."
    raise InvalidParameterError("key", problem, "Give upper, or split by an integer, date, timestamp, uuid or text.")


def _candidates(key: Key, greatest: Bound, place: int) -> list[Bound]:
    """Bounds that are greater in that column, if they are what they look like."""
    column, value = key.columns[place], greatest[place]
    axis = ordinal_codec(column, [value])
    after = axis.next_value(value) if axis else None
    values = [value + longer for longer in _LONGER] if column.type in _TEXTS else [after]
    rest = [least for later in key.columns[place + 1 :] if (least := min_value(later)) is not None]
    bounds = [(*greatest[:place], value, *rest) for value in values if value is not None]
    return [bound for bound in bounds if len(bound) == len(greatest)]
