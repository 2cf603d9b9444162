"""Aggregates that can be computed range by range and combined exactly: count, sum, min, max and avg."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.worker.json_values import find_reserved
from burla_provider.worker.outcome import RESERVED
from burla_provider.worker.source import Source
from burla_provider.worker.sql_text import closing_bracket, skip_blank, tokens
from burla_provider.worker.stream import describe
from burla_provider.worker.volatility import find_volatile, has_escapes, is_date_error, relative_literals

FUNCTIONS = ("count", "sum", "min", "max", "avg")
NUMBERS = frozenset(["smallint", "integer", "bigint", "numeric", "real", "double precision"])
"""The types whose values Python holds exactly. Values of all others travel as PostgreSQL's own text of them."""

MOST_COLUMNS = 1664
"""Of one answer: MaxTupleAttributeNumber of PostgreSQL."""

_WRITE_IT = "Write the value itself, such as '{{ data_interval_start }}'."
FOREIGN_SERVER_ERRORS = ("HV", "08", "55000")
"""SQLSTATEs (or how they begin) of a foreign table that cannot be planned, because its server does not answer."""

_USE_PARAMETERS = (
    'Give the value as a parameter: where="at >= %(since)s", parameters={"since": "{{ data_interval_start }}"}.'
)
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
        """Whether Python combines it; the server does otherwise (``combine/server.py``)."""
        return self.function == "count" or self.argument_type in NUMBERS or self.is_float_sum

    def partials(self) -> list[sql.Composable]:
        """The columns to ask for in one range: what it takes to combine the ranges' values."""
        if self.function == "count":
            return [self._call("count")]
        parts = [self._sum if self.function in ("sum", "avg") else self.whole]
        if not self.is_number:
            parts = [sql.SQL("({})::text").format(part) for part in parts]
        return [*parts, self._call("count")] if self.function == "avg" else parts

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
    def is_float_sum(self) -> bool:
        """Whether it is the sum or the average of floats, also of a domain over them."""
        return self.function in ("sum", "avg") and self.type in ("real", "double precision")

    @property
    def _sum(self) -> sql.Composable:
        # A sum of floats depends on the order of the rows; one of the numbers that they are printed as does not.
        # By way of float8, because 0.1::real is another number. A cast of float8 to numeric keeps 15 digits only.
        return self._call("sum", f"({self.argument}\n)::float8::text::numeric" if self.is_float_sum else self.argument)

    def _call(self, function: str, argument: str = "") -> sql.Composable:
        condition = f" FILTER (WHERE {self.filter}\n)" if self.filter is not None else ""
        return sql.SQL(f"{function}({argument or self.argument}\n){condition}")


def parse_totals(totals: Mapping[str, str], *, escapes: bool = False) -> tuple[Aggregate, ...]:
    """What ``totals={"largest": "max(amount)"}`` asks for. The server has not seen it yet: ``check_totals``.

    :param escapes: ``has_escapes`` of the connection.
    :raises InvalidParameterError: nothing asked for, not one of the five functions, DISTINCT, or more than one aggregate.
    """
    if not totals:
        raise InvalidParameterError("totals", "it is empty.", _ADVICE)
    reserved = next((name for name in ("row_count", *RESERVED) if name in totals), None)
    if problem := f"the name {reserved!r}, which is the result's own" if reserved else find_reserved(totals):
        raise InvalidParameterError("totals", f"it has {problem}.", "Use another name.")
    return tuple(_parse(name, text, escapes) for name, text in totals.items())


def check_totals(
    connection: psycopg.Connection[Any], source: Source, aggregates: tuple[Aggregate, ...]
) -> tuple[Aggregate, ...]:
    """The aggregates with the types that the server gives them. Reads no row.

    :raises InvalidParameterError: the server does not accept one of them, there are too many, or one is not the same in
        each range.
    """
    count = 1 + sum(len(aggregate.partials()) for aggregate in aggregates)
    if count > MOST_COLUMNS:
        problem = f"they take {count:,} values per range, and PostgreSQL returns {MOST_COLUMNS:,} at most."
        raise InvalidParameterError("totals", problem, "Split them over several tasks; avg takes two values.")
    typed = tuple(_with_types(connection, source, aggregate) for aggregate in aggregates)
    if _volatile_calls(connection, _partials(source, *typed)):
        for aggregate in typed:
            found = _volatile_calls(connection, _partials(source, aggregate))
            _refuse_volatile("totals", str(aggregate), found, _WRITE_IT)
    for aggregate in typed:
        arguments = relative_literals(connection, aggregate.argument)
        filters = relative_literals(connection, aggregate.filter or "")
        variants = [
            *((literal, replace(aggregate, argument=other)) for literal, other in arguments),
            *((literal, replace(aggregate, filter=other)) for literal, other in filters),
        ]
        literals = [literal for literal, other in variants if is_date_error(connection, _partials(source, other))]
        _refuse_volatile("totals", str(aggregate), literals, _WRITE_IT)
    return typed


