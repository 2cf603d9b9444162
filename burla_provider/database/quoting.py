"""Quote names, values and types as SQL without a percent sign.

psycopg treats ``%`` as the start of a placeholder only if a query has parameters. SQL without the sign means the same
with and without parameters.
"""

from __future__ import annotations

import re

from psycopg import sql
from psycopg.abc import AdaptContext

_QUOTED_NAME = re.compile(r'"((?:[^"]|"")*)"')


class Identifier(sql.Identifier):
    r"""A name, qualified or not, without a percent sign in its SQL: ``U&"50\0025"`` for ``50%``."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return the quoted name."""
        return b".".join(_quote_name(part, context) for part in self._obj)

    def as_regclass(self, context: AdaptContext | None = None) -> str:
        """Return the name for a parameter of ``to_regclass``, which does not read escapes."""
        return sql.Identifier(*self._obj).as_string(context)


class Literal(sql.Literal):
    r"""A value without a percent sign in its SQL: ``E'50\045'`` for ``50%``."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return the quoted value."""
        quoted = bytes(super().as_bytes(context))
        if b"%" not in quoted:
            return quoted
        # psycopg writes a value with a backslash as a string with escapes.
        prefix = b"" if quoted.lstrip().startswith(b"E'") else b"E"
        return prefix + quoted.replace(b"%", rb"\045")


def as_text(composable: sql.Composable) -> sql.SQL:
    """Return the same SQL, which psycopg need not put together each time."""
    return sql.SQL(composable.as_string())


def type_name(name: str) -> sql.SQL:
    """Return a type name that ``format_type`` printed, without a percent sign."""
    return sql.SQL(_QUOTED_NAME.sub(_without_percent, name) if "%" in name else name)


def _quote_name(name: str, context: AdaptContext | None) -> bytes:
    if "%" not in name:
        return sql.Identifier(name).as_bytes(context)
    return b"U&" + sql.Identifier(_escaped(name)).as_bytes(context)


def _without_percent(quoted: re.Match[str]) -> str:
    return f'U&"{_escaped(quoted[1])}"' if "%" in quoted[1] else quoted[0]


def _escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace("%", "\\0025")
