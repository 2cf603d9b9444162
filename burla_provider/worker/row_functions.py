"""Call a user's function on rows, and check the rows that it returns."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import psycopg
from psycopg import sql

from burla_provider.exceptions import ReturnedRowError, UserFunctionError
from burla_provider.worker.blocks import Block, read_tuples
from burla_provider.worker.errors import mark_rows
from burla_provider.worker.rejects import Rejected, is_row_error

Row = tuple[Any, ...]


class Part(NamedTuple):
    """Rows of the source that a function got in one call, and what it made of them.

    :param source: the batch that has the rows.
    :param keys: the keys of the batch.
    :param start: index of the first row in the batch.
    :param stop: index behind the last row.
    :param made: number of rows made of them.
    :param filtered: number of rows of which none was made.
    :param sizes: see ``Produced``; None: it is unknown which row a row was made of.
    """

    source: Sequence[Row]
    keys: Sequence[Row]
    start: int
    stop: int
    made: int
    filtered: int
    sizes: Mapping[int, int] | None = None

    def split(self) -> list[Part]:
        """Return one part per row, if it is known what was made of it."""
        if self.sizes is None:
            return [self]
        return [
            Part(self.source, self.keys, number, number + 1, self.sizes.get(number, 1), 0)
            for number in range(self.start, self.stop)
        ]


@dataclass
class Produced:
    """The rows that a function has made of a batch.

    :param rows: with the columns of the target.
    :param filtered: number of rows of the batch of which it made none.
    :param sizes: index of a row of the batch -> number of rows made of it, if it is not 1.
    :param parts: where the rows come from, in their order; empty: unknown.
    :param rejected: rows of the batch on which the function failed.
    """

    rows: list[Row]
    filtered: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


Failures = list[tuple[int, Exception]]
"""Indexes of the rows of a batch that failed, with the errors."""


class RowFunction(Protocol):
    """Makes rows of the target of rows of the source."""

    @property
    def batch_size(self) -> int | None:
        """Maximum number of rows per call of this object; None: the format decides."""
        ...

    @property
    def is_per_row(self) -> bool:
        """Whether the user's function gets single rows, so that the number of rows per call is free."""
        ...

    @property
    def format(self) -> RowFormat:
        """How rows are read, given to the user's function, and returned."""
        ...

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = ()) -> Produced:
        """Return the rows made of these rows.

        :param rows: a list of tuples, or a ``pyarrow.RecordBatch``, as ``format.read_blocks`` reads them.
        :param keys: what identifies each row in the source, as text.
        """
        ...


@dataclass(frozen=True)
class RowFormat:
    """The columns of rows, on both sides of a function.

    :param read: names of the columns that the function gets.
    :param written: names of the columns of the target.
    :param as_dicts: whether the function gets dicts.
    :param parameter: the operator's parameter that names the columns of the target, for errors.
    """

    read: tuple[str, ...]
    written: tuple[str, ...]
    as_dicts: bool = False
    parameter: str = "target_columns"

    def read_blocks(
        self, connection: psycopg.Connection[Any], query: sql.Composed, key_columns: int, batch_size: int | None
    ) -> Generator[Block, None, None]:
        """Yield the rows of a query in the form that ``give`` converts. See ``read_tuples``."""
        return read_tuples(connection, query, key_columns, batch_size)

    def give(self, rows: Sequence[Row]) -> Any:
        """Return rows as a function of several rows gets them."""
        return [self.given(row) for row in rows] if self.as_dicts else list(rows)

    def results(self, returned: Any) -> Iterable[Any]:
        """Return what a function of several rows has returned, if it may be a list of rows.

        :raises UserFunctionError: if it is something else.
        """
        return _check_batch(returned)

    def check_order(self, returned: Any) -> None:
        """Check that what a function has returned is in the order of the rows that it got, if that can be known."""

    def given(self, row: Row) -> Any:
        """Return a row as the function gets it."""
        return dict(zip(self.read, row, strict=True)) if self.as_dicts else row

    def checked(self, row: Any) -> Row:
        """Return a row that the function has returned as a tuple in the order of the target's columns.

        :raises ReturnedRowError: if it does not have these columns.
        """
        if isinstance(row, tuple):
            if len(row) != len(self.written):
                raise ReturnedRowError(
                    f"The function returned a row of {len(row)} values: {_shown(row)}. Return"
                    f" {len(self.written)}, in the order of {self.parameter}: {', '.join(self.written)}."
                )
            return row
        if isinstance(row, Mapping):
            if row.keys() != set(self.written):
                raise ReturnedRowError(
                    f"The function returned a dict with the keys {', '.join(map(str, row))}. Return those of"
                    f" {self.parameter}: {', '.join(self.written)}."
                )
            return tuple(row[name] for name in self.written)
        raise ReturnedRowError(
            f"The function returned {type(row).__name__} {_shown(row)} as a row. Return a tuple or a dict, also for a"
            " single column: (value,)."
        )


