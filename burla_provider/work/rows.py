"""Rows of a query, a few at a time: memory does not grow with the range."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import psycopg
from psycopg import sql
from psycopg.rows import dict_row, tuple_row

from burla_provider.work.arrow import record_batches
from burla_provider.work.stream import stream


class Taken(Protocol):
    """Rows for a user's function. The query ends with the block; then ``count`` says how many rows were taken."""

    count: int

    def __enter__(self) -> Iterator[Any]: ...

    def __exit__(self, *_: object) -> None: ...


class Rows:
    """Row by row."""

    def __init__(self, rows: Generator[Any, None, None]) -> None:
        self.count = 0
        self._taken = self._take(rows)

    def __enter__(self) -> Iterator[Any]:
        return self._taken

    def __exit__(self, *_: object) -> None:
        self._taken.close()

    def _take(self, rows: Generator[Any, None, None]) -> Generator[Any, None, None]:
        # This line is what a row costs here: no call, no attribute.
        number = 0
        try:
            for number, row in enumerate(rows, 1):  # noqa: B007
                yield row
        finally:
            self.count = number
            rows.close()


class Batches:
    """Batch by batch of many rows."""

    def __init__(self, batches: Generator[Any, None, None]) -> None:
        self.count = 0
        self._batches = batches

    def __enter__(self) -> Iterator[Any]:
        return self._take()

    def __exit__(self, *_: object) -> None:
        self._batches.close()

    def _take(self) -> Iterator[Any]:
        for batch in self._batches:
            self.count += batch.num_rows
            yield batch


def read_tuples(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """Tuples, in the order of the columns."""
    return Rows(stream(connection, query, tuple_row))


def read_dicts(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """Dicts by column name."""
    return Rows(stream(connection, query, dict_row))


def read_arrow(connection: psycopg.Connection[Any], query: sql.Composed) -> Taken:
    """``pyarrow.RecordBatch`` es."""
    return Batches(record_batches(connection, query))


ROW_FORMATS: dict[str, Callable[[psycopg.Connection[Any], sql.Composed], Taken]] = {
    "tuple": read_tuples,
    "dict": read_dicts,
    "arrow": read_arrow,
}
"""How rows reach the user's function."""
