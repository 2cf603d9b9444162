"""Check the user's SQL with the server: ``where``, ``columns``, and the queries of ``sql_totals``. No row is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.sql_text import closing_bracket, has_escapes, words
from burla_provider.task.volatility import RANDOM_SAMPLE, find_volatile, is_date_error, relative_literals
from burla_provider.worker.source import Source
from burla_provider.worker.stream import describe_columns

_FOREIGN_SERVER_ERRORS = ("HV", "08", "55000")
"""SQLSTATEs, or their first characters, if a foreign table cannot be planned because its server does not respond."""

_USE_PARAMETERS = (
    'Give the value as a parameter: where="at >= %(since)s", parameters={"since": "{{ data_interval_start }}"}.'
)
_USE_TEMPLATE = "Write the value with a template: \"'{{ data_interval_start }}'::timestamptz - created_at\"."
_READ_TABLE = "Read its table instead, with the condition in where and its values in parameters."


def fill_in_parameters(connection: psycopg.Connection[Any], where: str, parameters: Any) -> str:
    """Return the condition with its parameters inserted as quoted literals.

    :raises InvalidParameterError: if placeholders and parameters do not match.
    """
    try:
        return psycopg.ClientCursor(connection).mogrify(where, parameters)
    except (TypeError, psycopg.ProgrammingError, psycopg.DataError) as error:
        raise InvalidParameterError(
            "parameters",
            f"do not match the placeholders of where: {error}.",
            "Use %s or %(name)s, and %% for a %.",
        ) from None


def check_source(connection: psycopg.Connection[Any], source: Source, *, in_snapshot: bool = True) -> None:
    """Check that the server accepts ``where`` and ``columns``, and that they mean the same in each range.

    :param in_snapshot: all ranges read one snapshot, so a view must not depend on ``now()``.
    :raises InvalidParameterError: if the server rejects them, or they may differ per range.
    """
    condition = source.where or ""
    if not is_balanced(connection, condition):
        # Inside the brackets that surround it, it might be valid SQL and select rows of other ranges.
        raise InvalidParameterError("where", f"in {condition!r} a bracket or a quote is not closed.", "Close it.")
    unfiltered = replace(source, where=None)
    try:
        found = _volatile_calls_of(connection, source, "where" if condition else "table", condition or str(source))
    except InvalidParameterError:
        _volatile_calls_of(connection, unfiltered, "table", str(source))  # raises if the table is the cause
        raise
    table_calls = _volatile_calls_of(connection, unfiltered, "table", str(source)) if found else []
    if table_calls and in_snapshot:
        refuse_volatile("table", f"{source} (a view, or its row security)", table_calls, _READ_TABLE)
    where_calls = [name for name in found if name not in table_calls or name.removesuffix("()") in words(condition)]
    where_calls += [
        literal
        for literal, text in relative_literals(connection, condition)
        if is_date_error(connection, _rows_query(replace(source, where=text)))
    ]
    refuse_volatile("where", repr(condition), where_calls, _USE_PARAMETERS)
    if isinstance(source.columns, Mapping):
        for name, text in source.columns.items():
            _check_expression(connection, source, name, text)
    # Only these columns: the role may lack the privilege to read the others.
    if source.columns:
        query_value(connection, source, source.select_none(source.column_list), "columns", ", ".join(source.columns))


def query_value(
    connection: psycopg.Connection[Any], source: Source, query: sql.Composed, parameter: str, text: str
) -> Any:
    """Return the first value of a query, or None.

    :param parameter: the parameter that ``text`` is from.
    :raises InvalidParameterError: if the server rejects the query.
    """
    with _errors_blame(connection, source, parameter, text), connection.transaction():
        row = PlannerConnection(connection).fetch_one(query)
    return row[0] if row else None


def volatile_calls(connection: psycopg.Connection[Any], query: sql.Composable) -> list[str]:
    """Return the calls of the query whose value may differ per range.

    :raises psycopg.Error: if the server rejects the query.
    """
    try:
        with connection.transaction():
            return find_volatile(PlannerConnection(connection), query)
    except psycopg.Error as error:
        if (error.sqlstate or "").startswith(_FOREIGN_SERVER_ERRORS):
            return []  # The window may exclude its partitions, which only the plan knows.
        raise


def refuse_volatile(parameter: str, text: str, found: list[str], advice: str) -> None:
    """Raise an error if volatile expressions were found.

    :raises InvalidParameterError: if ``found`` is not empty.
    """
    if not found:
        return
    problem = f"{text} has {', '.join(found)}, whose value may differ from range to range."
    if found == [RANDOM_SAMPLE]:
        advice = "Add REPEATABLE (1), which samples the same rows each time."
    user_functions = [name for name in found if name.endswith("()") and "." in name]
    if user_functions:
        advice = f"Declare {user_functions[0]} STABLE or IMMUTABLE if it returns the same for the same arguments."
    raise InvalidParameterError(parameter, problem, advice)


def _check_expression(connection: psycopg.Connection[Any], source: Source, name: str, text: str) -> None:
    if not is_balanced(connection, text):
        raise InvalidParameterError(
            "columns", f"{name!r} is {text!r}: a bracket or a quote is not closed.", "Close it."
        )
    # In a condition the server rejects everything but one value per row: aggregates, set-returning functions.
    single = replace(source, columns={name: text}, where=f"(\n{text}\n) IS NULL")
    query_value(connection, source, single.select_none(sql.SQL("TRUE")), "columns", text)
    query = single.select_none(single.column_list)
    query_value(connection, source, query, "columns", text)
    described = describe_columns(connection, query)
    if len(described) != 1:
        problem = f"{name!r} is {text!r}, which is not one expression."
        raise InvalidParameterError("columns", problem, "Give each expression its own name.")
    if described[0].name != name:  # two names may become the same one
        problem = f"has the name {name!r}, of which PostgreSQL keeps only {described[0].name!r}."
        raise InvalidParameterError("columns", problem, "Use a name of at most 63 bytes.")
    found = volatile_calls(connection, _rows_query(single))
    found += [
        literal
        for literal, variant in relative_literals(connection, text)
        if is_date_error(connection, _rows_query(replace(source, where=f"(\n{variant}\n) IS NULL")))
    ]
    refuse_volatile("columns", f"{name!r}, which is {text!r},", found, _USE_TEMPLATE)


def is_balanced(connection: psycopg.Connection[Any], text: str) -> bool:
    """Return whether all brackets and quotes of the text are closed, and not more."""
    return closing_bracket(f"{text}\n)", escapes=has_escapes(connection)) == len(text) + 1


def _rows_query(source: Source) -> sql.Composed:
    return source.select(sql.SQL(""), KeyRange(Key(), 0))


def _volatile_calls_of(connection: psycopg.Connection[Any], source: Source, parameter: str, text: str) -> list[str]:
    with _errors_blame(connection, source, parameter, text):
        return volatile_calls(connection, _rows_query(source))


@contextmanager
def _errors_blame(connection: psycopg.Connection[Any], source: Source, parameter: str, text: str) -> Iterator[None]:
    """Turn the server's errors about the SQL into errors about ``parameter``."""
    try:
        yield
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.NotSupportedError) as error:
        problem = f"the server rejects {text!r}: {error.diag.message_primary or error}."
        raise InvalidParameterError(parameter, problem, _hint(connection, source, error)) from None


def _hint(connection: psycopg.Connection[Any], source: Source, error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.UndefinedTable) and "FROM" in (error.diag.message_primary or ""):
        return "Qualify a column by the table's name, without a schema: a partition is read under that name."
    if isinstance(error, psycopg.errors.InsufficientPrivilege) and "row-level security" in str(error):
        return "Set row_security to on for this role, to process the rows that it sees, or use a role with BYPASSRLS."
    hint = error.diag.message_hint or "Correct it; the SQL is used as it stands."
    if not isinstance(error, psycopg.errors.UndefinedColumn):
        return hint
    names = connection.execute(_COLUMNS, [source.relation.as_string(connection)]).fetchall()
    return f"{hint} The columns of {source} are {', '.join(name for (name,) in names)}."


_COLUMNS = """
    SELECT attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
