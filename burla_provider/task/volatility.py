"""Find expressions whose value differs between the transactions of ranges: ``now()``, ``random()``, ``'today'``.

The server plans the query without running it. The plan shows every expression after views, policies and SQL functions
are expanded, and ``pg_proc`` has the volatility of each function. Literals such as ``'today'`` are constants in the
plan, so they are searched in the text. Operators and casts are known by the functions that implement them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from burla_provider.ranges.ordinals import RELATIVE_DATETIME
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.sql_text import has_escapes, tokens

_NAME = r'(?:"(?:[^"]|"")*"|[A-Za-z_\u0080-\U0010ffff][A-Za-z0-9_$\u0080-\U0010ffff]*)'
_PART = re.compile(
    rf"(?P<string>E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*')|(?P<cast>::)?(?P<name>{_NAME}(?:\.{_NAME})*)(?P<call>\()?"
    r"|(?P<operator>[-+*/<>=~!@#%^&|`?]+)",
    re.DOTALL,
)
_CAST_AT_RUNTIME = re.compile(r"(?:::[a-z ]+(?:\(\d+\))?(?:\[\])?\)+)+::(?:date|time)")
"""Follows a string that is cast to text first, so that it becomes a date only when the query runs."""

RANDOM_SAMPLE = "TABLESAMPLE without REPEATABLE"

_CLOCKS = ("CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP", "LOCALTIME", "LOCALTIMESTAMP")
"""Keywords for the current time, as plans print them."""

_TRANSACTION_FUNCTIONS = """
    now transaction_timestamp statement_timestamp txid_current txid_current_if_assigned txid_current_snapshot
    pg_current_xact_id pg_current_xact_id_if_assigned pg_current_snapshot pg_backend_pid inet_client_port
    pg_my_temp_schema
""".split()  # noqa: SIM905
"""Built-in STABLE functions whose value differs between transactions or sessions."""

_NAME_KEYS = ("Alias", "Schema", "Remote SQL")
"""Keys of a plan whose values are not expressions, besides those that end in " Name"."""


def find_volatile(connection: PlannerConnection, query: sql.Composable) -> list[str]:
    """Return the calls of the query whose value may differ per range, such as "now()".

    :raises psycopg.Error: if the server rejects the query.
    """
    explain = sql.SQL("EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) {}").format(query)
    [plan] = connection.fetch_value(explain)
    if "Subplans Removed" in str(plan):  # their filters are not shown
        with connection.local_settings(enable_partition_pruning="off"):
            [plan] = connection.fetch_value(explain)
    found: dict[str, None] = {RANDOM_SAMPLE: None} if _has_random_sample(plan["Plan"]) else {}
    calls: set[tuple[str, ...]] = set()
    operators: set[str] = set()
    cast_types: set[str] = set()
    for text in sorted(set(_expressions(plan["Plan"]))):
        for part in _PART.finditer(text):
            if part["string"]:
                if RELATIVE_DATETIME.search(part["string"]) and _CAST_AT_RUNTIME.match(text, part.end()):
                    found[part["string"]] = None
            elif part["operator"]:
                operators.add(part["operator"])
            elif part["cast"]:
                cast_types.add(part["name"])
            elif part["name"] in _CLOCKS:
                found[part["name"].lower()] = None
            elif part["call"]:
                calls.add((*_split(part["name"]), str(_count_arguments(text, part.end()))))
    return [*found, *_volatile(connection, calls, operators, cast_types)]


def relative_literals(connection: psycopg.Connection[Any], text: str) -> Iterator[tuple[str, str]]:
    """Yield each literal that may be relative to now, such as 'today', and ``text`` with an invalid date in its place.

    Only the server knows whether 'today' is a date or a text: ``is_date_error`` asks it with the changed text.
    """
    for token in tokens(text, escapes=has_escapes(connection)):
        literal = text[token.start : token.end]
        if token.kind == "string" and RELATIVE_DATETIME.search(literal):
            yield literal, text[: token.start] + RELATIVE_DATETIME.sub("nodate", literal) + text[token.end :]


def is_date_error(connection: psycopg.Connection[Any], query: sql.Composable) -> bool:
    """Return whether the server rejects the query because of an invalid date or time."""
    try:
        with connection.transaction(force_rollback=True):
            PlannerConnection(connection).fetch_all(sql.SQL("EXPLAIN {}").format(query))
    except psycopg.errors.InvalidDatetimeFormat:
        return True
    except psycopg.Error:  # such as an invalid value of an enum
        return False
    return False


def _expressions(node: Any, key: str = "") -> Iterator[str]:
    """Yield the texts of a plan that are expressions, not names."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _expressions(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _expressions(value, key)
    elif isinstance(node, str) and key not in _NAME_KEYS and not key.endswith(" Name"):
        yield node


