"""What in a query would be evaluated anew in each range's transaction, with another value: ``now()``, ``random()``.

The server says it, without running the query: its plan shows every expression after views, policies and SQL functions
are expanded, and ``pg_proc`` knows which functions are VOLATILE. Literals such as ``'today'`` are constants by then, so
they are looked for in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from burla_provider.ranges.ordinals import RELATIVE_DATETIME
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.worker.sql_text import tokens

_NAME = r'(?:"(?:[^"]|"")*"|[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)'
_PART = re.compile(
    rf"(?P<string>E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')|(?P<name>{_NAME}(?:\.{_NAME})*)(?P<call>\()?", re.DOTALL
)
_CAST_LATER = re.compile(r"(?:::[a-z ]+(?:\(\d+\))?(?:\[\])?\)+)+::(?:date|time)")
"""Behind a string: it is cast to text first, so it becomes a date when the query runs."""

_CLOCKS = ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP")
"""How plans print what SQL has keywords for."""

_OF_THE_TRANSACTION = """
    now transaction_timestamp statement_timestamp txid_current txid_current_if_assigned txid_current_snapshot
    pg_current_xact_id pg_current_xact_id_if_assigned pg_current_snapshot pg_backend_pid inet_client_port
    pg_my_temp_schema
""".split()  # noqa: SIM905
"""STABLE functions of PostgreSQL's own that have another value in each transaction or session."""

_NO_EXPRESSIONS = ("Alias", "Schema", "Remote SQL")


def find_volatile(queries: PlannerConnection, query: sql.Composable) -> list[str]:
    """Return what the query calls that has another value in each range, as a person would write it.

    :raises psycopg.Error: the server does not accept the query.
    """
    explain = sql.SQL("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {}").format(query)
    [plan] = queries.fetch_value(explain)
    if "Subplans Removed" in str(plan):  # with the filters that were in them
        with queries.local_settings(enable_partition_pruning="off"):
            [plan] = queries.fetch_value(explain)
    found: dict[str, None] = {}
    calls: set[tuple[str, ...]] = set()
    for text in sorted(set(_expressions(plan["Plan"]))):
        for part in _PART.finditer(text):
            if part["string"]:
                if RELATIVE_DATETIME.search(part["string"]) and _CAST_LATER.match(text, part.end()):
                    found[part["string"]] = None
            elif part["name"] in _CLOCKS:
                found[part["name"].lower()] = None
            elif part["call"]:
                calls.add((*_split(part["name"]), str(_count_arguments(text, part.end()))))
    return [*found, *_volatile(queries, calls)]


def relative_literals(connection: psycopg.Connection[Any], text: str) -> Iterator[tuple[str, str]]:
    """Yield the literals in ``text`` that may be relative to now, such as 'today', and ``text`` with another word each.

    Whether 'today' is a date or a text, only the server knows: ``is_date_error`` asks it with the other word.
    """
    for token in tokens(text, escapes=has_escapes(connection)):
        literal = text[token.start : token.end]
        if token.kind == "string" and RELATIVE_DATETIME.search(literal):
            yield literal, text[: token.start] + RELATIVE_DATETIME.sub("nodate", literal) + text[token.end :]


def is_date_error(connection: psycopg.Connection[Any], query: sql.Composable) -> bool:
    """Whether the server refuses the query because of a text that is no date or time."""
    try:
        with connection.transaction(force_rollback=True):
            PlannerConnection(connection).fetch_all(sql.SQL("EXPLAIN {}").format(query))
    except psycopg.errors.InvalidDatetimeFormat:
        return True
    except psycopg.Error:  # no value of an enum, for example
        return False
    return False


def has_escapes(connection: psycopg.Connection[Any]) -> bool:
    """Whether a backslash escapes also in a plain string."""
    return connection.info.parameter_status("standard_conforming_strings") == "off"


def _expressions(node: Any, key: str = "") -> Iterator[str]:
    """Yield the texts of a plan that are expressions, not names."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _expressions(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value, key)
    elif isinstance(node, str) and key not in _NO_EXPRESSIONS and not key.endswith(" Name"):
        yield node


def _split(name: str) -> tuple[str, str]:
    """Schema ("" if there is none) and name of a function, as ``pg_proc`` has them."""
    parts = [part[1:-1].replace('""', '"') if part[0] == '"' else part for part in re.findall(_NAME, name)]
    return (parts[-2] if len(parts) > 1 else ""), parts[-1]


def _count_arguments(text: str, start: int) -> int:
    """How many arguments a call has whose bracket opens just before ``start``."""
    depth, commas, is_empty = 1, 0, True
    for token in tokens(text, start):
        letter = text[token.start] if token.kind == "other" else ""
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if depth == 0:
            break
        is_empty = is_empty and token.kind == "blank"
        commas += depth == 1 and letter == ","
    return 0 if is_empty else commas + 1


def _volatile(queries: PlannerConnection, calls: set[tuple[str, ...]]) -> list[str]:
    if not calls:
        return []
    schemas, names, counts = (sql.Literal(list(column)) for column in zip(*sorted(calls), strict=True))
    query = sql.SQL(_VOLATILE).format(
        schemas=schemas, names=names, counts=counts, stable=sql.Literal(_OF_THE_TRANSACTION)
    )
    return [name for (name,) in queries.fetch_all(query)]


# A function's arguments are not in its name, so of several functions with one name each that takes as many counts.
_VOLATILE: LiteralString = """
    SELECT DISTINCT CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE n.nspname || '.' END || p.proname || '()'
    FROM unnest({schemas}::text[], {names}::text[], {counts}::text[]) AS call (schema, name, arguments)
    JOIN pg_catalog.pg_proc AS p ON p.proname = call.name
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE CASE WHEN call.schema = '' THEN pg_catalog.pg_function_is_visible(p.oid) ELSE n.nspname = call.schema END
        AND (p.provariadic <> 0
            OR call.arguments::int BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs)
        AND (p.provolatile = 'v' OR n.nspname = 'pg_catalog' AND (
            p.proname = ANY({stable}) OR p.proname = 'age' AND p.pronargs = 1))
    ORDER BY 1
"""
