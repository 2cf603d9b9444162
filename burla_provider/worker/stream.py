"""Stream rows from psycopg with bounded memory. ``benchmarks/reading.py`` compares this with other ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.abc import Buffer
from psycopg.rows import RowFactory, tuple_row
from psycopg.types.datetime import IntervalLoader
from psycopg.types.json import set_json_loads
from psycopg.types.string import ByteaBinaryLoader

from burla_provider.database.wording import sql_name

CHUNK_ROWS = 250
"""Rows per chunk if no value is large; more are not faster."""

WIDE_CHUNK_ROWS = 8
"""Rows per chunk if values may be large. libpq fixes the number before the first row, and all rows of a chunk may be
large."""

LARGE_BYTES = 100_000
"""Rows of a chunk with a value above this size are converted one by one."""

Adapt = Callable[[psycopg.Cursor[Any] | psycopg.ServerCursor[Any]], None]


_IS_SMALL = """
SELECT bool_and(relkind IN ('r', 'm') AND NOT relhassubclass AND
                coalesce(pg_relation_size(nullif(reltoastrelid, 0)), 0) = 0 AND
                NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attlen < 0
                            AND (octet_length(attmissingval::text) > 2000 OR attgenerated = 'v')))
FROM pg_class WHERE oid = ANY (%s::bigint[]::oid[])
"""
"""Whether tables have no large values: no TOAST data, no long default of a column that was added without a rewrite, and
no virtual generated column. (A value that is compressed within a page of 8 kB has at most 2 MB.)"""


def describe_columns(connection: psycopg.Connection[Any], query: sql.Composable) -> list[psycopg.Column]:
    """Return the columns of a query. Reads no row."""
    return _query_no_rows(connection, query).description or []


@dataclass(frozen=True)
class Shape:
    """The columns of a query, and how many of its rows are read at once.

    :param columns: names and types.
    :param wide: indexes of the columns with values that may be large.
    :param chunk_rows: rows per chunk.
    """

    columns: Sequence[psycopg.Column]
    wide: Sequence[int]
    chunk_rows: int


def get_shape(connection: psycopg.Connection[Any], query: sql.Composable, key_columns: int = 0) -> Shape:
    """Return the shape of a query. Reads no row.

    :param key_columns: number of the last columns of the query, which have small values, because an index has them.
    """
    empty = _query_no_rows(connection, query)
    columns = empty.description or []
    wide = [number for number, column in enumerate(columns[: len(columns) - key_columns]) if _may_be_large(column)]
    return Shape(columns, wide, CHUNK_ROWS if _are_small(empty, wide) else WIDE_CHUNK_ROWS)


def stream(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], key_columns: int = 0
) -> Generator[list[Any], None, None]:
    """Yield the rows of a query in chunks, as they arrive.

    Values are sent in PostgreSQL's text format, which psycopg parses faster than the binary format. Closing the
    generator cancels the query.

    :param key_columns: see ``get_shape``.
    :raises ValueError: if Python cannot represent a value; the message names the column.
    """
    return _stream(connection, query, get_shape(connection, query, key_columns), row_factory, _load_exactly)


def stream_binary(
    connection: psycopg.Connection[Any], query: sql.Composed, shape: Shape
) -> Generator[list[tuple[bytes | None, ...]], None, None]:
    """Yield the rows of a query in chunks, with each value as the bytes of PostgreSQL's binary format.

    Closing the generator cancels the query.

    :param shape: shape of the query. The query may have text in place of another type.
    """

    def load_bytes(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
        cursor.format = pq.Format.BINARY
        for oid in {psycopg.adapters.types["text"].oid, *(column.type_code for column in shape.columns)}:
            cursor.adapters.register_loader(oid, ByteaBinaryLoader)

    return _stream(connection, query, shape, tuple_row, load_bytes)


def _stream(
    connection: psycopg.Connection[Any], query: sql.Composed, shape: Shape, row_factory: RowFactory[Any], adapt: Adapt
) -> Generator[list[Any], None, None]:
    size = shape.chunk_rows
    if not psycopg.capabilities.has_stream_chunked():  # libpq before 17
        if size == CHUNK_ROWS:
            return _fetch(connection, query, row_factory, adapt)
        size = 1
    cursor = _ChunkCursor(connection, row_factory=row_factory)
    adapt(cursor)
    return cursor.chunks(query, size, shape.wide)


def _query_no_rows(connection: psycopg.Connection[Any], query: sql.Composable) -> psycopg.Cursor[Any]:
    return connection.execute(sql.SQL("SELECT * FROM ({}) AS rows LIMIT 0").format(query))


def _are_small(empty: psycopg.Cursor[Any], wide: Sequence[int]) -> bool:
    """Return whether the tables of the wide columns have only small values. Values of expressions may be large."""
    tables = {empty.pgresult.ftable(number) for number in wide} if empty.pgresult else {0}
    if not tables or 0 in tables:
        return not tables
    row = empty.connection.execute(_IS_SMALL, [list(tables)]).fetchone()
    return bool(row and row[0])


def _may_be_large(column: psycopg.Column) -> bool:
    """Return whether the column's type allows large values."""
    is_numeric = column.type_code == psycopg.adapters.types["numeric"].oid
    return not (is_numeric or column.internal_size is not None or 0 <= (column.display_size or -1) <= 1_000)


