"""Divide the rows of a range into chunks, and compute the rows to write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic

from burla_provider.ranges.key import Bound
from burla_provider.worker.blocks import Block
from burla_provider.worker.rejects import Rejected
from burla_provider.worker.row_functions import Part, Produced, Row, RowFunction
from burla_provider.worker.value_sizes import size_of_rows

CHUNK_ROWS = 10_000
"""Rows that one transaction writes. More are not faster, and hold their locks for longer."""

CALL_SECONDS = 1.0
"""Maximum time of a call of a function of single rows, if it needs the same time for each row."""


@dataclass(frozen=True)
class ChunkLimits:
    """Where a chunk ends.

    :param rows: number of rows that were read, or made.
    :param size: approximate number of bytes that were read, or made.
    :param seconds: time for reading and computing, so that a slow function loses little if it fails.
    """

    rows: int = CHUNK_ROWS
    size: int = 16_000_000
    seconds: float = 30.0


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
    _read_size: int = field(default=0, init=False)
    _made_size: int = field(default=0, init=False)
    _started: float = field(default_factory=monotonic, init=False)

    @property
    def size(self) -> int:
        """The number of rows that were read or made, whichever is greater."""
        return max(self.row_count, len(self.rows))

    def add(self, block: Block, produced: Produced, width: int) -> None:
        """Add the rows that were made of a block.

        :param width: number of columns of the order key, which are the last ones of the block's keys.
        """
        self.rows += produced.rows
        self.row_count += len(block)
        self.filtered += produced.filtered
        self.parts += produced.parts
        self.rejected += produced.rejected
        self.position = block.keys[-1][-width:] if width else None
        self._read_size += block.size
        self._made_size += size_of_rows(produced.rows)

    def is_full(self, limits: ChunkLimits) -> bool:
        """Return whether one of the limits is reached."""
        size = max(self._read_size, self._made_size)
        return self.size >= limits.rows or size >= limits.size or monotonic() - self._started >= limits.seconds


def compute_chunks(blocks: Iterable[Block], function: RowFunction, width: int, limits: ChunkLimits) -> Iterator[Chunk]:
    """Yield the chunks of a range, at least one.

    If the rows have no order key, behind which a later attempt could continue, the range is one chunk.

    :param blocks: the rows in the order of a unique key, whose columns are the last ones of their keys.
    :param width: number of columns of the order key.
    :param limits: where a chunk other than the last ends.
    """
    chunk = Chunk()
    call_rows = 1  # of a function of single rows, until its speed is known
    for block in blocks:
        while len(block):
            if width and chunk.is_full(limits):
                yield chunk
                chunk = Chunk()
            count = len(block)
            if function.is_per_row:
                count = min(call_rows, limits.rows - chunk.size) if width else call_rows
            part, block = block[:count], block[count:]
            started = monotonic()
            produced = function(part.rows, part.keys)
            call_rows = _next_call_rows(call_rows, monotonic() - started)
            chunk.add(part, produced, width)
            del part, produced
    chunk.is_last = True
    yield chunk


def _next_call_rows(rows: int, seconds: float) -> int:
    if seconds > CALL_SECONDS:
        return max(1, int(rows * CALL_SECONDS / seconds))
    return min(2 * rows, 1_000) if seconds < CALL_SECONDS / 2 else rows