@dataclass(frozen=True)
class MapRow:
    """``function(row)`` returns a row, several as a list or generator, or None."""

    function: Callable[[Any], Any]
    format: RowFormat
    batch_size: int = 250

    is_per_row: ClassVar[bool] = True

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = (), failed: Failures | None = None) -> Produced:
        """Return the rows made of these rows.

        :param failed: gets the rows on which the function fails; None: the first failure is raised.
        """
        produced = Produced([])
        function, checked, width = self.function, self.format.checked, len(self.format.written)
        add = produced.rows.append
        number = 0
        given = enumerate(map(self.format.given, rows) if self.format.as_dicts else rows)
        while True:
            try:
                for number, row in given:
                    result = function(row)
                    # The usual case is checked here, because a call takes as long as the rest of the loop.
                    if type(result) is tuple and len(result) == width:
                        add(result)
                    elif isinstance(result, tuple | Mapping):
                        add(checked(result))
                    elif result is None:
                        produced.filtered += 1
                        produced.sizes[number] = 0
                    else:
                        several = [checked(made) for made in self._several(result)]
                        produced.rows += several
                        produced.filtered += not several
                        produced.sizes[number] = len(several)
            except Exception as error:
                if failed is None or not is_row_error(error):
                    mark_rows(error, keys[number : number + 1])
                    raise
                failed.append((number, error))
                produced.sizes[number] = 0
                continue
            return produced

    def _several(self, result: Any) -> Iterable[Any]:
        if isinstance(result, list | Iterator):
            return result
        return (self.format.checked(result),)  # raises


@dataclass(frozen=True)
class MapBatch:
    """``function(rows)`` gets a list of rows or a batch, and returns rows or a batch."""

    function: Callable[[Any], Any]
    format: RowFormat
    batch_size: int | None = None

    is_per_row: ClassVar[bool] = False

    def __call__(self, rows: Sequence[Row], keys: Sequence[Row] = ()) -> Produced:
        """Return the rows made of these rows. How many were left out is known by their number only."""
        results = self.format.results(self.function(self.format.give(rows)))
        made = [self.format.checked(row) for row in results]
        return Produced(made, max(0, len(rows) - len(made)))


def _check_batch(result: Any) -> Iterable[Any]:
    """Return what ``map_batch`` has returned, if it may be a list of rows.

    :raises UserFunctionError: if it is something else.
    """
    if hasattr(type(result), "columns"):
        problem = f"map_batch returned {type(result).__name__}, which is not a list of rows."
        raise UserFunctionError(f'{problem} Give batch_format: "pandas", "polars" or "arrow".')
    if isinstance(result, tuple | Mapping | str | bytes) or not isinstance(result, Iterable):
        raise UserFunctionError(
            f"map_batch returned {type(result).__name__} {_shown(result)}. Return a list of rows: one tuple or dict per"
            " row."
        )
    return result


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
