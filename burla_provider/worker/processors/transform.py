"""Write what a user's function makes of the rows of a range to another table, or to the same one."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.database.quoting import Identifier, Literal, type_name
from burla_provider.ranges.condition import comparison
from burla_provider.ranges.key import Bound, Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.chunk_ledger import Progress
from burla_provider.worker.chunks import CHUNK_ROWS, compute_chunks
from burla_provider.worker.processors.processor import RangeResult
from burla_provider.worker.row_functions import RowFunction
from burla_provider.worker.source import Source
from burla_provider.worker.stream import stream
from burla_provider.worker.target_writer import TargetWriter


@dataclass(frozen=True)
class Transform:
    """Computes first, then writes: no transaction is open on the target while the function runs.

    :param function: the user's function.
    :param writer: writes the rows.
    :param unique_key: NOT NULL columns that identify a row; a key without columns if the source has none.
    :param chunk_rows: minimum size of a chunk other than the last.
    """

    function: RowFunction
    writer: TargetWriter
    unique_key: Key
    chunk_rows: int = CHUNK_ROWS

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return how many rows were written.

        Continues behind the last chunk in the ledger, which this or another worker has committed.
        """
        progress = self.writer.read_progress(key_range)
        while not progress.is_finished:
            progress = self._write_rest(connection, source, key_range, progress)
        return RangeResult(dict(progress.counts), progress.row_count)

    def _write_rest(
        self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange, progress: Progress
    ) -> Progress:
        order = order_key(key_range, self.unique_key)
        query = ordered_query(source, key_range, order, progress.position)
        with closing(stream(connection, query, tuple_row)) as rows:
            for chunk in compute_chunks(rows, self.function, len(order.columns), self.chunk_rows):
                before, progress = progress, self.writer.write(key_range, progress, chunk)
                if progress.chunks != before.chunks + 1:  # another worker has written it
                    break
        return progress


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


def ordered_query(source: Source, key_range: KeyRange, order: Key, position: Bound | None) -> sql.Composed:
    """Return a query of the rows behind a position, in order. The last columns are the order key as text."""
    # Qualified, because an expression of the select list may have the name of a column.
    columns = [Identifier(source.table, name) for name in order.names]
    texts = [sql.SQL("{}::text").format(column) for column in columns]
    query = source.select(sql.SQL(", ").join([source.column_list, *texts]), key_range)
    if position is not None:
        values = [
            sql.SQL("{}::{}").format(Literal(value), type_name(column.type))
            for column, value in zip(order.columns, position, strict=True)
        ]
        query += sql.SQL(" AND ") + comparison(order.columns, columns, ">", values)
    if columns:
        query += sql.SQL(" ORDER BY ") + sql.SQL(", ").join(
            sql.SQL("{}{}").format(column, _using(key_column.operators))
            for column, key_column in zip(columns, order.columns, strict=True)
        )
    return query


def _using(operators: tuple[str, ...]) -> sql.Composable:
    return sql.SQL(" USING {}").format(type_name(operators[0])) if operators else sql.SQL("")