def check_source(connection: psycopg.Connection[Any], source: Source, *, one_moment: bool = True) -> None:
    """Has the server look at the condition and the columns. Reads no row.

    :param one_moment: all ranges are to see the rows of one moment: a view may not depend on ``now()`` either.
    :raises InvalidParameterError: the server does not accept them, or they are not the same in each range.
    """
    condition = source.where or ""
    if closing_bracket(f"{condition}\n)", escapes=has_escapes(connection)) != len(condition) + 1:
        # In brackets, as it is used, it might even be SQL, and pick rows of other ranges.
        raise InvalidParameterError("where", f"in {condition!r} a bracket or a quote is not closed.", "Close it.")
    everything = replace(source, where=None)
    try:
        found = _find_volatile(connection, source, "where" if condition else "table", condition or str(source))
    except InvalidParameterError:
        _find_volatile(connection, everything, "table", str(source))  # is it the condition's fault?
        raise
    of_table = _find_volatile(connection, everything, "table", str(source)) if found else []
    if of_table and one_moment:
        advice = "Read its table instead, with the condition in where and its values in parameters."
        _refuse_volatile("table", f"{source} (a view, or its row security)", of_table, advice)
    words = {condition[token.start : token.end].lower() for token in tokens(condition) if token.kind == "word"}
    of_where = [name for name in found if name not in of_table or name.removesuffix("()") in words]
    of_where += [
        literal
        for literal, other in relative_literals(connection, condition)
        if is_date_error(connection, _rows(replace(source, where=other)))
    ]
    _refuse_volatile("where", repr(condition), of_where, _USE_PARAMETERS)
    if isinstance(source.columns, Mapping):
        for name, text in source.columns.items():
            _check_expression(connection, source, name, text)
    # A role that may read some columns only must not be asked for the others.
    if source.columns:
        _ask(connection, source, source.select_none(source.column_list), "columns", ", ".join(source.columns))


def _check_expression(connection: psycopg.Connection[Any], source: Source, name: str, text: str) -> None:
    if closing_bracket(f"{text}\n)", escapes=has_escapes(connection)) != len(text) + 1:
        raise InvalidParameterError(
            "columns", f"{name!r} is {text!r}: a bracket or a quote is not closed.", "Close it."
        )
    # The server refuses in a condition what does not give one value per row: aggregates and set-returning functions.
    one_row = replace(source, columns={name: text}, where=f"(\n{text}\n) IS NULL")
    _ask(connection, source, one_row.select_none(sql.SQL("TRUE")), "columns", text)
    query = one_row.select_none(one_row.column_list)
    _ask(connection, source, query, "columns", text)
    if len(describe(connection, query)) != 1:
        problem = f"{name!r} is {text!r}, which is not one expression."
        raise InvalidParameterError("columns", problem, "Give each value a name of its own.")
    found = _volatile_calls(connection, _rows(one_row))
    found += [
        literal
        for literal, other in relative_literals(connection, text)
        if is_date_error(connection, _rows(replace(source, where=f"(\n{other}\n) IS NULL")))
    ]
    advice = "Write the value with a template: \"'{{ data_interval_start }}'::timestamptz - created_at\"."
    _refuse_volatile("columns", f"{name!r}, which is {text!r},", found, advice)


def _rows(source: Source) -> sql.Composed:
    return source.select(sql.SQL(""), KeyRange(Key(), 0))


def _partials(source: Source, *aggregates: Aggregate) -> sql.Composed:
    columns = [part for aggregate in aggregates for part in aggregate.partials()]
    return source.select(sql.SQL(", ").join(columns), KeyRange(Key(), 0))


def _find_volatile(connection: psycopg.Connection[Any], source: Source, parameter: str, text: str) -> list[str]:
    with _blaming(connection, source, parameter, text):
        return _volatile_calls(connection, _rows(source))


def _volatile_calls(connection: psycopg.Connection[Any], query: sql.Composable) -> list[str]:
    try:
        with connection.transaction():
            return find_volatile(PlannerConnection(connection), query)
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(FOREIGN_SERVER_ERRORS):
            return []  # The window may leave its partitions out, which only the plan knows.
        raise


def _refuse_volatile(parameter: str, text: str, found: list[str], advice: str) -> None:
    """:raises InvalidParameterError: something was found."""
    if not found:
        return
    problem = f"{text} has {', '.join(found)}, whose value may differ from range to range."
    own = [name for name in found if name.endswith("()") and "." in name]
    if own:
        advice = f"Declare {own[0]} STABLE or IMMUTABLE if it returns the same for the same arguments."
    raise InvalidParameterError(parameter, problem, advice)


