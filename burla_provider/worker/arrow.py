"""Convert rows to Arrow record batches; numeric becomes decimal, never float.

Drivers that return Arrow are not used: ADBC returns numeric as text, and DuckDB's PostgreSQL extension is a binary for
one version of DuckDB, which each worker would have to install. ``benchmarks/reading.py`` measures both.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.worker.arrow_columns import ArrowColumn, Buffers, Packed, arrow_column, select_values
from burla_provider.worker.page_blocks import Pages, read_blocks
from burla_provider.worker.stream import CHUNK_ROWS, get_shape, stream_binary

_FIRST_BATCH_ROWS, _MAX_BATCH_ROWS = 1_000, 50_000
"""Approximate number of rows of the first batch, and of the largest batch."""

_MAX_BATCH_BYTES = 2_000_000
"""Approximate maximum size of a batch with more than one row, if the user gives no number of rows."""

MAX_SIZED_BATCH_BYTES = 32_000_000
"""Approximate maximum size of a batch with more than one row, if the user gives the number of its rows."""

_MAX_JOINED_BYTES = 1_000_000
"""Chunks of few rows are joined up to this size, because each chunk takes time per column."""

_Rows = list[tuple[bytes | None, ...]]


def record_batches(
    connection: psycopg.Connection[Any],
    query: sql.Composed,
    batch_size: int | None = None,
    key_columns: int = 0,
    pages: Pages | None = None,
) -> Generator[Any, None, None]:
    """Yield the rows of a query as ``pyarrow.RecordBatch`` objects.

    Integers, floats, numeric, boolean, date, time, timestamp, timestamptz (in UTC) and bytea get Arrow's types. Other
    types, including arrays, become strings: the text that PostgreSQL prints.

    :param batch_size: rows per batch; the last batch, and those of large rows, have fewer. None: about 2 MB.
    :param key_columns: see ``get_shape``.
    :param pages: the pages that the query reads, if it reads whole pages.
    :raises ValueError: if the column's Arrow type cannot hold a value, such as an infinite timestamp.
    """
    shape = get_shape(connection, query, key_columns)
    if not shape.columns:
        raise ValueError("A batch without columns has no rows. Leave out batch_format.")
    # Before the first row, because a type may be refused.
    columns = [arrow_column(column, connection.info.encoding) for column in shape.columns]
    max_bytes = MAX_SIZED_BATCH_BYTES if batch_size else _MAX_BATCH_BYTES
    if pages and (blocks := read_blocks(connection, pages, shape, columns)):
        batches = _join_blocks(blocks, columns, min(batch_size or _MAX_BATCH_ROWS, _MAX_BATCH_ROWS))
        yield from _resize(batches, batch_size) if batch_size else batches
        return
    chunks = stream_binary(connection, select_values(query, columns), shape)
    batch, limit = _Batch(columns), batch_size or _FIRST_BATCH_ROWS
    try:
        for rows in _join_small(chunks, shape.wide):
            while rows:
                count = min(len(rows), batch_size - batch.rows) if batch_size else len(rows)
                values = zip(*rows[:count], strict=True)
                # Each chunk is packed at once, while its values are in the processor's cache.
                packed = [column.pack(part) for column, part in zip(columns, values, strict=True)]
                rows = rows[count:]
                if batch.rows and batch.size + _size(packed) > max_bytes:
                    yield batch.convert()
                    batch = _Batch(columns)
                batch.add(packed, count)
                del packed
                if batch.rows >= limit:
                    if not batch_size:
                        limit = min(_MAX_BATCH_ROWS, max(1, max_bytes * batch.rows // max(batch.size, 1)))
                    yield batch.convert()
                    batch = _Batch(columns)
        if batch.rows:
            yield batch.convert()
    finally:
        chunks.close()


def _join_blocks(
    blocks: Generator[tuple[list[Packed], int], None, None], columns: Sequence[ArrowColumn], rows: int
) -> Generator[Any, None, None]:
    """Yield batches of about ``rows`` rows or ``_MAX_BATCH_BYTES`` bytes."""
    batch = _Batch(columns)
    with closing(blocks):
        for packed, count in blocks:
            if batch.rows and (batch.rows >= rows or batch.size + _size(packed) > _MAX_BATCH_BYTES):
                yield batch.convert()
                batch = _Batch(columns)
            batch.add(packed, count)
            del packed
        if batch.rows:
            yield batch.convert()


def _resize(batches: Generator[Any, None, None], rows: int) -> Generator[Any, None, None]:
    """Yield batches of exactly ``rows`` rows; the last one, and one of large rows, has fewer."""
    parts: list[Any] = []
    count = size = 0
    with closing(batches):
        for batch in batches:
            while batch.num_rows:
                part = batch.slice(0, rows - count)
                if parts and size + part.nbytes > MAX_SIZED_BATCH_BYTES:
                    yield _join_batches(parts)
                    parts, count, size = [], 0, 0
                    continue
                parts.append(part)
                count, size = count + part.num_rows, size + part.nbytes
                batch = batch.slice(part.num_rows)
                if count == rows:
                    yield _join_batches(parts)
                    parts, count, size = [], 0, 0
    if parts:
        yield _join_batches(parts)


def _join_batches(batches: list[Any]) -> Any:
    import pyarrow as pa

    if len(batches) == 1:
        return batches[0]
    [joined] = pa.Table.from_batches(batches).combine_chunks().to_batches()
    return joined


class _Batch:
    """Rows that become one record batch."""

    def __init__(self, columns: Sequence[ArrowColumn]) -> None:
        self.rows = self.size = 0
        self._columns = columns
        self._buffers = [Buffers() for _ in columns]

    def add(self, packed: Sequence[Packed], rows: int) -> None:
        """Append rows."""
        for buffers, values in zip(self._buffers, packed, strict=True):
            buffers.add(values)
        self.rows += rows
        self.size += _size(packed)

    def convert(self) -> Any:
        """Return the record batch.

        :raises ValueError: if a column's Arrow type cannot hold a value.
        """
        import pyarrow as pa

        arrays = [column.to_array(values) for column, values in zip(self._columns, self._buffers, strict=True)]
        return pa.record_batch(arrays, names=[column.name for column in self._columns])


def _size(packed: Iterable[Packed]) -> int:
    return sum(len(values.data) for values in packed)


def _join_small(chunks: Iterable[_Rows], wide: Sequence[int]) -> Generator[_Rows, None, None]:
    rows: _Rows = []
    size = 0
    for chunk in chunks:
        if not rows and len(chunk) >= CHUNK_ROWS:
            yield chunk
            del chunk  # the next chunk reuses its memory
            continue
        rows += chunk
        size += sum(len(row[number] or b"") for number in wide for row in chunk)
        del chunk
        if len(rows) >= CHUNK_ROWS or size > _MAX_JOINED_BYTES:
            joined, rows, size = rows, [], 0
            yield joined
            del joined
    if rows:
        yield rows
