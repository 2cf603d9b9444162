"""Write the rows that a user's function makes of a range to another table, or to the same one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from burla_provider.database.quoting import Identifier, Literal, type_name
from burla_provider.database.snapshot import UNDO_RANGE
from burla_provider.exceptions import RowsChangedError, TooManyRejectsError
from burla_provider.ranges.condition import comparison
from burla_provider.ranges.key import Bound, Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.blocks import Block
from burla_provider.worker.chunk_ledger import Progress
from burla_provider.worker.chunks import CHUNK_ROWS, Chunk, ChunkLimits, compute_chunks
from burla_provider.worker.errors import mark_row_names
from burla_provider.worker.isolation import IsolateFailures, row_at
from burla_provider.worker.processors.processor import RangeResult
from burla_provider.worker.refused_rows import PartsRefusedError
from burla_provider.worker.rejects import COUNT, Rejected, RejectLimit
from burla_provider.worker.row_functions import RowFunction
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter

MAX_ROUNDS = 100
"""How often the same rows are computed again because other sessions change them."""


@dataclass(frozen=True)
class Transform:
    """Computes first, then writes: no transaction is open on the target while the function runs.

    :param function: the user's function.
    :param writer: writes the rows.
    :param unique_key: NOT NULL columns that identify a row; no columns if the source has no such key.
    :param chunk_rows: number of rows of a chunk that reaches none of the other ``ChunkLimits``.
    :param reads_xmin: whether the function gets the xmin and the unique key of each row, which is updated in place.
    :param limit: rows of all ranges together that may be rejected; None: no limit.
    """

    function: RowFunction
    writer: TargetWriter
    unique_key: Key
    chunk_rows: int = CHUNK_ROWS
    reads_xmin: bool = False
    limit: RejectLimit | None = None

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return how many rows were written.

        Continues behind the last chunk in the ledger, which this or another worker has committed.
        """
        try:
            return self._transform(connection, source, key_range)
        except Exception as error:
            mark_row_names(error, order_key(key_range, self.unique_key).names)
            raise

    def _transform(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        progress = self.writer.read_progress(key_range)
        self._check_limit(progress)
        rounds = 0
        while not progress.is_finished:
            before = progress
            if progress.pending:
                rounds += 1
                progress = self._write_pending(source, key_range, progress, rounds)
            else:
                progress = self._write_rest(connection, source, key_range, progress)
            if progress.position != before.position:  # other rows are pending, maybe by another worker
                rounds = 0
        return RangeResult(dict(progress.counts), progress.row_count)

    def _write_rest(
        self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange, progress: Progress
    ) -> Progress:
        order = order_key(key_range, self.unique_key)
        query = self._query(source, key_range, order)
        if progress.position is not None:
            query += sql.SQL(" AND ") + _is_behind(source, order, progress.position)
        if order.columns:
            query += sql.SQL(" ORDER BY ") + _order_by(source, order)
        with closing(self._read(order, query, connection)) as blocks:
            for chunk in self._compute(blocks, order):
                progress, is_written = self._write(key_range, progress, chunk)
                # What another worker has written may end at another row, so the rows behind it are read again.
                if not is_written or progress.pending:
                    break
        if connection.info.transaction_status == TransactionStatus.INERROR:  # the query was canceled
            connection.execute(UNDO_RANGE)
        return progress

    def _write_pending(self, source: Source, key_range: KeyRange, progress: Progress, rounds: int) -> Progress:
        """Read again what other sessions have changed, compute and write it."""
        order = order_key(key_range, self.unique_key)
        query = self._query(source, key_range, order) + sql.SQL(" AND ") + _is_one_of(source, self.unique_key, progress)
        blocks = self.writer.read(key_range, partial(self._read, order, query))
        vanished = len(progress.pending) - sum(map(len, blocks))
        chunk = Chunk(vanished=vanished, key_names=order.names)
        if rounds > MAX_ROUNDS:
            self._give_up(key_range, progress, blocks, chunk)
        else:
            for part in self._compute(blocks, order):
                chunk.rows += part.rows
                chunk.filtered += part.filtered
                chunk.parts += part.parts
                chunk.rejected += part.rejected
        return self._write(key_range, progress, chunk)[0]

    def _give_up(self, key_range: KeyRange, progress: Progress, blocks: list[Block], chunk: Chunk) -> None:
        """Reject the rows."""
        advice = "Make the function faster, or run the task when they change less."
        if self.writer.rejects is None:
            key = ", ".join(progress.pending[0])
            raise RowsChangedError(
                f"{len(progress.pending):,} rows of {key_range} were changed by other sessions each of the {MAX_ROUNDS}"
                f" times that they were computed, such as {', '.join(self.unique_key.names)} = {key}. {advice}"
            )
        error = RowsChangedError(f"Other sessions changed the row each of the {MAX_ROUNDS} times that it was computed.")
        for block in blocks:
            for number, keys in enumerate(block.keys):
                chunk.rejected.append(Rejected.because(error, row_at(block.rows, number), keys[self._extra :]))

    def _write(self, key_range: KeyRange, progress: Progress, chunk: Chunk) -> tuple[Progress, bool]:
        isolate = self.function if isinstance(self.function, IsolateFailures) else None
        while True:
            try:
                progress, is_written = self.writer.write(key_range, progress, chunk, isolate)
            except PartsRefusedError as refused:
                assert isolate is not None  # noqa: S101 (it has made the parts)
                chunk = isolate.split_parts(chunk, frozenset(refused.numbers))
                continue
            self._check_limit(progress)
            return progress, is_written

    def _check_limit(self, progress: Progress) -> None:
        rejected = progress.counts.get(COUNT, 0)
        if self.limit and self.limit.is_certain(rejected, progress.row_count):
            raise TooManyRejectsError(f"{rejected:,} rows were rejected (tolerated: {self.limit}).")

    def _query(self, source: Source, key_range: KeyRange, order: Key) -> sql.Composed:
        """Return a query of the rows. The last columns are xmin and the unique key, if needed, and the order key."""
        version = [Identifier(source.table, "xmin"), *_columns(source, self.unique_key)] if self.reads_xmin else []
        columns = [*version, *_columns(source, order)]
        texts = [sql.SQL("{}::text").format(column) for column in columns]
        return source.select(sql.SQL(", ").join([source.column_list, *texts]), key_range)

    def _compute(self, blocks: Iterable[Block], order: Key) -> Iterator[Chunk]:
        for chunk in compute_chunks(blocks, self.function, len(order.columns), ChunkLimits(self.chunk_rows)):
            chunk.key_names = order.names
            yield chunk

    def _read(
        self, order: Key, query: sql.Composed, connection: psycopg.Connection[Any]
    ) -> Generator[Block, None, None]:
        function = self.function
        return function.format.read_blocks(connection, query, self._extra + len(order.columns), function.batch_size)

    @property
    def _extra(self) -> int:
        return 1 + len(self.unique_key.columns) if self.reads_xmin else 0


def order_key(key_range: KeyRange, unique_key: Key) -> Key:
    """Return the columns by which the rows of the range are read, which identify a row.

    They begin with the split key, whose index has this order. It is left out if it can be NULL in the range.
    """
    may_be_null = key_range.nulls or (key_range.key.nullable and key_range.lower is None and key_range.upper is None)
    if may_be_null or not unique_key.columns:
        return unique_key
    split = key_range.key.columns
    names = key_range.key.names
    return Key((*split, *(column for column in unique_key.columns if column.name not in names)))


def _columns(source: Source, key: Key) -> list[sql.Composable]:
    # Qualified, because an expression of the select list may have the name of a column.
    return [Identifier(source.table, name) for name in key.names]


def _is_behind(source: Source, order: Key, position: Bound) -> sql.Composable:
    return comparison(order.columns, _columns(source, order), ">", _values(order, position))


def _is_one_of(source: Source, key: Key, progress: Progress) -> sql.Composed:
    comma = sql.SQL(", ")
    columns = comma.join(_columns(source, key))
    rows = [sql.SQL("({})").format(comma.join(_values(key, values))) for values in progress.pending]
    return sql.SQL("({}) IN ({})").format(columns, comma.join(rows))


def _values(key: Key, values: Bound) -> list[sql.Composable]:
    pairs = zip(key.columns, values, strict=True)
    return [sql.SQL("{}::{}").format(Literal(value), type_name(column.type)) for column, value in pairs]


def _order_by(source: Source, order: Key) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.SQL("{} USING {}").format(name, type_name(column.operator("<")))
        for name, column in zip(_columns(source, order), order.columns, strict=True)
    )