def _has_random_sample(node: dict[str, Any]) -> bool:
    is_random = node["Node Type"] == "Sample Scan" and "Repeatable Seed" not in node
    return is_random or any(map(_has_random_sample, node.get("Plans", ())))


def _split(name: str) -> tuple[str, str]:
    """Return schema ("" if there is none) and name of a function, unquoted."""
    parts = [part[1:-1].replace('""', '"') if part[0] == '"' else part for part in re.findall(_NAME, name)]
    return (parts[-2] if len(parts) > 1 else ""), parts[-1]


def _count_arguments(text: str, start: int) -> int:
    """Return the number of arguments of the call whose bracket opens just before ``start``."""
    depth, commas, is_empty = 1, 0, True
    for token in tokens(text, start):
        letter = text[token.start] if token.kind == "other" else ""
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if depth == 0:
            break
        is_empty = is_empty and token.kind == "blank"
        commas += depth == 1 and letter == ","
    return 0 if is_empty else commas + 1


def _volatile(
    connection: PlannerConnection, calls: set[tuple[str, ...]], operators: set[str], cast_types: set[str]
) -> list[str]:
    if not (calls or operators or cast_types):
        return []
    schemas, names, counts = (sql.Literal([call[place] for call in sorted(calls)]) for place in range(3))
    query = sql.SQL(_VOLATILE).format(
        schemas=schemas,
        names=names,
        counts=counts,
        stable=sql.Literal(_TRANSACTION_FUNCTIONS),
        operators=sql.Literal(sorted(operators)),
        cast_types=sql.Literal(sorted(cast_types)),
    )
    return [name for (name,) in connection.fetch_all(query)]


# A plan does not show argument types, so every function with this name and number of arguments counts. Most operators
# have many functions, of which an extension may have declared one carelessly: an operator counts if all are volatile.
_VOLATILE: LiteralString = """
    SELECT CASE WHEN n.nspname = 'pg_catalog' THEN '' ELSE n.nspname || '.' END || p.proname || '()'
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.oid IN (
        SELECT p.oid FROM unnest({schemas}::text[], {names}::text[], {counts}::text[]) AS call (schema, name, arguments)
        JOIN pg_catalog.pg_proc AS p ON p.proname = call.name
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE CASE WHEN call.schema = '' THEN pg_catalog.pg_function_is_visible(p.oid) ELSE n.nspname = call.schema END
            AND (p.provariadic <> 0
                OR call.arguments::int BETWEEN p.pronargs - p.pronargdefaults AND p.pronargs)
            AND (p.provolatile = 'v' OR n.nspname = 'pg_catalog' AND (
                p.proname = ANY({stable}) OR p.proname = 'age' AND p.pronargs = 1))
        UNION ALL
        SELECT unnest(array_agg(p.oid))
        FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode
        WHERE o.oprname = ANY({operators}::text[]) GROUP BY o.oprname HAVING bool_and(p.provolatile = 'v')
        UNION ALL
        SELECT p.oid FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_proc AS p ON p.oid = c.castfunc
        WHERE pg_catalog.format_type(c.casttarget, NULL) = ANY({cast_types}::text[]) AND p.provolatile = 'v'
    )
    GROUP BY n.nspname, p.proname ORDER BY 1
"""
