"""Aggregates that can be computed range by range and combined exactly: count, sum, min, max and avg."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import InvalidParameter
from burla_provider.work.brackets import closing_bracket
from burla_provider.work.plain_json import find_reserved
from burla_provider.work.source import Source

FUNCTIONS = ("count", "sum", "min", "max", "avg")
NUMBERS = frozenset(["smallint", "integer", "bigint", "numeric", "real", "double precision"])
"""The types whose values Python holds exactly. Values of all others travel as PostgreSQL's own text of them."""

_FORM = re.compile(r"\s*(\w+)\s*\(", re.ASCII)
_FILTER = re.compile(r"\s*filter\s*\(\s*where\b", re.IGNORECASE)
_DISTINCT = re.compile(r"\s*distinct\b", re.IGNORECASE)
_ADVICE = (
    'Write one aggregate, such as "sum(amount)" or "max(price) FILTER (WHERE price < 100)":'
    " the functions are count, sum, min, max and avg."
)


@dataclass(frozen=True)
class Aggregate:
    """One total.

    :param name: its name in the result.
    :param function: one of ``FUNCTIONS``.
    :param argument: SQL; "*" for ``count(*)``.
    :param filter: SQL of the condition behind FILTER; None: all rows.
    :param type: type of the result, as the server says; "" until ``check_totals`` asked.
    :param argument_type: type of the argument, likewise.
    """

    name: str
    function: str
    argument: str
    filter: str | None = None
    type: str = ""
    argument_type: str = ""

    @property
    def is_number(self) -> bool:
        """Whether Python combines it; the server does otherwise (``database/combine.py``)."""
        return self.function == "count" or self.argument_type in NUMBERS

    def partials(self) -> list[sql.Composable]:
        """The columns to ask for in one range: what it takes to combine the ranges' values."""
        if self.function == "count":
            return [self._call("count")]
        if self.function == "avg":
            return [self._text_unless_number(self._sum_to_divide), self._call("count")]
        return [self._text_unless_number(self.whole)]

    def __str__(self) -> str:
        condition = f" FILTER (WHERE {self.filter.strip()})" if self.filter is not None else ""
        return f"{self.function}({self.argument}){condition}"

    @property
    def whole(self) -> sql.Composable:
        """The aggregate itself."""
        return self._call(self.function)

    @property
    def argument_sql(self) -> sql.Composable:
        return sql.SQL(f"(\n{self.argument}\n)")

    @property
    def _sum_to_divide(self) -> sql.Composable:
        # PostgreSQL's sum adds real up as real, its avg as double precision.
        is_float = self.type == "double precision"
        return self._call("sum", f"({self.argument}\n)::float8" if is_float else self.argument)

    def _text_unless_number(self, value: sql.Composable) -> sql.Composable:
        return value if self.is_number else sql.SQL("({})::text").format(value)

    def _call(self, function: str, argument: str = "") -> sql.Composable:
        condition = f" FILTER (WHERE {self.filter}\n)" if self.filter is not None else ""
        return sql.SQL(f"{function}({argument or self.argument}\n){condition}")


def parse_totals(totals: Mapping[str, str]) -> tuple[Aggregate, ...]:
    """What ``totals={"largest": "max(amount)"}`` asks for. The server has not seen it yet: ``check_totals``.

    :raises InvalidParameter: nothing asked for, not one of the five functions, DISTINCT, or more than one aggregate.
    """
    if not totals:
        raise InvalidParameter("totals", "it is empty.", _ADVICE)
    if problem := find_reserved(totals):
        raise InvalidParameter("totals", f"it has {problem}.", "Use another name.")
    return tuple(_parse(name, text) for name, text in totals.items())


def check_totals(
    connection: psycopg.Connection[Any], source: Source, aggregates: tuple[Aggregate, ...]
) -> tuple[Aggregate, ...]:
    """The aggregates with the types that the server gives them. Reads no row.

    :raises InvalidParameter: the server does not accept one of them.
    """
    return tuple(_with_types(connection, source, aggregate) for aggregate in aggregates)


