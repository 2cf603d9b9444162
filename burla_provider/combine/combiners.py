"""Combine the outcomes of all ranges into one result, and check that it contains each range once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Protocol

import psycopg

from burla_provider.combine.exact_sum import ExactSum, named_result
from burla_provider.exceptions import CombineError
from burla_provider.worker.json_values import find_non_json, find_reserved
from burla_provider.worker.outcome import PLAIN_DATA, RESERVED_KEYS, Outcome


class Combiner(Protocol):
    """Combines the values of ranges."""

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Add the value of a range.

        :raises CombineError: if it cannot be combined with the others.
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

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. A success replaces a failure; a second success is ignored: the cluster may run a call twice.

        :raises CombineError: if the value cannot be combined with the others.
        """
        if outcome.index not in self._missing or not outcome.ok:
            return
        self._combiner.add(outcome.index, outcome.value)
        self._missing.remove(outcome.index)
        if outcome.row_count is not None:
            self._row_count = (self._row_count or 0) + outcome.row_count

    def add_partial(self, index: int, value: dict[str, Any], row_count: int) -> None:
        """Add what a range has done before it failed. It stays missing.

        :raises CombineError: if the value cannot be combined with the others.
        """
        self._combiner.add(index, value)
        self._row_count = (self._row_count or 0) + row_count

    @property
    def row_count(self) -> int:
        """Rows processed by the ranges that succeeded, and partial ones; 0 if rows are not counted."""
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
        :raises CombineError: if the values cannot be combined.
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
    """Adds numbers by key: int, Decimal, float. None and missing keys add nothing."""

    def __init__(self) -> None:
        self._sums: dict[str, ExactSum] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Add the numbers of a range.

        :raises CombineError: if a value is not a number, or of another type than in the other ranges.
        """
        for key, number in value.items():
            self._add(index, key, number)

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return the sums by key."""
        return {key: named_result(key, total) for key, total in self._sums.items()}

    def _add(self, index: int, key: str, number: Any) -> None:
        total = self._sums.setdefault(key, ExactSum())
        if problem := find_reserved(self._sums):
            raise CombineError(f"Range {index} returned {problem}: use another name.")
        if number is None:
            return
        if type(number) not in (int, Decimal, float):
            raise CombineError(
                f"Range {index} returned {key!r} as {type(number).__name__}, and only numbers can be added up:"
                " give the operator combine=f, where f(values) gets the list of the ranges' results."
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

    If there are no values, the function is not called, and the result is empty.
    """

    def __init__(self, function: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._function = function
        self._values: dict[int, dict[str, Any]] = {}

    def add(self, index: int, value: dict[str, Any]) -> None:
        """Keep the value of a range."""
        self._values[index] = value

    def result(self, connection: psycopg.Connection[Any] | None = None) -> dict[str, Any]:
        """Return what the function returned.

        :raises CombineError: if it is not a dict of plain data.
        """
        if not self._values:
            return {}
        result = self._function([self._values[index] for index in sorted(self._values)])
        if not isinstance(result, dict):
            raise CombineError(f"combine returned {type(result).__name__}: return a dict.")
        if problem := find_non_json(result, "the result"):
            raise CombineError(f"combine: {problem}: turn it into {PLAIN_DATA}.")
        return result
