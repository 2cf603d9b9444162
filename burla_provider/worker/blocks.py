"""Read the rows of a query in blocks, each for one call of a function, beside the keys of the rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, overload

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.worker.arrow import MAX_SIZED_BATCH_BYTES, record_batches
from burla_provider.worker.stream import stream
from burla_provider.worker.value_sizes import size_of_rows

_Row = tuple[Any, ...]


@dataclass(frozen=True)
class Block:
    """Rows, and what identifies them in the source.

    :ivar rows: a list of tuples, or a ``pyarrow.RecordBatch``. Both have a length, and can be sliced.
    :ivar keys: the key of each row, as text; empty: the rows have none.
    :ivar size: approximate number of bytes.
    """

    rows: Any
    keys: Sequence[_Row]
    size: int

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, part: slice) -> Block:
        rows = self.rows[part]
        return Block(rows, self.keys[part], self.size * len(rows) // max(len(self), 1))


def read_tuples(
    connection: psycopg.Connection[Any], query: sql.Composed, key_columns: int, batch_size: int | None
) -> Generator[Block, None, None]:
    """Yield blocks of tuples.

    :param key_columns: number of the last columns of the query, which are the key.
    :param batch_size: rows of a block; the last one, and one of large rows, has fewer. None: ``DEFAULT_BATCH_ROWS``.
    """
    count = batch_size or DEFAULT_BATCH_ROWS
    rows: list[_Row] = []
    size = 0
    with closing(stream(connection, query, tuple_row, key_columns)) as chunks:
        for chunk in chunks:
            chunk_size = size_of_rows(chunk)
            if rows and size + chunk_size > MAX_SIZED_BATCH_BYTES:
                yield _split(rows, size, key_columns)
                rows, size = [], 0
            rows += chunk
            size += chunk_size
            del chunk  # free its memory before the next chunk is read
            while len(rows) >= count:
                part_size = size * count // len(rows)
                yield _split(rows[:count], part_size, key_columns)
                rows, size = rows[count:], size - part_size
    if rows:
        yield _split(rows, size, key_columns)


DEFAULT_BATCH_ROWS = 1_000
"""Rows of a block of tuples."""


def _split(rows: list[_Row], size: int, key_columns: int) -> Block:
    if not key_columns:
        return Block(rows, [], size)
    return Block([row[:-key_columns] for row in rows], [row[-key_columns:] for row in rows], size)


def read_record_batches(
    connection: psycopg.Connection[Any], query: sql.Composed, key_columns: int, batch_size: int | None
) -> Generator[Block, None, None]:
    """Yield blocks of ``pyarrow.RecordBatch``. The parameters are those of ``read_tuples``."""
    with closing(record_batches(connection, query, batch_size, key_columns)) as batches:
        for batch in batches:
            width = batch.num_columns - key_columns
            keys = ArrowKeys(batch.select(list(range(width, batch.num_columns)))) if key_columns else ()
            yield Block(batch.select(list(range(width))), keys, batch.nbytes)
            del batch


@dataclass(frozen=True)
class ArrowKeys(Sequence[_Row]):
    """Keys that are converted to tuples when they are needed."""

    batch: Any

    def __len__(self) -> int:
        count: int = self.batch.num_rows
        return count

    @overload
    def __getitem__(self, part: int) -> _Row: ...
    @overload
    def __getitem__(self, part: slice) -> ArrowKeys: ...
    def __getitem__(self, part: int | slice) -> _Row | ArrowKeys:
        if isinstance(part, slice):
            return ArrowKeys(self.batch[part])
        return tuple(column[part].as_py() for column in self.batch.columns)

    def __iter__(self) -> Iterator[_Row]:
        return zip(*(column.to_pylist() for column in self.batch.columns), strict=True)
