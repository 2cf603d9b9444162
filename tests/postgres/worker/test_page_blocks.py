"""Blocks that the server packs have the rows of the plain query, or are not used."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg import sql

from burla_provider.ranges.key import CTID
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker import arrow
from burla_provider.worker.arrow import record_batches
from burla_provider.worker.arrow_columns import arrow_column
from burla_provider.worker.page_blocks import find_pages, read_blocks
from burla_provider.worker.processors import ProcessRows
from burla_provider.worker.source import Source
from burla_provider.worker.stream import CHUNK_ROWS, get_shape
from tests.postgres.worker.conftest import ROWS
from tests.support.drawn_tables import SUFFIXES, quoted

COLUMNS = ("id", "n", "amount", "name", "code", "at", "flag", "raw", "tags", "facts", "ratio")
SETTINGS = "SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0"
"""Those of a worker that reads ranges of pages."""
MANY = """
    CREATE TABLE many (
        id bigint NOT NULL, n integer, amount numeric(12, 2), name text, code char(5), at timestamptz, flag boolean,
        raw bytea, tags text[], facts jsonb, ratio real, gone text);
    INSERT INTO many
    SELECT g, nullif(g % 7, 0), nullif(g % 11, 0) / 100.0,
           CASE g % 5 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'ä' || g END,
           CASE WHEN g % 13 > 0 THEN 'a ' END,
           CASE WHEN g % 3 > 0 THEN '2024-01-01Z'::timestamptz + g * interval '1 s' END,
           nullif(g % 4, 0) = 1,
           decode(nullif(to_hex(256 + g % 7), '100') || '0', 'hex'),
           CASE WHEN g % 2 = 0 THEN ARRAY[g::text, NULL] END,
           CASE WHEN g % 17 > 0 THEN jsonb_build_object('g', g) END,
           g / 3.0
    FROM generate_series(1, 30000) AS g;
    ALTER TABLE many DROP COLUMN gone;
    DELETE FROM many WHERE id BETWEEN 9000 AND 20000;
    ANALYZE many
