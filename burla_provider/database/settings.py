"""Session settings: names, timeouts, and what makes values the same in every session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError

NAME_LIMIT = 63
"""Bytes of an application_name that the server keeps."""

EXACT_TEXT = {"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex"}
"""Settings that make the text of a value exact and the same in every session."""

_VALUE_SETTINGS = (
    *("array_nulls", "backslash_quote", "DateStyle", "default_text_search_config", "lc_monetary", "lc_numeric"),
    *("lc_time", "quote_all_identifiers", "row_security", "search_path", "standard_conforming_strings", "TimeZone"),
    *("timezone_abbreviations", "transform_null_equals", "xmlbinary", "xmloption"),
)
"""Settings that decide which rows and values a query returns."""

_INHERITED = (*_VALUE_SETTINGS, "gin_fuzzy_search_limit")
_NOT_INHERITED = (
    *("application_name", "client_encoding", "statement_timeout", "lock_timeout", "transaction_timeout"),
    *("idle_in_transaction_session_timeout", "idle_session_timeout", "client_connection_check_interval", *EXACT_TEXT),
)
"""Settings that ``SessionSettings``, the connection or the worker set. ``datestyle`` is not ``DateStyle``."""

_IDENTITY = (
    *_VALUE_SETTINGS,
    *("bytea_output", "client_encoding", "extra_float_digits", "IntervalStyle", "session_replication_role"),
)
_IDENTITY_QUERY = """
    SELECT session_user::text, current_user::text,
           (SELECT array_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE name = ANY (%s)),
           -- A policy may read settings of an extension or of the user, which pg_settings does not show.
           (SELECT array_agg(setting ORDER BY setdatabase, setrole, setting)
              FROM pg_db_role_setting, unnest(setconfig) AS setting
             WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
               AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
               AND split_part(setting, '=', 1) LIKE '%%.%%')
"""

_UNREACHABLE_CLIENT = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}

_SET_NAME = sql.SQL("SET LOCAL application_name = ")


def inherited_settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the settings of this new session that the workers' sessions need.

    Their values come from the environment of this process (``PGTZ``, ``PGDATESTYLE``), or may differ in the workers'
    environment. Custom settings are part of the connection's ``options``.
    """
    query = """
        SELECT name, CASE name WHEN 'DateStyle' THEN 'ISO, ' || split_part(setting, ', ', 2) ELSE setting END
        FROM pg_settings
        WHERE context = 'user' AND (source IN ('client', 'session') OR name = ANY(%s))
            AND name <> ALL(%s) AND name NOT LIKE 'transaction\\_%%'
        UNION ALL SELECT 'role', current_setting('role')
    """
    rows = connection.execute(query, [list(_INHERITED), list(_NOT_INHERITED)], prepare=False).fetchall()
    return dict(rows)


def unreachable_client_settings(connection: psycopg.Connection[Any], *, reads_slowly: bool = False) -> dict[str, str]:
    """Return settings with which the server ends the session a minute after the client has become unreachable.

    By default it ends it after two hours: until then a session whose client is behind a dead network, or on a machine
    without power, holds its snapshot and its locks.

    :param reads_slowly: whether the client may leave rows unread for any time. Linux applies ``tcp_user_timeout`` to
        that too, so there is no such limit. If the client becomes unreachable while the server sends, the server
        notices it when the system ends its retransmissions, after 15 to 30 minutes.
    """
    if connection.info.server_version < 120000:
        return {}
    return _UNREACHABLE_CLIENT | ({"tcp_user_timeout": "0"} if reads_slowly else {})


def session_identity(connection: psycopg.Connection[Any]) -> list[Any]:
    """Return the session's roles and settings. Two sessions in which they are equal see the same rows and values."""
    [row] = connection.execute(_IDENTITY_QUERY, [list(_IDENTITY)]).fetchall()
    return list(row)


def is_under_row_security(connection: psycopg.Connection[Any], schema: str, table: str) -> bool:
    """Return whether policies decide which rows of the table this session sees."""
    relation = sql.Identifier(schema, table).as_string(connection)
    [(active,)] = connection.execute("SELECT row_security_active(%s::regclass)", [relation]).fetchall()
    return bool(active)


@dataclass(frozen=True)
class SessionSettings:
    """Settings of every transaction of a job. Timeouts are in seconds; None: the server's default; 0: no limit.

    :param name: "dag.task.run"; ``pg_stat_activity`` shows it with the number of the range.
    :param statement_timeout: limit for one statement.
    :param lock_timeout: limit for waiting for one lock.
    :param idle_in_transaction_session_timeout: limit for user code between two statements.
    :param inherited: ``inherited_settings`` of the task's session.
    :raises InvalidParameterError: if a timeout is out of range.
    """

    name: str = "burla"
    statement_timeout: float | None = None
    lock_timeout: float | None = None
    idle_in_transaction_session_timeout: float | None = None
    inherited: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, seconds in self._timeouts().items():
            if seconds is not None and not 0 <= seconds < 2**31 / 1000:
                raise InvalidParameterError(name, f"must be 0 to 2,147,483 seconds, got {seconds}.", "0 is no limit.")

    def transaction_sql(self, suffix: str = "", defaults: Mapping[str, str] = MappingProxyType({})) -> sql.Composed:
        """Return statements that set the settings for one transaction, so that a pooled session keeps none.

        :param suffix: added to the name, such as " #17".
        :param defaults: values of settings that are None here.
        """
        name = {"application_name": application_name(self.name, suffix)}
        return local_settings(name | EXACT_TEXT | dict(defaults) | self._milliseconds())

    def name_sql(self, suffix: str) -> sql.Composed:
        """Return the statement that sets only the name for another range."""
        return sql.Composed([_SET_NAME, sql.Literal(application_name(self.name, suffix))])

    def range_sql(self, suffix: str, defaults: Mapping[str, str]) -> sql.Composed:
        """Return the statements of these settings for another range in the same transaction."""
        timeout = "idle_in_transaction_session_timeout"
        settings = {**defaults, **self._milliseconds()}
        return local_settings({"application_name": application_name(self.name, suffix), timeout: settings[timeout]})

    def _timeouts(self) -> dict[str, float | None]:
        return {
            "statement_timeout": self.statement_timeout,
            "lock_timeout": self.lock_timeout,
            "idle_in_transaction_session_timeout": self.idle_in_transaction_session_timeout,
        }

    def _milliseconds(self) -> dict[str, str]:
        # Never rounded down to 0, which would mean "no limit".
        return {
            name: str(max(1, round(seconds * 1000)) if seconds else 0)
            for name, seconds in self._timeouts().items()
            if seconds is not None
        }


def local_settings(settings: dict[str, str]) -> sql.Composed:
    """Return ``SET LOCAL`` statements."""
    statements = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
    ]
    return sql.SQL("; ").join(statements)


def set_config(settings: Mapping[str, str], *, local: bool) -> sql.Composed:
    """Return a query that sets settings. Unlike ``SET``, it accepts a list of names as a value."""
    calls = [
        sql.SQL("set_config({}, {}, {})").format(sql.Literal(name), sql.Literal(value), sql.Literal(local))
        for name, value in settings.items()
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def application_name(name: str, suffix: str = "") -> str:
    """Return ``name`` and ``suffix`` in printable ASCII, the name shortened so that both fit into ``NAME_LIMIT``."""
    ascii_name = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    return ascii_name[: NAME_LIMIT - len(suffix)] + suffix
