"""Give a user's function the rows of a query, in chunks, so that memory does not grow with the range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from operator import length_hint
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from burla_provider.worker.arrow import record_batches
from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.page_blocks import Pages
from burla_provider.worker.stream import stream


class RowSource(ABC):
    """A context manager that yields the rows of a query, and counts them in ``count``.

    The query ends with the block. An error of the query that the function caught is raised again at the end of the
    block, because rows are missing.
    """

    def __init__(self, chunks: Generator[Any, None, None]) -> None:
        self.count = 0
        self._chunks = chunks
        self._error: Exception | None = None

    @abstractmethod
    def __enter__(self) -> Iterator[Any]: ...

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type is None or issubclass(error_type, Exception):  # after an interruption the connection is closed
            self._chunks.close()
        if error_type is None and self._error is not None:
            raise self._error

    def _iterate(self) -> Iterator[Any]:
        try:
            yield from self._chunks
        except Exception as error:
            self._error = error
            raise


class Rows(RowSource):
    """Single rows. No Python code runs per row: ``count`` is the size of all chunks, minus the rest of the last."""

    _current: Iterator[Any] = iter(())

    def __enter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._iterate_chunks())

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self.count -= length_hint(self._current)
        deque(self._current, maxlen=0)  # a function that kept the iterator gets no further rows
        super().__exit__(error_type)

    def _iterate_chunks(self) -> Iterator[Iterator[Any]]:
        for chunk in self._iterate():
            self.count += len(chunk)
            self._current = iter(chunk)
            del chunk  # free its memory before the next chunk is read
            yield self._current


class Batches(RowSource):
    """Batches of many rows."""

    def __enter__(self) -> Iterator[Any]:
        for batch in self._iterate():
            self.count += len(batch)
            yield batch


def _read_tuples(connection: psycopg.Connection[Any], query: sql.Composed) -> RowSource:
    """Return rows as tuples, in the order of the columns. Fractions in json are Decimal."""
    return Rows(stream(connection, query, tuple_row))


def _read_dicts(connection: psycopg.Connection[Any], query: sql.Composed) -> RowSource:
    """Return rows as dicts by column name. Fractions in json are Decimal."""
    return Rows(stream(connection, query, dict_row))


def read_batches(
    connection: psycopg.Connection[Any],
    query: sql.Composed,
    batch_format: str,
    batch_size: int | None = None,
    pages: Pages | None = None,
) -> RowSource:
    """Return rows as batches of columns.

    :param batch_format: a key of ``BATCH_FORMATS``.
    :param batch_size: see ``record_batches``; so is ``pages``.
    """
    return Batches(_converted(record_batches(connection, query, batch_size, pages=pages), batch_format))


def _converted(batches: Generator[Any, None, None], batch_format: str) -> Generator[Any, None, None]:
    convert = BATCH_FORMATS[batch_format].from_arrow
    with closing(batches):
        for batch in batches:
            yield convert(batch)


ROW_FORMATS: dict[str, Callable[[psycopg.Connection[Any], sql.Composed], RowSource]] = {
    "tuple": _read_tuples,
    "dict": _read_dicts,
}
"""Values of the parameter ``row_format``, as in ``RowFormat`` of ``task/config.py`` -> reader."""
