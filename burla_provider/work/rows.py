"""Rows of a query, a few at a time: memory does not grow with the range."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from operator import itemgetter
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.rows import RowFactory, dict_row, tuple_row

from burla_provider.work.arrow import read_batches

CHUNK = 250
"""Rows fetched at once."""


class Taken(Protocol):
    """Rows for a user's function, and how many of them it took. The query ends with the block."""

    def __enter__(self) -> Iterator[Any]: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def count(self) -> int:
        """Rows taken; to be asked once, at the end."""
        ...


class Rows:
    """Row by row, counted in C."""

    def __init__(self, reader: Generator[Any, None, None]) -> None:
        self._reader = reader
        self._numbers = itertools.count()

    def __enter__(self) -> Iterator[Any]:
        # zip takes a row before it takes a number: after n rows the next number is n.
        return map(itemgetter(0), zip(self._reader, self._numbers, strict=False))

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def count(self) -> int:
        return next(self._numbers)


class Batches:
    """Batch by batch of many rows."""

    def __init__(self, reader: Generator[Any, None, None]) -> None:
        self._reader = reader
        self.count = 0

    def __enter__(self) -> Iterator[Any]:
        return self._counted()

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def _counted(self) -> Iterator[Any]:
        for batch in self._reader:
            self.count += batch.num_rows
            yield batch


def read_tuples(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """Tuples, in the order of the columns."""
    return Rows(_stream(connection, query, tuple_row))


def read_dicts(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """Dicts by column name."""
    return Rows(_stream(connection, query, dict_row))


def read_arrow(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """``pyarrow.RecordBatch`` es."""
    return Batches(read_batches(connection, query))


def _stream(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any]
) -> Generator[Any, None, None]:
    if psycopg.capabilities.has_stream_chunked():
        with connection.cursor(row_factory=row_factory) as cursor:
            yield from cursor.stream(query, size=CHUNK)
    else:  # libpq before 17
        with connection.cursor("rows", row_factory=row_factory) as named:
            named.execute(query)
            while rows := named.fetchmany(CHUNK):
                yield from rows


ROW_FORMATS: dict[str, Callable[[psycopg.Connection[Any], sql.Composed], Taken]] = {
    "tuple": read_tuples,
    "dict": read_dicts,
    "arrow": read_arrow,
}
"""How rows reach the user's function."""
