"""Rows of a query, a few at a time: memory does not grow with the range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from operator import length_hint
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from burla_provider.worker.arrow import record_batches
from burla_provider.worker.stream import stream


class RowSource(ABC):
    """Rows for a user's function. The query ends with the block; then ``count`` says how many rows were taken.

    An error of the query that the function kept to itself is raised at the end of the block: some rows are missing.
    """

    def __init__(self, chunks: Generator[Any, None, None]) -> None:
        self.count = 0
        self._chunks = chunks
        self._error: Exception | None = None

    @abstractmethod
    def __enter__(self) -> Iterator[Any]: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or issubclass(kind, Exception):  # after an interruption the connection is closed, nothing asked
            self._chunks.close()
        if kind is None and self._error is not None:
            raise self._error

    def _come(self) -> Iterator[Any]:
        try:
            yield from self._chunks
        except Exception as error:
            self._error = error
            raise


class Rows(RowSource):
    """Row by row, without a line of Python for a row: it is counted by what is left of the chunk that it came in."""

    _current: Iterator[Any] = iter(())

    def __enter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._counted())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.count -= length_hint(self._current)
        deque(self._current, maxlen=0)  # so that whoever kept the iterator gets no more
        super().__exit__(kind)

    def _counted(self) -> Iterator[Iterator[Any]]:
        for chunk in self._come():
            self.count += len(chunk)
            self._current = iter(chunk)
            del chunk  # it is to be gone before the next one comes
            yield self._current


class Batches(RowSource):
    """Batch by batch of many rows."""

    def __enter__(self) -> Iterator[Any]:
        for batch in self._come():
            self.count += batch.num_rows
            yield batch


def read_tuples(connection: psycopg.Connection[Any], query: sql.Composed) -> RowSource:
    """Tuples, in the order of the columns. Fractions in json are Decimal."""
    return Rows(stream(connection, query, tuple_row))


def read_dicts(connection: psycopg.Connection[Any], query: sql.Composed) -> RowSource:
    """Dicts by column name."""
    return Rows(stream(connection, query, dict_row))


def read_arrow(connection: psycopg.Connection[Any], query: sql.Composed) -> RowSource:
    """``pyarrow.RecordBatch`` es."""
    return Batches(record_batches(connection, query))


ROW_FORMATS: dict[str, Callable[[psycopg.Connection[Any], sql.Composed], RowSource]] = {
    "tuple": read_tuples,
    "dict": read_dicts,
    "arrow": read_arrow,
}
"""How rows reach the user's function."""
