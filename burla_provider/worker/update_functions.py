"""Call a user's function on rows that are updated in place: each row has one result, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burla_provider.exceptions import UserFunctionError
from burla_provider.worker.row_functions import Produced, Row, RowFormat, add_key


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

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = ()) -> Produced:
        """Return the updates.

        :param keys: xmin, unique key and order key of each row, as text.
        """
        results: list[Any] = []
        try:
            results.extend(self.format.results(self.function(self.format.give(rows))))
        except Exception as error:
            if isinstance(self.function, EachRow):
                number = len(results)
                add_key(error, [key[1 : self.width] for key in keys[number : number + 1]])
            raise
        if len(results) != len(rows):
            raise UserFunctionError(
                f"map_batch returned {len(results):,} rows for {len(rows):,}. Return one row, or None, for each row, in"
                " the same order, because they update the rows that were read."
            )
        produced = Produced([])
        for key, result in zip(keys, results, strict=True):
            if result is None:
                produced.filtered += 1
            elif isinstance(result, tuple | Mapping):
                produced.rows.append(key[: self.width] + self.format.checked(result))
            else:
                self._refuse(result)
        return produced

    def _refuse(self, result: Any) -> None:
        if isinstance(result, Iterable) and not isinstance(result, str | bytes):
            raise UserFunctionError(
                f"The function returned {type(result).__name__}. An update in place stores one row: return a tuple or a"
                " dict."
            )
        self.format.checked(result)


@dataclass(frozen=True)
class EachRow:
    """Calls a function of one row on each row."""

    function: Callable[[Any], Any]

    def __call__(self, rows: list[Any]) -> Iterator[Any]:
        """Yield the results."""
        return map(self.function, rows)
