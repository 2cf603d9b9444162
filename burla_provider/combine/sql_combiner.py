"""Combine the partial aggregates of ``totals``: in Python if that is exact, otherwise on the server."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.combine.exact_sum import ExactSum, named_result, order_key, too_large_error
from burla_provider.database.settings import EXACT_TEXT, local_settings
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.source import Source


class SqlCombiner:
    """Combines the partial aggregates of ``SqlTotals``.

    :param aggregates: the aggregates with their types (``check_totals``).
    :param source: the rows that they aggregate.
    """

    def __init__(self, aggregates: tuple[Aggregate, ...], source: Source) -> None:
        self._totals = {aggregate.name: _total_of(aggregate, source) for aggregate in aggregates}

    @property
    def needs_server(self) -> bool:
        """Whether ``result`` needs a connection."""
        return any(total.needs_server for total in self._totals.values())

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Add the partial values of a range."""
        for name, total in self._totals.items():
            total.add(*value[name])

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return the totals by name.

        :param connection: needed if ``needs_server``.
        """
        return {name: total.result(connection) for name, total in self._totals.items()}


def sum_on_server(
    connection: psycopg.Connection[Any], type_name: str, texts: Sequence[str], divisor: int | None = None
) -> str:
    """Return the sum of the values, as text.

    :param type_name: type of the values as ``format_type`` prints it, such as "numeric", "interval" or "money".
    :param texts: the values as text.
    :param divisor: divides the sum, for an average.
    """
    query = sql.SQL("SELECT (sum(p::{type}){division})::text FROM unnest({texts}::text[]) AS p").format(
        type=sql.SQL(type_name),
        division=sql.SQL(f" / {divisor}" if divisor else ""),
        texts=sql.Literal(list(texts)),
    )
    return _query_text(connection, query)


def extremum_on_server(
    connection: psycopg.Connection[Any], function: str, type_name: str, texts: Sequence[str], like: sql.Composed
) -> str:
    """Return the minimum or the maximum of the values, as text.

    :param function: "min" or "max".
    :param type_name: type of the values as ``format_type`` prints it.
    :param texts: the values as text.
    :param like: a query of one column, whose collation is used.
    """
    query = sql.SQL(
        "SELECT {function}(v)::text FROM ({like} UNION ALL SELECT p::{type} FROM unnest({texts}::text[]) AS p) AS u(v)"
    ).format(function=sql.SQL(function), like=like, type=sql.SQL(type_name), texts=sql.Literal(list(texts)))
    return _query_text(connection, query)


class _Sum:
    needs_server = False

    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._sum = ExactSum()
        # A sum of no rows has the same type as a sum of rows. A count is an int.
        if aggregate.function == "sum" and aggregate.argument_type == "numeric":
            self._sum.add(Decimal(0))

    def add(self, value: int | Decimal | None) -> None:
        if value is not None:
            self._sum.add(value)

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        total = named_result(self._aggregate.name, self._sum)
        if self._aggregate.is_float_sum:
            return _to_float(self._aggregate.name, total)
        # In PostgreSQL a sum of bigint is numeric.
        return int(total) if self._aggregate.argument_type == "bigint" else total


class _Average:
    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._sum = ExactSum()
        self._count = 0
        # The number of digits of a numeric quotient follows PostgreSQL's rules.
        self.needs_server = not aggregate.is_float_sum

    def add(self, value: int | Decimal | None, count: int) -> None:
        if value is not None:
            self._sum.add(value)
            self._count += count

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        if not self._count:
            return None
        total = named_result(self._aggregate.name, self._sum)
        if self._aggregate.is_float_sum:
            return _to_float(self._aggregate.name, total, self._count)
        connection = _require_server(connection, self._aggregate)
        return Decimal(sum_on_server(connection, "numeric", [format(Decimal(total), "f")], self._count))


class _MinMax:
    needs_server = False

    def __init__(self, aggregate: Aggregate) -> None:
        self._function = min if aggregate.function == "min" else max
        self._value: Any = None

    def add(self, value: int | Decimal | float | None) -> None:
        if value is not None:
            self._value = value if self._value is None else self._function(self._value, value, key=order_key)

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        return self._value


class _ServerCombined:
    needs_server = True

    def __init__(self, aggregate: Aggregate, source: Source) -> None:
        self._aggregate = aggregate
        self._source = source
        self._texts: list[str] = []
        self._count = 0

    def add(self, text: str | None, count: int = 1) -> None:
        if text is not None:
            self._texts.append(text)
            self._count += count

    def result(self, connection: psycopg.Connection[Any] | None) -> str | None:
        connection = _require_server(connection, self._aggregate)
        function, type_name = self._aggregate.function, self._aggregate.type
        if function == "sum":
            return sum_on_server(connection, type_name, self._texts or ["0"])
        if not self._texts:
            return None
        if function == "avg":
            return sum_on_server(connection, type_name, self._texts, self._count)
        argument = self._aggregate.argument_sql
        if self._aggregate.argument_type != type_name:  # a union of "char" and text is an error
            argument = sql.SQL("{}::{}").format(argument, sql.SQL(type_name))
        like = self._source.select_none(argument)
        return extremum_on_server(connection, function, type_name, self._texts, like)


_NUMBER_TOTALS = {"count": _Sum, "sum": _Sum, "avg": _Average, "min": _MinMax, "max": _MinMax}


def _total_of(aggregate: Aggregate, source: Source) -> Any:
    return _NUMBER_TOTALS[aggregate.function](aggregate) if aggregate.is_number else _ServerCombined(aggregate, source)


def _require_server(connection: psycopg.Connection[Any] | None, aggregate: Aggregate) -> psycopg.Connection[Any]:
    if connection is None:
        raise ValueError(f"{aggregate.name!r} is {aggregate}: only the server can combine it.")
    return connection


def _to_float(key: str, total: int | Decimal | float, count: int = 1) -> float:
    """Return ``total / count``, rounded once."""
    exact = Decimal(total)
    if not exact.is_finite():
        return float(exact)
    try:
        return float(Fraction(exact) / count)
    except OverflowError:
        raise too_large_error(key) from None


def _query_text(connection: psycopg.Connection[Any], query: sql.Composed) -> str:
    # The role may have other defaults for the text of values than the workers' sessions.
    with connection.transaction(force_rollback=True):
        connection.execute(local_settings(EXACT_TEXT), prepare=False)
        [(text,)] = connection.execute(query).fetchall()
    return str(text)
