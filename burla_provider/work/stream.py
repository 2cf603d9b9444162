"""The fastest way to get rows from psycopg with bounded memory; ``benchmarks/reading.py`` has the others beside it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.rows import RowFactory
from psycopg.types.string import TextLoader

CHUNK = 250
"""Rows fetched at once: more are not faster, and rows may be large."""


def stream(
    connection: psycopg.Connection[Any],
    query: sql.Composed,
    row_factory: RowFactory[Any],
    as_text: Sequence[int] = (),
) -> Generator[list[Any], None, None]:
    """The rows of a query as they come, many at a time.

    In PostgreSQL's text format, which psycopg parses faster than the binary one. Closed before its end, it stops the
    query.

    :param as_text: the types (oids) whose values are left as the text that they are.
    """
    if psycopg.capabilities.has_stream_chunked():
        cursor = _ChunkCursor(connection, row_factory=row_factory)
        _leave_as_text(cursor, as_text)
        return cursor.chunks(query)
    return _fetch(connection, query, row_factory, as_text)


class _ChunkCursor(psycopg.Cursor[Any]):
    """``Cursor.stream`` gives rows one by one from Python; here psycopg's C code makes a list of each chunk's rows.

    That takes a quarter off the time of a row. It leans on psycopg's inside as it is in 3.2 and 3.3, which
    the tests of this module watch.
    """

    def chunks(self, query: sql.Composed) -> Generator[list[Any], None, None]:
        connection = self._conn
        with connection.lock:
            try:
                connection.wait(self._stream_send_gen(query, size=CHUNK))
                first = True
                while result := connection.wait(self._stream_fetchone_gen(first)):
                    yield self._tx.load_rows(0, result.ntuples, self._make_row)
                    first = False
            except (Exception, GeneratorExit):  # after an interruption the connection is closed
                if self._pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                    self._stop()
                raise

    def _stop(self) -> None:
        connection = self._conn
        connection._try_cancel()
        # What was on its way, then the error that says that the query was cancelled, then its end.
        for _ in range(2):
            with suppress(psycopg.Error):
                while connection.wait(self._stream_fetchone_gen(first=False)):
                    pass


def _fetch(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], as_text: Sequence[int]
) -> Generator[list[Any], None, None]:
    # libpq before 17. All rows will be fetched, not the tenth that the server plans a cursor for.
    connection.execute("SET LOCAL cursor_tuple_fraction = 1")
    with connection.cursor("rows", row_factory=row_factory) as cursor:
        _leave_as_text(cursor, as_text)
        cursor.execute(query)
        while rows := cursor.fetchmany(CHUNK):
            yield rows


def _leave_as_text(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any], oids: Sequence[int]) -> None:
    for oid in oids:
        cursor.adapters.register_loader(oid, TextLoader)
