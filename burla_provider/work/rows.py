"""Rows of a query, a few at a time: memory does not grow with the range."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from operator import itemgetter
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import RowFactory, dict_row, tuple_row

CHUNK = 1_000
"""Rows fetched at once."""

Reader = Callable[[psycopg.Connection[Any], sql.Composed], Generator[Any, None, None]]


class Rows:
    """What a reader yields, and how many rows of it were taken. Ends the query when its block ends."""

    def __init__(self, reader: Generator[Any, None, None]) -> None:
        self._reader = reader
        self._numbers = itertools.count()

    def __enter__(self) -> Iterator[Any]:
        # zip takes a row before it takes a number: after n rows the next number is n. All in C.
        return map(itemgetter(0), zip(self._reader, self._numbers, strict=False))

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    @property
    def count(self) -> int:
        """Rows taken; to be asked once, at the end."""
        return next(self._numbers)


def read_tuples(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """Rows as tuples, in the order of the columns."""
    return _stream(connection, query, tuple_row)


def read_dicts(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """Rows as dicts by column name."""
    return _stream(connection, query, dict_row)


def _stream(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any]
) -> Generator[Any, None, None]:
    if psycopg.capabilities.has_stream_chunked():
        with connection.cursor(row_factory=row_factory, binary=True) as cursor:
            yield from cursor.stream(query, size=CHUNK)
    else:  # libpq before 17
        with connection.cursor("rows", row_factory=row_factory, binary=True) as named:
            named.execute(query)
            while rows := named.fetchmany(CHUNK):
                yield from rows


ROW_FORMATS: dict[str, Reader] = {"tuple": read_tuples, "dict": read_dicts}
"""How rows reach the user's function."""
