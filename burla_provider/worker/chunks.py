"""Divide the rows of a range into chunks, and compute the rows to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from burla_provider.ranges.key import Bound
from burla_provider.worker.rejects import Rejected
from burla_provider.worker.row_functions import Part, Row, RowFunction

CHUNK_ROWS = 10_000
"""Rows that one transaction writes. More are not faster, and hold their locks for longer."""


@dataclass
class Chunk:
    """Rows that are written in one transaction.

    :param rows: with the columns of the target.
    :param position: order key of the last row of the source that they were made of; None: there is no order key, or no
        row.
    :param row_count: number of rows of the source.
    :param filtered: number of rows of the source of which the function made none.
    :param vanished: number of pending rows that are not in the source any more.
    :param is_last: whether it is the last chunk of its range.
    :param parts: where ``rows`` come from, in their order; empty: unknown.
    :param rejected: rows of the source that are not written because of an error.
    :param key_names: names of the order key's columns.
    """

    rows: list[Row] = field(default_factory=list)
    position: Bound | None = None
    row_count: int = 0
    filtered: int = 0
    vanished: int = 0
    is_last: bool = False
    parts: list[Part] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    key_names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of rows that were read or made, whichever is greater."""
        return max(self.row_count, len(self.rows))


def compute_chunks(
    rows: Iterable[list[Any]], function: RowFunction, width: int, chunk_rows: int, extra: int = 0
) -> Iterator[Chunk]:
    """Yield the chunks of a range, at least one.

    If the rows have no order key, behind which a later attempt could continue, the range is one chunk.

    :param rows: lists of rows in the order of a unique key, whose columns are the last ones.
    :param width: number of columns of the order key.
    :param extra: number of columns before the order key that the function gets together with it.
    :param chunk_rows: minimum size of a chunk other than the last.
    """
    chunk = Chunk()
    source = chain.from_iterable(rows)
    while batch := list(islice(source, function.batch_size)):
        if width and chunk.size >= chunk_rows:
            yield chunk
            chunk = Chunk()
        tail = width + extra
        produced = (
            function([row[:-tail] for row in batch], [row[-tail:] for row in batch]) if tail else function(batch, [])
        )
        chunk.rows += produced.rows
        chunk.row_count += len(batch)
        chunk.filtered += produced.filtered
        chunk.parts += produced.parts
        chunk.rejected += produced.rejected
        chunk.position = batch[-1][-width:] if width else None
    chunk.is_last = True
    yield chunk