def _load_exactly(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
    """Register loaders that lose no digit: Decimal for fractions in json, and no approximate intervals."""
    set_json_loads(_load_json, cursor)
    cursor.adapters.register_loader("interval", _ExactIntervalLoader)


def _load_json(text: str | bytes) -> Any:
    # A function of the module, because psycopg keeps the loaders that it makes for each function for ever.
    return json.loads(text, parse_float=Decimal)


def as_text_advice(name: str) -> str:
    """Return the remedy for a value that neither Python nor Arrow can hold."""
    return f"Read it as text: columns={{{name!r}: '{sql_name(name)}::text', ...}}."


class _ExactIntervalLoader(IntervalLoader):
    """Rejects months, years and infinity: psycopg loads a month as 30 days and a year as 365 days."""

    _exact = re.compile(rb"([-+]?\d+ days?)? ?([-+]?\d+:\d+:[\d.]+)?")

    def load(self, data: Buffer) -> timedelta:
        if not self._exact.fullmatch(data):
            raise psycopg.DataError("a timedelta has days and seconds only")
        return super().load(data)


class _ChunkCursor(psycopg.Cursor[Any]):
    """Returns a list of rows per chunk, made by psycopg's C code; ``Cursor.stream`` yields single rows from Python.

    This saves a quarter of the time per row. It uses private methods of psycopg 3.2 and 3.3, which the tests of this
    module check.
    """

    def chunks(self, query: sql.Composed, size: int, wide: Sequence[int]) -> Generator[list[Any], None, None]:
        """Yield the rows of the query in chunks of ``size`` rows.

        :param wide: indexes of the columns with values that may be large.
        """
        connection = self._conn
        with connection.lock:
            try:
                connection.wait(self._stream_send_gen(query, size=size))
                result = connection.wait(self._stream_fetchone_gen(first=True))
                while result:
                    rows = result.ntuples
                    if _has_large_values(result, rows - 1, wide):
                        for row in range(rows):
                            yield self._load(row, row + 1)
                    else:
                        yield self._load(0, rows)
                    # Free the chunk before the next one is read.
                    result.clear()
                    result = self._next()
            except (Exception, GeneratorExit):  # after an interruption the connection is closed
                if self._pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    self._stop()
                raise

    def _load(self, start: int, end: int) -> list[Any]:
        try:
            return self._tx.load_rows(start, end, self._make_row)
        except Exception as error:
            raise _with_column(self, error) from None

    def _next(self) -> pq.abc.PGresult | None:
        # psycopg's generators take longer than a chunk of eight rows, so they are used only to wait and at the end.
        if self._pgconn.is_busy():
            return self._conn.wait(self._stream_fetchone_gen(first=False))
        result = self._pgconn.get_result()
        if result and result.ntuples:
            self.pgresult = result
            self._tx.set_pgresult(result, set_loaders=False)
            return result
        if result and result.status != pq.ExecStatus.TUPLES_OK:
            self._raise_for_result(result)
        while result:
            result = self._pgconn.get_result()
        return None

    def _stop(self) -> None:
        connection = self._conn
        connection._try_cancel()
        # Read the rows that were already sent, then the error of the canceled query, then its end.
        for _ in range(2):
            with suppress(psycopg.Error):
                while connection.wait(self._stream_fetchone_gen(first=False)):
                    pass


def _fetch(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], adapt: Adapt
) -> Generator[list[Any], None, None]:
    # For libpq before 17. By default the server plans a cursor for a tenth of the rows.
    connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    with connection.cursor("rows", row_factory=row_factory) as cursor:
        adapt(cursor)
        cursor.execute(query)
        while rows := _fetch_some(cursor):
            yield rows


def _fetch_some(cursor: psycopg.ServerCursor[Any]) -> list[Any]:
    try:
        return cursor.fetchmany(CHUNK_ROWS)
    except Exception as error:
        raise _with_column(cursor, error) from None


def _has_large_values(result: pq.abc.PGresult, last: int, wide: Sequence[int]) -> bool:
    # Only the first and the last row are checked: checking all rows would take a tenth of the reading time.
    return any(len(result.get_value(row, number) or b"") > LARGE_BYTES for number in wide for row in (0, last))


def _with_column(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any], error: Exception) -> Exception:
    """Return the error with the column's name if a value caused it; otherwise the error itself."""
    result = cursor.pgresult
    if result is None or (isinstance(error, psycopg.Error) and error.sqlstate):
        return error
    loaders = [cursor._tx.get_loader(result.ftype(n), pq.Format(result.fformat(n))) for n in range(result.nfields)]
    for row in range(result.ntuples):
        for number, loader in enumerate(loaders):
            value = result.get_value(row, number)
            try:
                value is None or loader.load(value)
            except Exception as problem:
                name, text = (bytes(part or b"").decode(errors="replace") for part in (result.fname(number), value))
                return ValueError(
                    f"Python cannot hold a value of {name}: got {text[:60]!r}, {problem}. {as_text_advice(name)}"
                )
    return error
