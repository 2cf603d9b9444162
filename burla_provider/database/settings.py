"""What a session tells the server about itself, and what it lets itself take."""

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

AS_TEXT = {"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex"}
"""Values that travel as text are the same text in every session, and exact."""

_INHERITED = (
    *("DateStyle", "TimeZone", "timezone_abbreviations", "lc_monetary", "lc_numeric", "lc_time", "search_path"),
    *("row_security", "default_text_search_config", "standard_conforming_strings", "backslash_quote", "array_nulls"),
    *("transform_null_equals", "quote_all_identifiers", "xmlbinary", "xmloption", "gin_fuzzy_search_limit"),
)
"""Settings that change what an expression means, or which rows there are."""

_NOT_INHERITED = (
    *("application_name", "client_encoding", "statement_timeout", "lock_timeout", "transaction_timeout"),
    *("idle_in_transaction_session_timeout", "idle_session_timeout", "client_connection_check_interval", *AS_TEXT),
)
"""Settings that ``Session``, the connection or the worker sees to. ``datestyle`` is not ``DateStyle``."""


def inherited_settings(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the settings that workers take over from this session, which nobody has changed yet.

    They come from the environment of this process (``PGTZ``, ``PGDATESTYLE``), which the workers do not have, or may
    differ because of theirs. Custom settings are not among them: they come with the connection's ``options``.
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


@dataclass(frozen=True)
class Session:
    """Settings of every transaction of a job; seconds, None leaves the server's own, 0 is no limit.

    :param name: who is at work, "dag.task.run"; ``pg_stat_activity`` shows it with the range behind it.
    :param statement_timeout: of one statement.
    :param lock_timeout: of waiting for one lock.
    :param idle_in_transaction_session_timeout: of user code that computes between two statements.
    :param inherited: what ``inherited_settings`` answered in the task.
    :raises InvalidParameterError: a negative number of seconds.
    """

    name: str = "burla"
    statement_timeout: float | None = None
    lock_timeout: float | None = None
    idle_in_transaction_session_timeout: float | None = None
    inherited: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, seconds in self._timeouts().items():
            if seconds is not None and not 0 <= seconds < 2**31 / 1000:
                raise InvalidParameterError(name, f"{seconds} is out of range.", "Give seconds, 0 for no limit.")

    def settings(self, suffix: str = "", unless_given: Mapping[str, str] = MappingProxyType({})) -> sql.Composed:
        """The settings as statements for the transaction that they begin: no state stays behind in a pooled session.

        :param suffix: what follows the name: " #17".
        :param unless_given: of settings that this session leaves open.
        """
        name = {"application_name": application_name(self.name, suffix)}
        return local_settings(name | AS_TEXT | dict(unless_given) | self._milliseconds())

    def settings_of_range(self, suffix: str, unless_given: Mapping[str, str]) -> sql.Composed:
        """What another range in the same transaction needs of these settings."""
        limit = "idle_in_transaction_session_timeout"
        given = {**unless_given, **self._milliseconds()}
        return local_settings({"application_name": application_name(self.name, suffix), limit: given[limit]})

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
    """``SET LOCAL`` statements."""
    statements = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in settings.items()
    ]
    return sql.SQL("; ").join(statements)


def set_config(settings: Mapping[str, str], *, local: bool) -> sql.Composed:
    """A query that sets what may be a list, which ``SET`` would take for one name."""
    calls = [
        sql.SQL("set_config({}, {}, {})").format(sql.Literal(name), sql.Literal(value), sql.Literal(local))
        for name, value in settings.items()
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls))


def application_name(name: str, suffix: str = "") -> str:
    """``name`` and ``suffix`` as the server keeps them: printable ASCII, cut where the suffix does not suffer."""
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    return plain[: NAME_LIMIT - len(suffix)] + suffix