def _parse(name: str, text: str, escapes: bool) -> Aggregate:
    function, behind = _word(text, 0)
    place = skip_blank(text, behind)
    if function not in FUNCTIONS or not text.startswith("(", place):
        raise InvalidParameterError(
            "totals", f"{name!r} is {text!r}, which is not an aggregate that ranges share.", _ADVICE
        )
    argument, rest = _split_at_bracket(name, text, place + 1, escapes)
    quantifier, behind = _word(argument, 0)
    if quantifier == "distinct":
        raise InvalidParameterError(
            "totals",
            f"{name!r} is {text!r}: distinct values of two ranges may be the same ones.",
            "Use process_rows, or a plain SQL query.",
        )
    argument = argument[skip_blank(argument, behind if quantifier == "all" else 0) :].strip()
    is_star = argument.startswith("*") and skip_blank(argument, 1) == len(argument)
    return Aggregate(name, function, "*" if is_star else argument, _parse_filter(name, text, rest, escapes))


def _parse_filter(name: str, text: str, start: int, escapes: bool) -> str | None:
    end, condition = start, None
    word, behind = _word(text, start)
    place = skip_blank(text, behind)
    where, behind = _word(text, place + 1)
    if word == "filter" and text.startswith("(", place) and where == "where":
        condition, end = _split_at_bracket(name, text, behind, escapes)
    rest = text[skip_blank(text, end) :].strip()
    if rest:
        raise InvalidParameterError("totals", f"{name!r} has {rest!r} behind its aggregate.", _ADVICE)
    return condition


def _word(text: str, start: int) -> tuple[str, int]:
    """The word that comes next, in lower case, and where it ends; "" if none comes next."""
    token = next(tokens(text, skip_blank(text, start)), None)
    if token is None or token.kind != "word":
        return "", start
    return text[token.start : token.end].lower(), token.end


def _split_at_bracket(name: str, text: str, start: int, escapes: bool) -> tuple[str, int]:
    """What stands between ``start`` and the bracket that closes there, and where it goes on behind it."""
    place = closing_bracket(text, start, escapes=escapes)
    if place is None:
        raise InvalidParameterError(
            "totals", f"{name!r} is {text!r}, where a bracket or a quote is not closed.", _ADVICE
        )
    return text[start:place], place + 1


def _with_types(connection: psycopg.Connection[Any], source: Source, aggregate: Aggregate) -> Aggregate:
    query = source.select_none(_type_of(aggregate.whole))
    typed = replace(aggregate, type=_ask(connection, source, query, "totals", str(aggregate)))
    if aggregate.function == "count":
        return typed  # Whatever it counts: "*" has no type, and orders.* is several columns outside of an aggregate.
    # A subquery, because pg_typeof(argument) is not an aggregate, and no rows would give no type.
    argument = source.select_none(aggregate.argument_sql)
    query = sql.SQL("SELECT {}").format(_type_of(sql.SQL("({} LIMIT 0)").format(argument)))
    return replace(typed, argument_type=_ask(connection, source, query, "totals", str(aggregate)))


def _type_of(expression: sql.Composable) -> sql.Composable:
    # With a modifier of -1: the name alone, "character", means character(1) in a cast.
    return sql.SQL("format_type(pg_typeof({})::oid, -1)").format(expression)


def _ask(connection: psycopg.Connection[Any], source: Source, query: sql.Composed, parameter: str, text: str) -> Any:
    with _blaming(connection, source, parameter, text), connection.transaction():
        row = PlannerConnection(connection).fetch_one(query)
    return row[0] if row else None


@contextmanager
def _blaming(connection: psycopg.Connection[Any], source: Source, parameter: str, text: str) -> Iterator[None]:
    """Inside, an error that the server has with the SQL is one of ``parameter``."""
    try:
        yield
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        problem = f"the server says of {text!r}: {error.diag.message_primary or error}."
        raise InvalidParameterError(parameter, problem, _hint(connection, source, error)) from None


def _hint(connection: psycopg.Connection[Any], source: Source, error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.UndefinedTable) and "FROM" in (error.diag.message_primary or ""):
        return "Qualify a column by the table's name, without a schema: a partition is read under that name."
    hint = error.diag.message_hint or "Correct it; the SQL is used as it stands."
    if not isinstance(error, psycopg.errors.UndefinedColumn):
        return hint
    names = connection.execute(_COLUMNS, [source.relation.as_string(connection)]).fetchall()
    return f"{hint} The columns of {source} are {', '.join(name for (name,) in names)}."


_COLUMNS = """
    SELECT attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