"""

DRAWN = {
    "bigint": "(random() * 1e15)::bigint",
    "smallint": "g % 100",
    "real": "random()",
    "double precision": "CASE WHEN g % 9 = 0 THEN 'NaN' WHEN g % 9 = 1 THEN '-Infinity' ELSE random() END",
    "numeric": "round((random() * 1000)::numeric, g % 10)",
    "numeric(10,3)": "random() * 1000",
    "numeric(5,-2)": "random() * 10000",
    "boolean": "g % 3 = 0",
    "date": "date '0001-01-01' + g * 400",
    "time": "time '00:00' + g * interval '1 s'",
    "timestamptz": "timestamptz '0100-01-01 00:00Z' + g * interval '1 year'",
    "text": "repeat(md5(g::text), g % 8)",
    "char(7)": "'a' || g % 99",
    "name": "'ä' || g",
    "bytea": "decode(md5(g::text), 'hex')",
    "jsonb": "jsonb_build_object('ä', g)",
    "uuid": "md5(g::text)::uuid",
    "text[]": "ARRAY['a', '', NULL, 'x\"y']",
    "interval": "g * interval '1 day'",
    '"char"': "'x'",
    "bit(3)": "b'101'",
}
"""Type -> SQL of a value of row g."""


@pytest.fixture(autouse=True)
def _reads_ranges_of_pages(connection: psycopg.Connection) -> None:
    if connection.info.server_version < 140000:
        pytest.skip("PostgreSQL 14 brought scans of a range of pages")


@pytest.fixture
def many(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(MANY)
    connection.execute(SETTINGS)
    connection.autocommit = False
    return connection


def pages(first: int | None = None, end: int | None = None, **fields) -> KeyRange:
    lower, upper = (None if page is None else (f"({page},0)",) for page in (first, end))
    return KeyRange(CTID, 0, lower, upper, **fields)


def blocks(connection: psycopg.Connection, source: Source, key_range: KeyRange):
    """Return the blocks of a range; None if they are not used."""
    found = find_pages(source, key_range)
    if found is None:
        return None
    shape = get_shape(connection, source.select(source.column_list, key_range))
    columns = [arrow_column(column, connection.info.encoding) for column in shape.columns]
    return read_blocks(connection, found, shape, columns)


def batches(connection: psycopg.Connection, source: Source, key_range: KeyRange, batch_size: int | None = None):
    """Return the batches that are made of blocks."""
    query = source.select(source.column_list, key_range)
    return list(record_batches(connection, query, batch_size, pages=find_pages(source, key_range)))


def rows_of(found) -> list[dict]:
    return [row for batch in found for row in batch.to_pylist()]


@pytest.mark.parametrize("bounds", [(None, None), (3, 77), (32, 33), (None, 64), (100, None), (10_000, None)])
@pytest.mark.parametrize("where", [None, "id % 3 > 0 -- comment", "false", "name LIKE '%7%' AND n IS NULL"])
def test_blocks_have_the_rows_of_the_query(many, bounds, where) -> None:
    source, key_range = Source("public", "many", COLUMNS, where), pages(*bounds)
    assert blocks(many, source, key_range) is not None
    query = source.select(source.column_list, key_range)
    expected = rows_of(record_batches(many, query))
    found = batches(many, source, key_range)
    assert rows_of(found) == expected
    assert bool(expected) is (where != "false" and bounds[0] != 10_000)
    assert {batch.schema for batch in found} <= {batch.schema for batch in record_batches(many, query)}


def test_values_of_expressions_may_be_null(many) -> None:
    columns = {"id": "nullif(id % 5, 0)", "burla_blocks": "1", "page": "n + 1", "id 2": "id"}
    source = Source("public", "many", columns)
    assert blocks(many, source, pages()) is not None
    expected = rows_of(record_batches(many, source.select(source.column_list, pages())))
    assert rows_of(batches(many, source, pages())) == expected
    assert {row["id"] for row in expected} == {None, 1, 2, 3, 4}


@st.composite
def drawn_tables(draw) -> tuple[str, Source, KeyRange]:
    """The SQL of a table, which rows of it to read, and a range of its pages."""
    kinds = draw(st.lists(st.sampled_from(list(DRAWN)), min_size=1, max_size=6))
    names = [quoted(f"{draw(st.sampled_from(SUFFIXES))}{number}") for number in range(len(kinds))]
    definitions, values = ["gone int", "row_id int"], ["g"]
    for name, kind in zip(names, kinds, strict=True):
        nulls = draw(st.sampled_from([None, 0.2, 1]))
        definitions.append(f"{name} {kind}{'' if nulls else ' NOT NULL'}")
        values.append(f"CASE WHEN random() >= {nulls or 0} THEN {DRAWN[kind]} END")
    changes = [
        "ALTER TABLE drawn DROP gone",
        "DELETE FROM drawn WHERE row_id BETWEEN 500 AND 3000",
        "UPDATE drawn SET row_id = -row_id WHERE row_id % 5 = 0",
        "ALTER TABLE drawn ADD added text DEFAULT 'é', ADD twice int GENERATED ALWAYS AS (row_id * 2) STORED",
        "ANALYZE drawn",
    ]
    script = [
        "DROP TABLE IF EXISTS drawn",
        f"CREATE TABLE drawn ({', '.join(definitions)})",
        f"INSERT INTO drawn (row_id, {', '.join(names)})"
        f" SELECT {', '.join(values)} FROM generate_series(1, {draw(st.sampled_from([0, 1, 50, 5_000]))}) AS g",
        *(change for change in changes if draw(st.booleans())),
    ]
    columns = ("row_id", *(name[1:-1].replace('""', '"') for name in names))
    expressions = {
        f"e{number}": draw(st.sampled_from([name, f"nullif({name}::text, 'a')"])) for number, name in enumerate(names)
    }
    where = draw(st.sampled_from([None, "row_id % 2 = 0", "'%' LIKE '%%' AND row_id <> 7 -- %s"]))
    source = Source("public", "drawn", draw(st.sampled_from([columns, columns[::-1], expressions])), where)
    first, count = draw(st.sampled_from([0, 0, 1, 32, 1_000])), draw(st.sampled_from([None, None, 1, 33, 1_000]))
    return "; ".join(script), source, pages(first or None, count and first + count)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(drawn=drawn_tables(), batch_size=st.sampled_from([None, 1, 7, 1_000]))
def test_blocks_of_any_table_have_the_rows_of_the_query(many, drawn, batch_size) -> None:
    script, source, key_range = drawn
    assume(many.info.server_version >= 150000 or "(5,-2)" not in script)
    many.prepare_threshold = None  # the table changes
    many.execute(sql.SQL(script))
    query = source.select(source.column_list, key_range)
    expected = rows_of(record_batches(many, query))
    found = batches(many, source, key_range, batch_size)
    assert repr(rows_of(found)) == repr(expected)  # NaN
    assert len(expected) == many.execute(sql.SQL("SELECT count(*) FROM ({}) AS rows").format(query)).fetchone()[0]
    assert {batch.num_rows for batch in found[:-1]} <= {batch_size} or batch_size is None
    for batch in found:
        batch.validate(full=True)


@pytest.mark.parametrize("batch_size", [1, 7, 1_000, 18_999, 1_000_000])
def test_batches_have_exactly_the_size_that_is_given(many, batch_size) -> None:
    source = Source("public", "many", ("id", "name"))
    found = batches(many, source, pages(), batch_size)
    assert {batch.num_rows for batch in found[:-1]} <= {batch_size}
    assert 0 < found[-1].num_rows <= batch_size
    assert sorted(row["id"] for row in rows_of(found)) == [*range(1, 9_000), *range(20_001, 30_001)]


def test_large_batches_have_exactly_the_size_that_is_given(many, monkeypatch) -> None:
    monkeypatch.setattr(arrow, "MAX_SIZED_BATCH_BYTES", 120_000)
    sizes = [batch.num_rows for batch in batches(many, Source("public", "many", ("id", "name")), pages(), 5_000)]
    assert sizes == [5_000, 5_000, 5_000, 3_999]


def test_batches_of_large_rows_are_smaller_than_the_size_that_is_given(many, monkeypatch) -> None:
    monkeypatch.setattr(arrow, "_MAX_BATCH_BYTES", 10_000)
    monkeypatch.setattr(arrow, "MAX_SIZED_BATCH_BYTES", 50_000)
    found = batches(many, Source("public", "many", ("id", "name")), pages(), 5_000)
    assert all(20_000 < batch.nbytes <= 50_000 for batch in found[1:-1])
    assert sum(batch.num_rows for batch in found) == 18_999


def test_without_a_snapshot_rows_that_move_to_new_pages_are_read(many) -> None:
    found = blocks(many, Source("public", "many", ("id",)), pages(3))
    with psycopg.connect(many.info.dsn, password=many.info.password) as other:
        other.execute("UPDATE many SET n = 1 WHERE id > 8500")
    query = "SELECT count(*) FROM many WHERE ctid >= '(3,0)'"
    assert [sum(rows for _, rows in found)] == list(many.execute(query).fetchone())


def test_a_reader_that_stops_ends_the_query(many) -> None:
    source = Source("public", "many", ("id",))
    reader = record_batches(many, source.select(source.column_list, pages()), 10, pages=find_pages(source, pages()))
    assert next(reader).num_rows == 10
    reader.close()
    assert many.info.transaction_status != psycopg.pq.TransactionStatus.ACTIVE
    many.rollback()
    assert many.execute("SELECT 1").fetchone() == (1,)


def test_only_the_pages_of_the_table_itself_are_read(many) -> None:
    many.execute("CREATE TABLE child () INHERITS (many)")
    many.execute("CREATE TABLE whole (id bigint) PARTITION BY RANGE (id)")
    many.execute("CREATE TABLE part PARTITION OF whole FOR VALUES FROM (0) TO (9)")
    many.execute("INSERT INTO child (id) VALUES (-1)")
    many.execute("INSERT INTO whole VALUES (5)")
    source = Source("public", "many", ("id",))
    assert blocks(many, source, pages()) is None
    assert -1 in [row["id"] for row in rows_of(batches(many, source, pages()))]
    leaf = pages(relation=("public", "many"))
    assert blocks(many, source, leaf) is not None
    assert -1 not in [row["id"] for row in rows_of(batches(many, source, leaf))]
    source = Source("public", "whole", ("id",), partitioned=True)
    assert blocks(many, source, pages()) is None
    assert rows_of(batches(many, source, pages())) == [{"id": 5}]
    leaf = pages(relation=("public", "part"))
    assert blocks(many, source, leaf) is not None
    assert rows_of(batches(many, source, leaf)) == [{"id": 5}]


def test_blocks_are_not_used_where_values_may_be_large_or_ranges_are_of_a_key(many) -> None:
    assert blocks(many, Source("public", "many", {"x": "repeat(name, 3)"}), pages()) is None
    assert blocks(many, Source("public", "many", ("id",)), KeyRange(CTID, 0, ("(3,5)",), None)) is None
    many.execute("CREATE TABLE long AS SELECT 1 AS id, repeat('x', 500) AS note FROM generate_series(1, 100)")
    assert blocks(many, Source("public", "long", ("note",)), pages()) is not None
    many.execute("ANALYZE long")
    assert blocks(many, Source("public", "long", ("note",)), pages()) is None
    assert blocks(many, Source("public", "long", ("id",)), pages()) is not None
    many.execute("ALTER TABLE many ALTER name SET STORAGE external")
    many.execute("UPDATE many SET name = repeat('x', 9000) WHERE id = 5")
    assert blocks(many, Source("public", "many", ("name",)), pages()) is None
    assert blocks(many, Source("public", "many", ("id",)), pages()) is not None


def test_a_long_default_of_a_column_that_was_added_is_a_large_value(many) -> None:
    many.execute("ALTER TABLE many ADD short text DEFAULT 'a', ADD long text DEFAULT repeat('x', 500000)")
    assert blocks(many, Source("public", "many", ("id", "short")), pages()) is None
    query = sql.SQL("SELECT long FROM many")
    assert get_shape(many, query).chunk_rows < CHUNK_ROWS
    assert blocks(many, Source("public", "many", ("id",)), pages()) is not None


def test_a_value_that_is_generated_when_it_is_read_may_be_large(many) -> None:
    if many.info.server_version < 180000:
        pytest.skip("PostgreSQL 18 brought virtual columns")
    many.execute("ALTER TABLE many ADD long text GENERATED ALWAYS AS (repeat('x', id::int * 100000)) VIRTUAL")
    assert get_shape(many, sql.SQL("SELECT long FROM many")).chunk_rows < CHUNK_ROWS
    assert blocks(many, Source("public", "many", ("id", "name")), pages()) is None
    assert blocks(many, Source("public", "many", ("id",)), pages()) is not None


@pytest.mark.parametrize(
    "where", ["id = 5", "id < 200", "n IN (SELECT id FROM other)", "EXISTS (SELECT FROM other WHERE other.id = many.n)"]
)
def test_blocks_are_not_used_where_the_server_reads_an_index_or_another_table(many, where) -> None:
    many.execute("CREATE INDEX ON many (id); CREATE TABLE other AS SELECT 1::bigint AS id")
    many.execute("ANALYZE many")
    source = Source("public", "many", ("id",), where)
    assert blocks(many, source, pages()) is None
    assert blocks(many, replace(source, where="id > 200"), pages(0, 50)) is not None
    assert rows_of(batches(many, source, pages()))


def test_blocks_are_not_used_where_a_policy_reads_an_index(many) -> None:
    many.execute("CREATE INDEX ON many (id); ALTER TABLE many ENABLE ROW LEVEL SECURITY")
    many.execute("CREATE POLICY one ON many USING (id = 7); GRANT SELECT ON many TO pg_monitor; SET ROLE pg_monitor")
    source = Source("public", "many", ("id",))
    assert blocks(many, source, pages()) is None
    assert rows_of(batches(many, source, pages())) == [{"id": 7}]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_text_is_converted_by_the_client_if_the_server_has_another_encoding(postgres_server, encoding) -> None:
    with postgres_server.database(encoding=encoding) as conninfo, psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE notes AS SELECT 1 AS id, 'a'::text AS note")
        assert blocks(connection, Source("public", "notes", ("id", "note")), pages()) is None
        assert rows_of(batches(connection, Source("public", "notes", ("id", "note")), pages())) == [
            {"id": 1, "note": "a"}
        ]
        assert blocks(connection, Source("public", "notes", ("id",)), pages()) is not None


def test_a_worker_reads_pages_in_its_snapshot(worker, held, orders) -> None:
    def add_up(batches):
        import pyarrow.compute as pc

        return {"total": sum(pc.sum(batch["amount"]).as_py() for batch in batches)}

    one = worker(ProcessRows(add_up, batch_format="arrow"), key=CTID, snapshot=held.snapshot)
    orders.execute("UPDATE orders SET amount = 0")
    outcome = one(pages())
    assert (outcome.value, outcome.row_count) == ({"total": Decimal("5005.00")}, ROWS)
