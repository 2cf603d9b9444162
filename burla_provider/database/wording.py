"""Words for numbers and names, in logs and errors."""

from __future__ import annotations

import re


def quantity(count: float, noun: str) -> str:
    """Return, for example, "1 range" or "1,200 ranges".

    :param noun: in the singular. Its plural ends in "s", or in "ies" instead of "y".
    """
    if f"{count:,.0f}" == "1":
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,.0f} {plural}"


def sql_name(name: str) -> str:
    """Return the name of a column as a person writes it in SQL: quoted only if needed. Keywords are not quoted."""
    return name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"{}"'.format(name.replace('"', '""'))


def not_found(table: str, database: str) -> str:
    """Return that a table was not found.

    :param table: its name as the user wrote it, which may have quotation marks.
    """
    name = table if '"' in table else f'"{table}"'
    return f"{name} not found in database {database}."