def check_source(connection: psycopg.Connection[Any], source: Source) -> None:
    """Has the server look at the condition and the columns. Reads no row.

    :raises InvalidParameter: the server does not accept them.
    """
    condition = source.where or ""
    if closing_bracket(f"{condition}\n)") != len(condition) + 1:
        # In brackets, as it is used, it might even be SQL, and pick rows of other ranges.
        raise InvalidParameter("where", f"in {condition!r} a bracket or a quote is not closed.", "Close it.")
    _ask(connection, source, source.select_none(sql.SQL("TRUE")), "where", condition)
    _ask(connection, source, source.select_none(source.column_list), "columns", ", ".join(source.columns))


def _parse(name: str, text: str) -> Aggregate:
    form = _FORM.match(text)
    if form is None or form[1].lower() not in FUNCTIONS:
        raise InvalidParameter("totals", f"{name!r} is {text!r}, which is not an aggregate that ranges share.", _ADVICE)
    function = form[1].lower()
    argument, rest = _split_at_bracket(name, text, form.end())
    if _DISTINCT.match(argument):
        raise InvalidParameter(
            "totals",
            f"{name!r} is {text!r}: distinct values of two ranges may be the same ones.",
            "Use process_rows, or a plain SQL query.",
        )
    return Aggregate(name, function, argument.strip(), _parse_filter(name, text, rest))


def _parse_filter(name: str, text: str, start: int) -> str | None:
    opening = _FILTER.match(text, start)
    if opening is None:
        end, condition = start, None
    else:
        condition, end = _split_at_bracket(name, text, opening.end())
    if text[end:].strip():
        raise InvalidParameter("totals", f"{name!r} has {text[end:].strip()!r} behind its aggregate.", _ADVICE)
    return condition


def _split_at_bracket(name: str, text: str, start: int) -> tuple[str, int]:
    """What stands between ``start`` and the bracket that closes there, and where it goes on behind it."""
    place = closing_bracket(text, start)
    if place is None:
        raise InvalidParameter("totals", f"{name!r} is {text!r}, where a bracket or a quote is not closed.", _ADVICE)
    return text[start:place], place + 1


def _with_types(connection: psycopg.Connection[Any], source: Source, aggregate: Aggregate) -> Aggregate:
    query = source.select_none(_type_of(aggregate.whole))
    typed = replace(aggregate, type=_ask(connection, source, query, "totals", str(aggregate)))
    if aggregate.argument == "*":
        return typed
    # A subquery, because pg_typeof(argument) is not an aggregate, and no rows would give no type.
    argument = source.select_none(aggregate.argument_sql)
    query = sql.SQL("SELECT {}").format(_type_of(sql.SQL("({} LIMIT 0)").format(argument)))
    return replace(typed, argument_type=_ask(connection, source, query, "totals", str(aggregate)))


def _type_of(expression: sql.Composable) -> sql.Composable:
    # With a modifier of -1: the name alone, "character", means character(1) in a cast.
    return sql.SQL("format_type(pg_typeof({})::oid, -1)").format(expression)


def _ask(connection: psycopg.Connection[Any], source: Source, query: sql.Composed, parameter: str, text: str) -> Any:
    try:
        with connection.transaction():
            row = connection.execute(query).fetchone()
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        problem = error.diag.message_primary or str(error)
        raise InvalidParameter(
            parameter, f"the server says of {text!r}: {problem}.", _hint(connection, source, error)
        ) from None
    return row[0] if row else None


def _hint(connection: psycopg.Connection[Any], source: Source, error: psycopg.Error) -> str:
    hint = error.diag.message_hint or "Correct it; the SQL is used as it stands."
    if not isinstance(error, psycopg.errors.UndefinedColumn):
        return hint
    names = connection.execute(_COLUMNS, [source.relation.as_string(connection)]).fetchall()
    return f"{hint} The columns of {source} are {', '.join(name for (name,) in names)}."


_COLUMNS = """
    SELECT attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
