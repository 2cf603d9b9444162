"""The fastest way to get rows from psycopg with bounded memory; ``benchmarks/reading.py`` has the others beside it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import RowFactory
from psycopg.types.string import TextLoader

CHUNK = 250
"""Rows fetched at once: more are not faster, and rows may be large."""


def stream(
    connection: psycopg.Connection[Any],
    query: sql.Composed,
    row_factory: RowFactory[Any],
    as_text: Sequence[int] = (),
) -> Generator[Any, None, None]:
    """The rows of a query as they come. In PostgreSQL's text format, which psycopg parses faster than the binary one.

    Closed before its end, it stops the query.

    :param as_text: the types (oids) whose values are left as the text that they are.
    """
    if psycopg.capabilities.has_stream_chunked():
        cursor = connection.cursor(row_factory=row_factory)
        _leave_as_text(cursor, as_text)
        return cursor.stream(query, size=CHUNK)  # type: ignore[return-value]  # a generator, which has close()
    return _fetch(connection, query, row_factory, as_text)


def _fetch(
    connection: psycopg.Connection[Any], query: sql.Composed, row_factory: RowFactory[Any], as_text: Sequence[int]
) -> Generator[Any, None, None]:
    # libpq before 17
    with connection.cursor("rows", row_factory=row_factory) as cursor:
        _leave_as_text(cursor, as_text)
        cursor.execute(query)
        while rows := cursor.fetchmany(CHUNK):
            yield from rows


def _leave_as_text(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any], oids: Sequence[int]) -> None:
    for oid in oids:
        cursor.adapters.register_loader(oid, TextLoader)
