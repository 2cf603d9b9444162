"""From the answers of all ranges to one exact result, and the proof that every range answered once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, Protocol

import psycopg

from burla_provider.combine.exact_sum import ExactSum, average, order
from burla_provider.combine.server import add_on_server, extreme_on_server
from burla_provider.exceptions import CombineError
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.json_values import find_non_json, find_reserved
from burla_provider.worker.json_values import to_json as to_xcom
from burla_provider.worker.outcome import PLAIN_DATA, RESERVED, Failure, Outcome
from burla_provider.worker.source import Source

__all__ = ["Combiner", "CustomCombiner", "SqlCombiner", "SumByKey", "Totals", "to_xcom"]


class Combiner(Protocol):
    """How the values of ranges become one."""

    def add(self, index: int, value: dict[str, Any]) -> None:
        """:raises CombineError: the value does not fit."""
        ...

    def result(self, connection: psycopg.Connection[Any] | None) -> dict[str, Any]:
        """The values of all ranges, combined.

        :param connection: to the server, for what it alone can combine.
        """
        ...


class Totals:
    """What the ranges answered so far.

    :param combination: how their values become one.
    :param indexes: the ranges that the plan has.
    """

    def __init__(self, combination: Combiner, indexes: Iterable[int]) -> None:
        self._combination = combination
        self._open = set(indexes)
        self._row_count: int | None = None
        self.ranges = len(self._open)
        self.failures: dict[int, Failure] = {}

    def add(self, outcome: Outcome) -> None:
        """Takes one answer. A failure is forgotten when the range succeeds later; a second success is ignored, because
        a cluster may run a call twice.

        :raises CombineError: its value cannot be combined with those before.
        """
        if outcome.index not in self._open:
            return
        if outcome.failure is not None:
            self.failures[outcome.index] = outcome.failure
            return
        self._combination.add(outcome.index, outcome.value)
        self._open.remove(outcome.index)
        self.failures.pop(outcome.index, None)
        if outcome.row_count is not None:
            self._row_count = (self._row_count or 0) + outcome.row_count

    @property
    def row_count(self) -> int:
        """Rows worked by the ranges that succeeded; 0 where nobody counts them."""
        return self._row_count or 0

    @property
    def missing(self) -> list[int]:
        """The ranges without a good answer so far, failed ones included."""
        return sorted(self._open)

    @property
    def complete(self) -> bool:
        """Whether every range of the plan answered."""
        return not self._open

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """``row_count`` (where rows are counted) and the totals, exact. Never silently of a part of the ranges: then
        ``complete`` is False and ``failed_ranges`` says how many are not in it.

        :param connection: to the server, needed for totals of other types than numbers.
        :raises CombineError: the values have no sum.
        """
        counted = {} if self._row_count is None and self.ranges else {"row_count": self.row_count}
        part = {} if self.complete else {"complete": False, "failed_ranges": len(self._open)}
        combined = self._combination.result(connection)
        taken = [name for name in RESERVED if name in combined]
        taken += [name for name in counted if combined.get(name, self.row_count) != self.row_count]
        if taken:
            raise CombineError(f"combine gives {taken[0]!r}, which is a key of the result's own: use another name.")
        return counted | combined | counted | part


class SumByKey:
    """Adds numbers key by key: int, Decimal, float. None, or a key that a range does not give, adds nothing."""

    def __init__(self) -> None:
        self._sums: dict[str, ExactSum] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        for key, number in value.items():
            self._add(index, key, number)

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        return {key: _finish(key, total) for key, total in self._sums.items()}

    def _add(self, index: int, key: str, number: Any) -> None:
        total = self._sums.setdefault(key, ExactSum())
        if problem := find_reserved(self._sums):
            raise CombineError(f"Range {index} gives {problem}: use another name.")
        if number is None:
            return
        if type(number) not in (int, Decimal, float):
            raise CombineError(
                f"Range {index} gives {key!r} as {type(number).__name__}, and only numbers can be added up:"
                " give the operator combine=f, where f(values) gets the list of what the ranges returned."
            )
        try:
            total.add(number)
        except TypeError as error:
            raise CombineError(
                f"The ranges give {key!r} as {error}, whose sum would not be exact: return one type, or give combine=f."
            ) from None


class CustomCombiner:
    """Leaves it to a function of the user: it gets the list of the ranges' values, in the order of the plan.

    Where no range was worked there is nothing to combine, and no value.
    """

    def __init__(self, function: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._function = function
        self._values: dict[int, dict[str, Any]] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        self._values[index] = value

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
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

    :param aggregates: with their types (``check_totals``).
    :param source: what they are of.
    """

    def __init__(self, aggregates: tuple[Aggregate, ...], source: Source) -> None:
        self._parts = [(aggregate, _part_for(aggregate, source)) for aggregate in aggregates]

    @property
    def needs_server(self) -> bool:
        """Whether ``result`` needs a connection."""
        return not all(aggregate.is_number for aggregate, _ in self._parts)

    def add(self, index: int, value: dict[str, Any]) -> None:
        for aggregate, part in self._parts:
            part.add(*value[aggregate.name])

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        return {aggregate.name: part.result(connection) for aggregate, part in self._parts}


