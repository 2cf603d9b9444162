"""Aggregates that are computed per range and combined exactly: count, sum, min, max and avg."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

_NUMBERS = frozenset(["smallint", "integer", "bigint", "numeric", "real", "double precision", "oid"])
"""Types whose values Python represents exactly. Values of other types are sent as the text that PostgreSQL prints."""


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of ``totals``.

    :param name: name in the result.
    :param function: "count", "sum", "min", "max" or "avg".
    :param argument: SQL of the argument; "*" for ``count(*)``.
    :param filter: SQL of the condition after FILTER; None: all rows.
    :param type: type of the result, from the server; "" before ``check_totals``.
    :param argument_type: type of the argument, or the base type of its domain, from the server; "" before
        ``check_totals``.
    """

    name: str
    function: str
    argument: str
    filter: str | None = None
    type: str = ""
    argument_type: str = ""

    def __str__(self) -> str:
        condition = f" FILTER (WHERE {self.filter.strip()})" if self.filter is not None else ""
        return f"{self.function}({self.argument}){condition}"

    @property
    def is_number(self) -> bool:
        """Whether Python combines the values; otherwise the server does (``combine/sql_combiner.py``)."""
        if self.function in ("min", "max"):
            return self.type in _NUMBERS
        return self.function == "count" or self.argument_type in _NUMBERS or self.is_float_sum

    @property
    def is_float_sum(self) -> bool:
        """Whether it is the sum or the average of floats, or of a domain over floats."""
        return self.function in ("sum", "avg") and self.type in ("real", "double precision")

    @property
    def call_sql(self) -> sql.Composable:
        """The aggregate itself."""
        return self._call(self.function)

    @property
    def argument_sql(self) -> sql.Composable:
        """The argument as an expression."""
        return sql.SQL(f"(\n{self.argument}\n)")

    def partials(self) -> list[sql.Composable]:
        """Return the columns to select per range, from which the total can be combined."""
        if self.function == "count":
            return [self._call("count")]
        parts = [self._sum_sql if self.function in ("sum", "avg") else self.call_sql]
        if not self.is_number:
            parts = [sql.SQL("({})::text").format(part) for part in parts]
        return [*parts, self._call("count")] if self.function == "avg" else parts

    @property
    def _sum_sql(self) -> sql.Composable:
        # A sum of floats depends on the order of the rows; a sum of the decimals that they are printed as does not.
        # Via float8, because 0.1::real is another number. A cast of float8 to numeric keeps only 15 digits.
        return self._call("sum", f"({self.argument}\n)::float8::text::numeric" if self.is_float_sum else self.argument)

    def _call(self, function: str, argument: str = "") -> sql.Composable:
        condition = f" FILTER (WHERE {self.filter}\n)" if self.filter is not None else ""
        return sql.SQL(f"{function}({argument or self.argument}\n){condition}")
