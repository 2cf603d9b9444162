"""What a session tells the server about itself, and what it lets itself take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from psycopg import sql

from burla_provider.exceptions import InvalidParameter

NAME_LIMIT = 63
"""Bytes of an application_name that the server keeps."""

AS_TEXT = {"datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex"}
"""Values that travel as text are the same text in every session, and exact."""


@dataclass(frozen=True)
class Session:
    """Settings of every transaction of a job; seconds, None leaves the server's own, 0 is no limit.

    :param name: who is at work, "dag.task.run"; ``pg_stat_activity`` shows it with the range behind it.
    :param statement_timeout: of one statement.
    :param lock_timeout: of waiting for one lock.
    :param idle_in_transaction_session_timeout: of user code that computes between two statements.
    :raises InvalidParameter: a negative number of seconds.
    """

    name: str = "burla"
    statement_timeout: float | None = None
    lock_timeout: float | None = None
    idle_in_transaction_session_timeout: float | None = None

    def __post_init__(self) -> None:
        for name, seconds in self._timeouts().items():
            if seconds is not None and not 0 <= seconds < 2**31 / 1000:
                raise InvalidParameter(name, f"{seconds} is out of range.", "Give seconds, 0 for no limit.")

    def settings(self, suffix: str = "", unless_given: Mapping[str, str] = MappingProxyType({})) -> sql.Composed:
        """The settings as statements for the transaction that they begin: no state stays behind in a pooled session.

        :param suffix: what follows the name: " #17".
        :param unless_given: of settings that this session leaves open.
        """
        name = {"application_name": application_name(self.name, suffix)}
        return local_settings(name | AS_TEXT | dict(unless_given) | self._milliseconds())

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


def application_name(name: str, suffix: str = "") -> str:
    """``name`` and ``suffix`` as the server keeps them: printable ASCII, cut where the suffix does not suffer."""
    plain = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    return plain[: NAME_LIMIT - len(suffix)] + suffix
