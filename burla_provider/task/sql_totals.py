"""The parameter ``totals``: parse its aggregates, and have the server check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.sql_checks import query_value, refuse_volatile, volatile_calls
from burla_provider.task.sql_text import closing_bracket, skip_blank, tokens
from burla_provider.task.volatility import is_date_error, relative_literals
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.json_values import find_reserved
from burla_provider.worker.outcome import RESERVED_KEYS
from burla_provider.worker.source import Source

FUNCTIONS = ("count", "sum", "min", "max", "avg")

_MAX_COLUMNS = 1664
"""Columns of one query's result: MaxTupleAttributeNumber of PostgreSQL."""

_ADVICE = (
    'Write one aggregate, such as "sum(amount)" or "max(price) FILTER (WHERE price < 100)":'
    " the functions are count, sum, min, max and avg."
)
_USE_VALUE = "Write the value itself, such as '{{ data_interval_start }}'."


_BASE_TYPE = """
    WITH RECURSIVE base (type) AS (  -- the last one is not a domain
        SELECT pg_typeof({})::oid
        UNION ALL SELECT typbasetype FROM base JOIN pg_catalog.pg_type ON oid = type WHERE typtype = 'd'
    )
    SELECT format_type(type, -1) FROM base JOIN pg_catalog.pg_type ON oid = type WHERE typtype <> 'd'
"""


def parse_totals(totals: Mapping[str, str], *, escapes: bool = False) -> tuple[Aggregate, ...]:
    """Return the aggregates of ``totals={"largest": "max(amount)"}``, not yet checked by the server.

    :param escapes: ``has_escapes`` of the connection.
    :raises InvalidParameterError: if ``totals`` is empty, or a text is not one supported aggregate without DISTINCT.
    """
    if not totals:
        raise InvalidParameterError("totals", "must not be empty.", _ADVICE)
    reserved = next((name for name in ("row_count", *RESERVED_KEYS) if name in totals), None)
    if problem := f"the name {reserved!r}, which is reserved" if reserved else find_reserved(totals):
        raise InvalidParameterError("totals", f"has {problem}.", "Use another name.")
    return tuple(_parse(name, text, escapes) for name, text in totals.items())


def check_totals(
    connection: psycopg.Connection[Any], source: Source, aggregates: tuple[Aggregate, ...]
) -> tuple[Aggregate, ...]:
    """Return the aggregates with the types that the server gives them. Reads no row.

    :raises InvalidParameterError: if the server rejects an aggregate, there are too many, or one may differ per range.
    """
    count = 1 + sum(len(aggregate.partials()) for aggregate in aggregates)
    if count > _MAX_COLUMNS:
        problem = f"require {count:,} values per range, and PostgreSQL returns at most {_MAX_COLUMNS:,}."
        raise InvalidParameterError("totals", problem, "Split them over several tasks; avg takes two values.")
    typed = tuple(_with_types(connection, source, aggregate) for aggregate in aggregates)
    if volatile_calls(connection, _partials_query(source, *typed)):
        for aggregate in typed:
            calls = volatile_calls(connection, _partials_query(source, aggregate))
            refuse_volatile("totals", str(aggregate), calls, _USE_VALUE)
    for aggregate in typed:
        arguments = relative_literals(connection, aggregate.argument)
        filters = relative_literals(connection, aggregate.filter or "")
        variants = [
            *((literal, replace(aggregate, argument=text)) for literal, text in arguments),
            *((literal, replace(aggregate, filter=text)) for literal, text in filters),
        ]
        literals = [
            literal for literal, variant in variants if is_date_error(connection, _partials_query(source, variant))
        ]
        refuse_volatile("totals", str(aggregate), literals, _USE_VALUE)
    return typed


def _parse(name: str, text: str, escapes: bool) -> Aggregate:
    function, end = _word(text, 0)
    start = skip_blank(text, end)
    if function not in FUNCTIONS or not text.startswith("(", start):
        raise InvalidParameterError(
            "totals", f"{name!r} is {text!r}, which is not an aggregate that can be combined.", _ADVICE
        )
    argument, rest = _split_at_bracket(name, text, start + 1, escapes)
    quantifier, end = _word(argument, 0)
    if quantifier == "distinct":
        raise InvalidParameterError(
            "totals",
            f"{name!r} is {text!r}: two ranges may have the same distinct values.",
            "Use process_rows, or a plain SQL query.",
        )
    argument = argument[skip_blank(argument, end if quantifier == "all" else 0) :].strip()
    is_star = argument.startswith("*") and skip_blank(argument, 1) == len(argument)
    return Aggregate(name, function, "*" if is_star else argument, _parse_filter(name, text, rest, escapes))


def _parse_filter(name: str, text: str, start: int, escapes: bool) -> str | None:
    end, condition = start, None
    word, word_end = _word(text, start)
    bracket = skip_blank(text, word_end)
    where, where_end = _word(text, bracket + 1)
    if word == "filter" and text.startswith("(", bracket) and where == "where":
        condition, end = _split_at_bracket(name, text, where_end, escapes)
    rest = text[skip_blank(text, end) :].strip()
    if rest:
        raise InvalidParameterError("totals", f"{name!r} has {rest!r} after its aggregate.", _ADVICE)
    return condition


def _word(text: str, start: int) -> tuple[str, int]:
    """Return the next word in lower case, and its end; "" if the next token is not a word."""
    token = next(tokens(text, skip_blank(text, start)), None)
    if token is None or token.kind != "word":
        return "", start
    return text[token.start : token.end].lower(), token.end


def _split_at_bracket(name: str, text: str, start: int, escapes: bool) -> tuple[str, int]:
    """Return the text between ``start`` and its closing bracket, and the position after the bracket."""
    end = closing_bracket(text, start, escapes=escapes)
    if end is None:
        raise InvalidParameterError("totals", f"{name!r} is {text!r}: a bracket or a quote is not closed.", _ADVICE)
    return text[start:end], end + 1


def _with_types(connection: psycopg.Connection[Any], source: Source, aggregate: Aggregate) -> Aggregate:
    query = source.select_none(_type_of(aggregate.call_sql))
    typed = replace(aggregate, type=query_value(connection, source, query, "totals", str(aggregate)))
    if aggregate.function == "count":
        return typed  # "*" has no type, and orders.* outside an aggregate is several columns.
    # A subquery, because pg_typeof(argument) is not an aggregate, and no rows would give no type.
    argument = source.select_none(aggregate.argument_sql)
    query = sql.SQL(_BASE_TYPE).format(sql.SQL("({} LIMIT 0)").format(argument))
    return replace(typed, argument_type=query_value(connection, source, query, "totals", str(aggregate)))


def _type_of(expression: sql.Composable) -> sql.Composable:
    # With a modifier of -1: the name alone, "character", means character(1) in a cast.
    return sql.SQL("format_type(pg_typeof({})::oid, -1)").format(expression)


def _partials_query(source: Source, *aggregates: Aggregate) -> sql.Composed:
    columns = [part for aggregate in aggregates for part in aggregate.partials()]
    return source.select(sql.SQL(", ").join(columns), KeyRange(Key(), 0))
