"""Combine the outcomes of all ranges to one exact result, and check that each range is in it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

import psycopg

from burla_provider.combine.exact_sum import ExactSum, order_key
from burla_provider.combine.server import extremum_on_server, sum_on_server
from burla_provider.exceptions import CombineError
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.json_values import find_non_json, find_reserved
from burla_provider.worker.outcome import PLAIN_DATA, RESERVED_KEYS, Failure, Outcome
from burla_provider.worker.source import Source


class Combiner(Protocol):
    """Combines the values of ranges."""

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Add the value of a range.

        :raises CombineError: it cannot be combined with the others.
        """
        ...

    def result(self, connection: psycopg.Connection[Any] | None) -> dict[str, Any]:
        """Return the combined values.

        :param connection: for values that only the server can combine.
        """
        ...


class Totals:
    """Collects the outcomes of a job.

    :param combiner: combines the values of the ranges.
    :param indexes: indexes of the planned ranges.
    """

    def __init__(self, combiner: Combiner, indexes: Iterable[int]) -> None:
        self._combiner = combiner
        self._missing = set(indexes)
        self._row_count: int | None = None
        self.ranges = len(self._missing)
        self.failures: dict[int, Failure] = {}

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. A success replaces a failure; a second success is ignored: the cluster may run a call twice.

        :raises CombineError: the value cannot be combined with the others.
        """
        if outcome.index not in self._missing:
            return
        if outcome.failure is not None:
            self.failures[outcome.index] = outcome.failure
            return
        self._combiner.add(outcome.index, outcome.value)
        self._missing.remove(outcome.index)
        self.failures.pop(outcome.index, None)
        if outcome.row_count is not None:
            self._row_count = (self._row_count or 0) + outcome.row_count

    @property
    def row_count(self) -> int:
        """Rows processed by the ranges that succeeded; 0 if rows are not counted."""
        return self._row_count or 0

    @property
    def missing(self) -> list[int]:
        """Indexes of the ranges that have not succeeded yet, including failed ones."""
        return sorted(self._missing)

    @property
    def complete(self) -> bool:
        """Whether every planned range succeeded."""
        return not self._missing

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return ``row_count`` (if rows are counted) and the exact totals.

        If ranges are missing, ``complete`` is False and ``failed_ranges`` is their number.

        :param connection: needed for values that only the server can combine.
        :raises CombineError: the values cannot be combined.
        """
        counted = {} if self._row_count is None and self.ranges else {"row_count": self.row_count}
        incomplete = {} if self.complete else {"complete": False, "failed_ranges": len(self._missing)}
        combined = self._combiner.result(connection)
        reserved = [name for name in RESERVED_KEYS if name in combined]
        reserved += [name for name in counted if combined.get(name, self.row_count) != self.row_count]
        if reserved:
            raise CombineError(f"combine returned the key {reserved[0]!r}, which is reserved: use another name.")
        return counted | combined | counted | incomplete


class SumByKey:
    """Adds numbers by key: int, Decimal, float. None adds nothing; a range need not have every key."""

    def __init__(self) -> None:
        self._sums: dict[str, ExactSum] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Add the numbers of a range.

        :raises CombineError: a value is not a number, or of another type than in the other ranges.
        """
        for key, number in value.items():
            self._add(index, key, number)

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return the sums by key."""
        return {key: _result(key, total) for key, total in self._sums.items()}

    def _add(self, index: int, key: str, number: Any) -> None:
        total = self._sums.setdefault(key, ExactSum())
        if problem := find_reserved(self._sums):
            raise CombineError(f"Range {index} returned {problem}: use another name.")
        if number is None:
            return
        if type(number) not in (int, Decimal, float):
            raise CombineError(
                f"Range {index} returned {key!r} as {type(number).__name__}, and only numbers can be added up:"
                " give the operator combine=f, where f(values) gets the list of what the ranges returned."
            )
        try:
            total.add(number)
        except TypeError as error:
            raise CombineError(
                f"The ranges returned {key!r} as {error}, whose sum would not be exact:"
                " return one type, or give combine=f."
            ) from None


class CustomCombiner:
    """Calls a user's function with the list of the ranges' values, in the order of the plan.

    Without any value the function is not called, and the result is empty.
    """

    def __init__(self, function: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._function = function
        self._values: dict[int, dict[str, Any]] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Keep the value of a range."""
        self._values[index] = value

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return what the function returned.

        :raises CombineError: it is not a dict of plain data.
        """
        if not self._values:
            return {}
        result = self._function([self._values[index] for index in sorted(self._values)])
        if not isinstance(result, dict):
            raise CombineError(f"combine returned {type(result).__name__}: return a dict.")
        if problem := find_non_json(result, "the result"):
            raise CombineError(f"combine: {problem}: turn it into {PLAIN_DATA}.")
        return result


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
        total = _result(self._aggregate.name, self._sum)
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
        total = _result(self._aggregate.name, self._sum)
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
        like = self._source.select_none(self._aggregate.argument_sql)
        return extremum_on_server(connection, function, type_name, self._texts, like)


_NUMBER_TOTALS = {"count": _Sum, "sum": _Sum, "avg": _Average, "min": _MinMax, "max": _MinMax}


def _total_of(aggregate: Aggregate, source: Source) -> Any:
    return _NUMBER_TOTALS[aggregate.function](aggregate) if aggregate.is_number else _ServerCombined(aggregate, source)


def _require_server(connection: psycopg.Connection[Any] | None, aggregate: Aggregate) -> psycopg.Connection[Any]:
    if connection is None:
        raise ValueError(f"{aggregate.name!r} is {aggregate}: only the server can combine it.")
    return connection


def _result(key: str, total: ExactSum) -> int | Decimal | float:
    try:
        return total.result
    except OverflowError:
        raise _too_large(key) from None


def _to_float(key: str, total: int | Decimal | float, count: int = 1) -> float:
    """Return ``total / count``, rounded once."""
    exact = Decimal(total)
    if not exact.is_finite():
        return float(exact)
    try:
        return float(Fraction(exact) / count)
    except OverflowError:
        raise _too_large(key) from None


def _too_large(key: str) -> CombineError:
    return CombineError(f"The sum of {key!r} is larger than the largest float: use Decimal or numeric.")
