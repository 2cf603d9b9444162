"""Rows in chunks: what the inside of psycopg is used for, next to its own ``Cursor.stream``."""

from contextlib import suppress
from itertools import chain

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row

from burla_provider.work.rows import Rows
from burla_provider.work.stream import CHUNK, stream

QUERY = (
    "SELECT n, n::numeric / 8 AS part, CASE WHEN n % 3 > 0 THEN 'text ' || n END AS note"
    " FROM (SELECT generate_series(1, {}) AS n) AS numbers"
)


@pytest.fixture(params=["chunks", "server cursor"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "server cursor":
        # No libpq before 17 is at hand, so it is only told that it is one.
        monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda: False)
    return request.param


@pytest.mark.parametrize("rows", [0, 1, CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("factory", [tuple_row, dict_row])
def test_rows_are_those_of_psycopgs_own_stream(connection, way: str, rows: int, factory) -> None:
    query = sql.Composed([sql.SQL(QUERY.format(rows))])
    connection.autocommit = False
    found = list(chain.from_iterable(stream(connection, query, factory)))
    assert found == list(connection.cursor(row_factory=factory).stream(query))
    assert len(found) == rows


def test_only_a_chunk_is_in_memory(connection, way: str) -> None:
    connection.autocommit = False
    sizes = [len(chunk) for chunk in stream(connection, sql.Composed([sql.SQL(QUERY.format(1000))]), tuple_row)]
    assert max(sizes) <= CHUNK


def test_a_cursor_is_planned_for_all_of_its_rows(connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda: False)
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT current_setting('cursor_tuple_fraction')::numeric")])
    assert list(stream(connection, query, tuple_row)) == [[(1,)]]


def test_a_query_that_is_not_read_to_its_end_is_stopped(connection, way: str) -> None:
    connection.autocommit = False
    chunks = stream(connection, sql.Composed([sql.SQL(QUERY.format(10**12))]), tuple_row)
    assert next(chunks)[0] == (1, 0.125, "text 1")
    chunks.close()
    assert connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_of_the_query_comes_through(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT 1000 / (600 - n) FROM generate_series(1, 10000) AS n")])
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(stream(connection, query, tuple_row))
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_that_the_function_keeps_to_itself_is_no_end_of_the_rows(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT 1000 / (600 - n) FROM generate_series(1, 10000) AS n")])
    rows = Rows(stream(connection, query, tuple_row))
    with pytest.raises(psycopg.errors.DivisionByZero), rows as taken, suppress(psycopg.Error):
        list(taken)
    assert rows.count < 600


@pytest.mark.parametrize("taken", [0, 1, CHUNK, CHUNK + 1, 1000])
def test_rows_are_counted_as_they_are_taken(connection, way: str, taken: int) -> None:
    connection.autocommit = False
    rows = Rows(stream(connection, sql.Composed([sql.SQL(QUERY.format(1000))]), tuple_row))
    with rows as iterator:
        assert [next(iterator)[0] for _ in range(taken)] == list(range(1, taken + 1))
    assert rows.count == taken
    assert list(iterator) == []
