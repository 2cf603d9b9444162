"""The fastest way to get rows from psycopg with bounded memory; ``benchmarks/reading.py`` has the others beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.abc import Buffer
from psycopg.rows import RowFactory
from psycopg.types.datetime import IntervalLoader
from psycopg.types.json import set_json_loads

CHUNK = 250
"""Rows fetched at once where no value is large: more are not faster."""

WIDE_CHUNK = 8
"""Rows fetched at once where a value may have any size. libpq fixes the number before it has seen the first row, and
the next eight rows may all be large ones."""

LARGE = 100_000
"""Bytes of a value from which on the rows of its chunk become Python objects one by one."""

Adapt = Callable[[psycopg.Cursor[Any] | psycopg.ServerCursor[Any]], None]


_IS_SMALL = """
SELECT bool_and(relkind IN ('r', 'm') AND NOT relhassubclass AND
                coalesce(pg_relation_size(nullif(reltoastrelid, 0)), 0) = 0)
FROM pg_class WHERE oid = ANY (%s::bigint[]::oid[])
"""
"""Whether tables have no value outside their pages of 8 kB. (Compressed within a page, a value has at most 700 kB.)"""


def describe(connection: psycopg.Connection[Any], query: sql.Composable) -> list[psycopg.Column]:
    """Return the columns of a query. Reads no row."""
    return _read_nothing(connection, query).description or []


def stream(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], adapt: Adapt | None = None
) -> Generator[list[Any], None, None]:
    """The rows of a query as they come, many at a time.

    In PostgreSQL's text format, which psycopg parses faster than the binary one. Closed before its end, it stops the
    query.

    :param adapt: registers on the cursor how values are loaded. Default: ``load_exactly``.
    :raises ValueError: Python cannot hold a value; the message names the column.
    """
    nothing = _read_nothing(connection, query)
    wide = [number for number, column in enumerate(nothing.description or ()) if may_be_large(column)]
    size = CHUNK if _are_small(nothing, wide) else WIDE_CHUNK
    adapt = adapt or load_exactly
    if not psycopg.capabilities.has_stream_chunked():  # libpq before 17
        if size == CHUNK:
            return _fetch(connection, query, row_factory, adapt)
        size = 1
    cursor = _ChunkCursor(connection, row_factory=row_factory)
    adapt(cursor)
    return cursor.chunks(query, size, wide)


def _read_nothing(connection: psycopg.Connection[Any], query: sql.Composable) -> psycopg.Cursor[Any]:
    return connection.execute(sql.SQL("SELECT * FROM ({}) AS rows LIMIT 0").format(query))


def _are_small(nothing: psycopg.Cursor[Any], wide: Sequence[int]) -> bool:
    """Whether the tables that the wide columns are of have small values only. Of expressions nobody knows."""
    tables = {nothing.pgresult.ftable(number) for number in wide} if nothing.pgresult else {0}
    if not tables or 0 in tables:
        return not tables
    row = nothing.connection.execute(_IS_SMALL, [list(tables)]).fetchone()
    return bool(row and row[0])


def may_be_large(column: psycopg.Column) -> bool:
    """Whether the column's type sets no limit, or a high one, to the size of its values."""
    is_numeric = column.type_code == psycopg.adapters.types["numeric"].oid
    return not (is_numeric or column.internal_size is not None or 0 <= (column.display_size or -1) <= 1_000)


def load_exactly(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
    """Have the cursor lose no digit: Decimal for fractions in json, and no interval of about a month."""
    set_json_loads(partial(json.loads, parse_float=Decimal), cursor)
    cursor.adapters.register_loader("interval", _ExactIntervalLoader)


def as_text_advice(name: str) -> str:
    """Return the remedy for a value that neither Python nor Arrow can hold."""
    quoted = name if re.fullmatch("[a-z_][a-z0-9_]*", name) else '"{}"'.format(name.replace('"', '""'))
    return f"Read it as text: columns={{{name!r}: '{quoted}::text', ...}}."


class _ExactIntervalLoader(IntervalLoader):
    """psycopg takes a month for 30 days, a year for 365, and infinity for nothing."""

    _exact = re.compile(rb"([-+]?\d+ days?)? ?([-+]?\d+:\d+:[\d.]+)?")

    def load(self, data: Buffer) -> timedelta:
        if not self._exact.fullmatch(data):
            raise psycopg.DataError("a timedelta has days and seconds only")
        return super().load(data)


class _ChunkCursor(psycopg.Cursor[Any]):
    """``Cursor.stream`` gives rows one by one from Python; here psycopg's C code makes a list of each chunk's rows.

    That takes a quarter off the time of a row. It leans on psycopg's inside as it is in 3.2 and 3.3, which
    the tests of this module watch.
    """

    def chunks(self, query: sql.Composed, size: int, wide: Sequence[int]) -> Generator[list[Any], None, None]:
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
                    # Before the next chunk comes, or two would be in memory.
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
        # psycopg's generators take longer than a chunk of eight rows. They are needed to wait, and at the end.
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
        # What was on its way, then the error that says that the query was cancelled, then its end.
        for _ in range(2):
            with suppress(psycopg.Error):
                while connection.wait(self._stream_fetchone_gen(first=False)):
                    pass


def _fetch(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], adapt: Adapt
) -> Generator[list[Any], None, None]:
    # libpq before 17. All rows will be fetched, not the tenth that the server plans a cursor for.
    connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    with connection.cursor("rows", row_factory=row_factory) as cursor:
        adapt(cursor)
        cursor.execute(query)
        while rows := _fetch_some(cursor):
            yield rows


def _fetch_some(cursor: psycopg.ServerCursor[Any]) -> list[Any]:
    try:
        return cursor.fetchmany(CHUNK)
    except Exception as error:
        raise _with_column(cursor, error) from None


def _has_large_values(result: pq.abc.PGresult, last: int, wide: Sequence[int]) -> bool:
    # In the first or the last row: to look at all of them would take a tenth of the time of the rows.
    for number in wide:
        if len(result.get_value(0, number) or b"") > LARGE or len(result.get_value(last, number) or b"") > LARGE:
            return True
    return False


def _with_column(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any], error: Exception) -> Exception:
    """Return the error with the name of the column that has the value; the error itself where it is about no value."""
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
                name, text = (bytes(some or b"").decode(errors="replace") for some in (result.fname(number), value))
                return ValueError(
                    f"Python cannot hold a value of {name}: got {text[:60]!r}, {problem}. {as_text_advice(name)}"
                )
    return error
