"""Call a user's function on rows that are updated in place: each row has one result, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burla_provider.exceptions import ReturnedRowError, UserFunctionError
from burla_provider.worker.errors import mark_rows
from burla_provider.worker.rejects import is_row_error
from burla_provider.worker.row_functions import Failures, Produced, Row, RowFormat


class _Failed:
    """The class itself stands for the result of a row on which the function failed: pickle keeps what it is."""


@dataclass(frozen=True)
class UpdateRows:
    """Makes a row of the sink ``UpdateInPlace`` of each row: its xmin, its key, and the values to store.

    :param function: gets a list of rows or a batch, and returns a result for each.
    :param format: columns of rows and results.
    :param width: number of values that identify a row: its xmin, and those of the unique key.
    :param batch_size: rows per call of the function.
    """

    function: Callable[[Any], Any]
    format: RowFormat
    width: int
    batch_size: int | None = 250

    @property
    def is_per_row(self) -> bool:
        """Whether the user's function gets single rows."""
        return isinstance(self.function, EachRow)

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = (), failed: Failures | None = None) -> Produced:
        """Return the updates.

        :param keys: xmin, unique key and order key of each row, as text.
        :param failed: gets the rows on which a function of one row fails; None: the first failure is raised.
        """
        results = self._call(rows, keys, failed)
        if len(results) != len(rows):
            raise UserFunctionError(
                f"map_batch returned {len(results):,} rows for {len(rows):,}. Return one row, or None, for each row, in"
                " the same order, because they update the rows that were read."
            )
        produced = Produced([])
        for number, (key, result) in enumerate(zip(keys, results, strict=True)):
            if result is None:
                produced.filtered += 1
                produced.sizes[number] = 0
            elif result is _Failed:
                produced.sizes[number] = 0
            else:
                try:
                    produced.rows.append(key[: self.width] + self._checked(result))
                except ReturnedRowError as error:
                    if failed is None:
                        raise
                    failed.append((number, error))
                    produced.sizes[number] = 0
        return produced

    def _call(self, rows: Sequence[Row], keys: Sequence[Row], failed: Failures | None) -> list[Any]:
        results: list[Any] = []
        returned: Iterable[Any] = ()
        try:
            made = self.function(self.format.give(rows))
            self.format.check_order(made)
            returned = self.format.results(made)
            results.extend(returned)
        except Exception as error:
            self._handle(error, len(results), keys, failed)
        # The iterator of EachRow continues behind the row that failed.
        while failed and len(results) < len(rows):
            results.append(_Failed)
            try:
                results.extend(returned)
            except Exception as error:
                self._handle(error, len(results), keys, failed)
        return results

    def _handle(self, error: Exception, number: int, keys: Sequence[Row], failed: Failures | None) -> None:
        """Add the error to ``failed``, or raise it."""
        if failed is not None and is_row_error(error):
            failed.append((number, error))
            return
        if isinstance(self.function, EachRow):
            mark_rows(error, [key[self.width :] for key in keys[number : number + 1]])
        raise error

    def _checked(self, result: Any) -> Row:
        if isinstance(result, Iterable) and not isinstance(result, tuple | Mapping | str | bytes):
            raise ReturnedRowError(
                f"The function returned {type(result).__name__}. An update in place stores one row: return a tuple or a"
                " dict."
            )
        return self.format.checked(result)


@dataclass(frozen=True)
class EachRow:
    """Calls a function of one row on each row."""

    function: Callable[[Any], Any]

    def __call__(self, rows: list[Any]) -> Iterator[Any]:
        """Yield the results."""
        return map(self.function, rows)
