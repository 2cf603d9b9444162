"""Rows in chunks, which use private methods of psycopg, compared with its ``Cursor.stream``."""

import re
from contextlib import suppress
from decimal import Decimal
from itertools import chain
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import JsonLoader

from burla_provider.worker.arrow import record_batches
from burla_provider.worker.batch_formats import BATCH_FORMATS
from burla_provider.worker.rows import ROW_FORMATS, Rows, read_batches
from burla_provider.worker.stream import CHUNK_ROWS, LARGE_BYTES, WIDE_CHUNK_ROWS, stream

QUERY = (
    "SELECT n, n::numeric / 8 AS part, CASE WHEN n % 3 > 0 THEN 'text ' || n END AS note"
    " FROM (SELECT generate_series(1, {}) AS n) AS numbers"
)


@pytest.fixture(params=["chunks", "server cursor"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "server cursor":
        # Simulates libpq before 17.
        monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda: False)
    return request.param


def test_further_queries_create_no_classes(connection, way: str) -> None:
    """psycopg never frees the loaders that it creates."""
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT '[1.50]'::json AS v")])
    counts = set()
    for _ in range(3):
        assert list(stream(connection, query, tuple_row)) == [[([Decimal("1.50")],)]]
        counts.add(len(JsonLoader.__subclasses__()))
    assert len(counts) == 1


@pytest.mark.parametrize("rows", [0, 1, CHUNK_ROWS, 3 * CHUNK_ROWS + 7])
@pytest.mark.parametrize("factory", [tuple_row, dict_row])
@pytest.mark.parametrize("columns", ["*", "n, part"], ids=["of any size", "of limited size"])
def test_rows_equal_those_of_cursor_stream(connection, way: str, rows: int, factory, columns: str) -> None:
    query = sql.Composed([sql.SQL(f"SELECT {columns} FROM ({QUERY.format(rows)}) AS q")])
    connection.autocommit = False
    found = list(chain.from_iterable(stream(connection, query, factory)))
    assert found == list(connection.cursor(row_factory=factory).stream(query))
    assert len(found) == rows


def test_only_a_chunk_is_in_memory(connection, way: str) -> None:
    connection.autocommit = False
    sizes = [len(chunk) for chunk in stream(connection, sql.Composed([sql.SQL(QUERY.format(1000))]), tuple_row)]
    assert max(sizes) <= CHUNK_ROWS


def test_a_cursor_is_planned_for_all_of_its_rows(connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda: False)
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT current_setting('cursor_tuple_fraction')::numeric")])
    assert list(stream(connection, query, tuple_row)) == [[(1,)]]


def test_a_query_that_is_not_read_to_its_end_is_cancelled(connection, way: str) -> None:
    connection.autocommit = False
    chunks = stream(connection, sql.Composed([sql.SQL(QUERY.format(10**12))]), tuple_row)
    assert next(chunks)[0] == (1, 0.125, "text 1")
    chunks.close()
    assert connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_of_the_query_is_raised(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT 1000 / (600 - n) FROM generate_series(1, 10000) AS n")])
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(stream(connection, query, tuple_row))
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_reading_arrow_can_end_early(connection, way: str) -> None:
    connection.autocommit = False
    batches = record_batches(connection, sql.Composed([sql.SQL(QUERY.format(10**12))]))
    assert next(batches)["n"][0].as_py() == 1
    batches.close()
    assert connection.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_an_error_while_arrow_is_read_is_raised(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT 1000 / (6000 - n) AS n, 'a' AS t FROM generate_series(1, 10000) AS n")])
    with pytest.raises(psycopg.errors.DivisionByZero):
        list(record_batches(connection, query))
    connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("nulls", ["g % 3 = 0", "g % 900 < 300", "TRUE", "FALSE"])
def test_arrow_has_the_rows_and_nulls_of_tuples(connection, way: str, nulls: str) -> None:
    connection.execute(f"""
        CREATE TABLE mixed AS SELECT CASE WHEN {nulls} THEN NULL ELSE g END::bigint AS id,
            (CASE WHEN {nulls} THEN NULL ELSE g / 100.0 END)::numeric(12, 2) AS amount,
            CASE WHEN NOT {nulls} THEN g % 2 = 0 END AS even, g::float4 / 3 AS rate,
            CASE WHEN NOT {nulls} THEN repeat(E'ä\n', g % 5) END AS label,
            CASE WHEN NOT {nulls} THEN date '2000-01-01' - g END AS day,
            CASE WHEN NOT {nulls} THEN '1969-12-31 23:59:59.999999Z'::timestamptz + g * interval '1 hour' END AS at,
            CASE WHEN NOT {nulls} THEN point(g, g) END AS place, g AS number
        FROM generate_series(1, {7 * CHUNK_ROWS + 3}) AS g""")
    connection.autocommit = False
    connection.execute("SET LOCAL timezone = 'UTC'")
    query = sql.Composed([sql.SQL("SELECT * FROM mixed ORDER BY number")])
    found = [tuple(row.values()) for batch in record_batches(connection, query) for row in batch.to_pylist()]
    assert found == list(chain.from_iterable(stream(connection, query, tuple_row)))


@pytest.mark.parametrize("value", ["repeat('x', 30000)", "repeat('x', g % 100000)", "convert_to('x', 'UTF8')"])
def test_a_batch_is_bounded_in_bytes_and_rows(connection, way: str, value: str) -> None:
    connection.autocommit = False
    query = sql.SQL(f"SELECT {value} AS v FROM generate_series(1, {{}}) AS g").format(10_000)
    batches = [(batch.num_rows, batch.nbytes) for batch in record_batches(connection, query)]
    assert sum(rows for rows, _ in batches) == 10_000
    assert max(size for _, size in batches) < 4_000_000


def test_arrow_computes_an_expression_once(connection) -> None:
    connection.execute("""
        CREATE SEQUENCE calls;
        CREATE FUNCTION pair_of(n bigint) RETURNS jsonb STABLE LANGUAGE sql AS
            $$ SELECT jsonb_build_object('call', nextval('calls'), 'n', n) $$""")
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT pair_of(n) AS pair FROM generate_series(1, 100) AS n")])
    list(record_batches(connection, query))
    assert connection.execute("SELECT last_value FROM calls").fetchone() == (100,)


def test_an_error_that_the_function_caught_is_raised_again(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.Composed([sql.SQL("SELECT 1000 / (600 - n) FROM generate_series(1, 10000) AS n")])
    rows = Rows(stream(connection, query, tuple_row))
    with pytest.raises(psycopg.errors.DivisionByZero), rows as taken, suppress(psycopg.Error):
        list(taken)
    assert rows.count < 600


@pytest.mark.parametrize("taken", [0, 1, CHUNK_ROWS, CHUNK_ROWS + 1, 1000])
def test_rows_are_counted_as_they_are_taken(connection, way: str, taken: int) -> None:
    connection.autocommit = False
    rows = Rows(stream(connection, sql.Composed([sql.SQL(QUERY.format(1000))]), tuple_row))
    with rows as iterator:
        assert [next(iterator)[0] for _ in range(taken)] == list(range(1, taken + 1))
    assert rows.count == taken
    assert list(iterator) == []


def peak_memory() -> int:
    """Return the peak memory of this process since the peak was cleared, in MB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux clears the peak")
@pytest.mark.parametrize("row_format", [*ROW_FORMATS, *BATCH_FORMATS])
@pytest.mark.parametrize(
    "value",
    [
        "repeat('x', CASE WHEN g > 20000 THEN 8000000 ELSE 1 END)",
        "convert_to(repeat('x', CASE WHEN g > 20000 THEN 8000000 ELSE 1 END), 'UTF8')",
        "to_json(repeat('x', CASE WHEN g > 20000 THEN 8000000 ELSE 1 END))",
    ],
    ids=["text", "bytea", "json"],
)
def test_memory_does_not_depend_on_the_number_of_large_rows(connection, row_format: str, value: str) -> None:
    import pandas  # noqa: F401 (not what is measured)
    import polars  # noqa: F401
    import pyarrow.compute  # noqa: F401

    connection.autocommit = False
    query = sql.Composed([sql.SQL(f"SELECT g, {value} AS v FROM generate_series(1, 20040) AS g")])
    if row_format in BATCH_FORMATS:
        rows = read_batches(connection, query, row_format)
    else:
        rows = ROW_FORMATS[row_format](connection, query)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    with rows as taken:
        for _ in taken:
            pass
    assert rows.count == 20_040
    assert peak_memory() - before < 300


def test_large_rows_are_converted_one_by_one(connection, way: str) -> None:
    connection.autocommit = False
    query = sql.SQL("SELECT repeat('x', {}) AS v FROM generate_series(1, {})")
    sizes = [len(chunk) for chunk in stream(connection, query.format(LARGE_BYTES + 1, 12), tuple_row)]
    assert sizes == [1] * 12


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("SELECT id, v FROM small", CHUNK_ROWS),
        ("SELECT id, v || '' AS v FROM small", WIDE_CHUNK_ROWS),
        ("SELECT id FROM large", CHUNK_ROWS),
        ("SELECT v FROM large", WIDE_CHUNK_ROWS),
        ("SELECT v FROM parent", WIDE_CHUNK_ROWS),
        ("SELECT v FROM parted", WIDE_CHUNK_ROWS),
        ("SELECT v FROM seen", WIDE_CHUNK_ROWS),
    ],
)
def test_chunks_are_small_if_values_may_be_large(connection, query: str, size: int) -> None:
    connection.execute("""
        CREATE TABLE small AS SELECT g AS id, 'a'::text AS v FROM generate_series(1, 300) AS g;
        CREATE TABLE large AS SELECT g AS id, 'a'::text AS v FROM generate_series(1, 300) AS g;
        ALTER TABLE large ALTER v SET STORAGE EXTERNAL;
        UPDATE large SET v = repeat('x', 10000) WHERE id = 300;
        CREATE TABLE parent (LIKE small);
        CREATE TABLE child () INHERITS (parent);
        INSERT INTO child TABLE large;
        CREATE TABLE parted (LIKE small) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parted DEFAULT;
        INSERT INTO parted TABLE large;
        CREATE VIEW seen AS SELECT * FROM large;""")
    connection.autocommit = False
    sizes = [len(chunk) for chunk in stream(connection, sql.Composed([sql.SQL(query)]), tuple_row)]
    if size == WIDE_CHUNK_ROWS and not psycopg.capabilities.has_stream_chunked():
        size = 1  # libpq before 17
    assert (max(sizes), sum(sizes)) == (size, 300)