class _Sum:
    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._sum = ExactSum()
        # A sum of no rows has the type that a sum of some has. A count is an int, whatever it counts.
        if aggregate.function == "sum" and aggregate.argument_type == "numeric":
            self._sum.add(Decimal(0))

    def add(self, value: int | Decimal | None) -> None:
        if value is not None:
            self._sum.add(value)

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        total = _finish(self._aggregate.name, self._sum)
        if self._aggregate.is_float_sum:
            return _to_float(self._aggregate.name, total)
        # PostgreSQL makes a numeric of a sum of bigint; it is a whole number all the same.
        return int(total) if self._aggregate.argument_type == "bigint" else total


class _Average:
    def __init__(self, aggregate: Aggregate) -> None:
        self._aggregate = aggregate
        self._sum = ExactSum()
        self._count = 0

    def add(self, value: int | Decimal | None, count: int) -> None:
        if value is not None:
            self._sum.add(value)
            self._count += count

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        if not self._count:
            return None
        total = _finish(self._aggregate.name, self._sum)
        if self._aggregate.is_float_sum:
            return _to_float(self._aggregate.name, total, self._count)
        return average(total, self._count)


class _Extreme:
    def __init__(self, aggregate: Aggregate) -> None:
        self._better = min if aggregate.function == "min" else max
        self._value: Any = None

    def add(self, value: int | Decimal | float | None) -> None:
        if value is not None:
            self._value = value if self._value is None else self._better(self._value, value, key=order)

    def result(self, connection: psycopg.Connection[Any] | None) -> Any:
        return self._value


class _OnServer:
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
        function, type_name = self._aggregate.function, self._aggregate.type
        if connection is None:
            raise ValueError(f"{self._aggregate.name!r} is of type {type_name}: only the server can combine it.")
        if function == "sum":
            return add_on_server(connection, type_name, self._texts or ["0"])
        if not self._texts:
            return None
        if function == "avg":
            return add_on_server(connection, type_name, self._texts, self._count)
        like = self._source.select_none(self._aggregate.argument_sql)
        return extreme_on_server(connection, function, type_name, self._texts, like)


_NUMBER_PARTS = {"count": _Sum, "sum": _Sum, "avg": _Average, "min": _Extreme, "max": _Extreme}


def _part_for(aggregate: Aggregate, source: Source) -> Any:
    return _NUMBER_PARTS[aggregate.function](aggregate) if aggregate.is_number else _OnServer(aggregate, source)


def _finish(key: str, total: ExactSum) -> int | Decimal | float:
    try:
        return total.result
    except OverflowError:
        raise _too_large(key) from None


def _to_float(key: str, total: int | Decimal | float, count: int = 1) -> float:
    """``total / count``, rounded once."""
    if not math.isfinite(total):
        return float(total)
    try:
        return float(Fraction(total) / count)
    except OverflowError:
        raise _too_large(key) from None


def _too_large(key: str) -> CombineError:
    return CombineError(f"The sum of {key!r} is beyond the greatest float: use Decimal or numeric.")
