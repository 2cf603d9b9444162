"""Who a session is to the server, and what decides which rows and values it sees."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

SETTINGS = """
    array_nulls backslash_quote bytea_output client_encoding DateStyle default_text_search_config extra_float_digits
    IntervalStyle lc_monetary lc_numeric lc_time quote_all_identifiers row_security search_path session_replication_role
    standard_conforming_strings TimeZone timezone_abbreviations transform_null_equals xmlbinary xmloption
""".split()  # noqa: SIM905
"""What changes which rows and values a query answers with."""

_QUERY = """
    SELECT session_user::text, current_user::text,
           (SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE name = ANY (%s)),
           -- A policy may ask for settings of an extension or of the user's own, which pg_settings does not show.
           (SELECT array_agg(setting ORDER BY setdatabase, setrole, setting)
              FROM pg_db_role_setting, unnest(setconfig) AS setting
             WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
               AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
               AND split_part(setting, '=', 1) LIKE '%%.%%')
"""


def session_identity(connection: psycopg.Connection[Any]) -> list[Any]:
    """Return what must be equal for two sessions to see the same rows and values: roles and settings."""
    [row] = connection.execute(_QUERY, [SETTINGS]).fetchall()
    return list(row)


def is_under_row_security(connection: psycopg.Connection[Any], schema: str, table: str) -> bool:
    """Return whether policies decide which rows of the table this session sees."""
    relation = sql.Identifier(schema, table).as_string(connection)
    [(active,)] = connection.execute("SELECT row_security_active(%s::regclass)", [relation]).fetchall()
    return bool(active)
