"""Every value of every type reaches the function exactly, or fails with advice."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import chain

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.database.settings import EXACT_TEXT, local_settings
from burla_provider.ranges.key import CTID
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.arrow import record_batches
from burla_provider.worker.page_blocks import find_pages
from burla_provider.worker.source import Source
from burla_provider.worker.stream import stream

PAGES = KeyRange(CTID, 0)

SETUP = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN money_like AS numeric(25, 3);
CREATE DOMAIN flags AS bool[];
CREATE TYPE pair AS (a integer, b text);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE FUNCTION text_of(value text, type_name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN  -- format, because a cast takes the blanks from char(n)
    EXECUTE format('SELECT format(''%%s'', %L::%s)', value, type_name) INTO found;
    PERFORM convert_to(found, 'UTF8');  -- before PostgreSQL 15, "char" keeps the first byte of a character
    RETURN found;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
"""

TYPES = """
SELECT format_type(t.oid, NULL) FROM pg_type AS t LEFT JOIN pg_class AS c ON c.oid = t.typrelid
WHERE t.typtype <> 'p' AND t.typisdefined AND (c.relkind IS NULL OR c.oid = 'pair'::regclass)
  AND t.typnamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace) AND NOT EXISTS (
    SELECT FROM pg_class AS r WHERE r.reltype = t.typelem AND r.oid <> 'pair'::regclass AND t.typelem <> 0)
"""

DECLARED = [
    *("numeric(5,2)", "numeric(38,10)", "numeric(50,10)", "numeric(76,0)", "numeric(100,2)", "numeric(3,-2)"),
    *("numeric(3,5)", "numeric(1000,0)", "numeric(38,38)", "varchar(3)", "char(5)", "bit(3)", "bit varying(70)"),
    *("time(0)", "timestamptz(0)", "timestamp(3)", "interval(0)", "interval month", "numeric(5,2)[]", "char(5)[]"),
]

TEXTS = [
    *("", "0", "1", "-1", "t", "f", "32767", "2147483647", "9223372036854775807", "0.00012", "-0.1", "1e-320", "1e300"),
    *("12345678901234567890123", "123456789012345678901.5", "99999999999999999999.999999999999999999", "0.1234567890"),
    *("1.00000000000000000000", "-49129715307145565062.7571802891592894236", "1e37", "1e38", "9" * 76, "1" * 80, "NaN"),
    *("Infinity", "-infinity", "epoch", "2024-02-29", "0044-03-15 BC", "10000-01-01", "294276-12-31", "0001-01-01"),
    *("1900-01-01 00:00:00+00", "1890-06-01 12:00:00.000001", "12:34:56.789", "24:00:00", "23:59:59.999999+05:53:28"),
    *("1 mon", "1 year -3 days", "-1 days +02:03:04.5", "178000000 years", "100000000 days", "00:00:00.000001"),
    *("sad", "a", 'x"\\,{}()', " a ", "ä€𝄞", r"\x61005cff", "{}", "{1,NULL}", "{t,f}", '{"a b",NULL}', "[2:3]={1,2}"),
    *("[1,5)", "(,)", "empty", "[2024-01-01,infinity)", "{[1,5),[7,9)}", "(1,x)", "101", "B101", "(1,2)"),
    *("10.0.0.1/8", "::1", "08:00:2b:01:02:03", "08:00:2b:01:02:03:04:05", "12.34", "<a>b</a>", "$.a"),
    *('{"a": 12345678901234567890.12}', "550e8400-e29b-41d4-a716-446655440000", "16/B374D848", "a & b", "pg_type"),
    *("(0,0)", "[(0,0),(1,1)]", "(1,1),(0,0)", "((0,0),(1,1))", "<(0,0),1>", "{1,2,3}", "postgres", "10:20:10,15"),
]


@pytest.fixture
def exact(connection: psycopg.Connection) -> psycopg.Connection:
    """A session with a worker's settings, in a time zone whose offset once had seconds."""
    connection.execute(SETUP)
    connection.autocommit = False
    connection.execute(local_settings(EXACT_TEXT | {"timezone": "Asia/Kolkata"}), prepare=False)
    return connection


def declared_types(connection: psycopg.Connection) -> list[str]:
    """Return ``DECLARED`` without what this server refuses."""
    if connection.info.server_version >= 150000:
        return DECLARED
    return [name for name in DECLARED if name not in ("numeric(3,-2)", "numeric(3,5)")]


def values_of(connection: psycopg.Connection, type_name: str) -> list[str]:
    """Return the texts that the type accepts, as the server prints them."""
    # A table that is created meanwhile may get the OID 32767: then regclass has its name.
    texts = [text for text in TEXTS if text != "32767" or not type_name.startswith("reg")]
    if type_name.endswith("[]"):
        texts += ['{"' + text.replace("\\", r"\\").replace('"', r"\"") + '"}' for text in texts]
    rows = connection.execute(
        """SELECT DISTINCT found FROM unnest(%(texts)s::text[]) AS u(text), text_of(text, %(type)s) AS found
        WHERE text_of(found, %(type)s) = found ORDER BY found""",
        {"texts": texts, "type": type_name},
    )
    return [text for (text,) in rows]


def query(type_name: str, texts: list[str]) -> sql.Composed:
    values = [sql.SQL("({}::{})").format(sql.Literal(text), sql.SQL(type_name)) for text in texts]
    return sql.SQL("SELECT v FROM (VALUES {}) AS u(v)").format(sql.SQL(", ").join(values))


def assert_exact_or_refused(connection: psycopg.Connection, type_name: str, texts: list[str], read) -> None:
    """Check that the values of ``read(query)`` equal the server's."""
    try:
        values = read(query(type_name, texts))
    except ValueError as error:
        assert re.search(r"\bv\b.* Read it as text: columns={'v': 'v::text', ...}", str(error))  # noqa: PT017
        if len(texts) > 1:
            for text in texts:
                assert_exact_or_refused(connection, type_name, [text], read)
        return
    assert len(values) == len(texts)
    for value, text in zip(values, texts, strict=True):
        if not is_the_same(connection, type_name, value, text):
            pytest.fail(f"{type_name} {text!r} arrived as {value!r}")


def is_the_same(connection: psycopg.Connection, type_name: str, value, text: str) -> bool:
    if isinstance(value, Decimal) and value.is_finite():
        return value == Decimal(text)  # Arrow has as many decimals as the column
    if isinstance(value, bytes):
        value = rf"\x{value.hex()}"
    if connection.execute("SELECT text_of(%s, %s)", [str(value), type_name]).fetchone() == (text,):
        return True
    if isinstance(value, list):  # a list has no bounds
        text = re.sub(r"^\[[^=]*]=", "", text)
    elif isinstance(value, timedelta):
        value, text = [value], f'{{"{text}"}}'
    query = f"SELECT format('%%s', (%s)::{type_name})"
    if type_name.startswith("interval"):  # a timedelta has days of 24 hours
        query = "SELECT array(SELECT justify_hours(x) FROM unnest((%s)::interval[]) AS x)::text"
        [(text,)] = connection.execute(query, [text])
    with suppress(psycopg.Error), connection.transaction():
        return connection.execute(query, [value]).fetchone() == (text,)
    return False


def arrow_values(connection: psycopg.Connection):
    return lambda asked: [value for batch in record_batches(connection, asked) for value in batch["v"].to_pylist()]


def tuple_values(connection: psycopg.Connection):
    return lambda asked: [value for (value,) in chain.from_iterable(stream(connection, asked, tuple_row))]


def page_values(connection: psycopg.Connection):
    connection.prepare_threshold = None  # the table changes
    connection.execute("SET LOCAL enable_seqscan = off")  # as a worker that reads ranges of pages

    def read(asked: sql.Composed) -> list:
        if "cstring" in asked.as_string(connection):  # no table has it
            return arrow_values(connection)(asked)
        connection.execute("DROP TABLE IF EXISTS paged")
        connection.execute(sql.SQL("CREATE TABLE paged AS ") + asked)
        source = Source("public", "paged", ("v",))
        batches = record_batches(connection, source.select(source.column_list, PAGES), pages=find_pages(source, PAGES))
        return [value for batch in batches for value in batch["v"].to_pylist()]

    return read


@pytest.mark.parametrize("values", [arrow_values, page_values, tuple_values])
def test_a_value_of_any_type_is_the_servers_or_an_error_that_names_the_column(exact, values) -> None:
    types = [name for (name,) in exact.execute(TYPES)] + declared_types(exact)
    read = values(exact)
    tried = 0
    for type_name in types:
        texts = values_of(exact, type_name)
        if not texts:
            continue
        tried += len(texts)
        if type_name.removesuffix("[]") in ("json", "jsonb") and values is tuple_values:
            continue  # a Python object; below
        assert_exact_or_refused(exact, type_name, texts, read)
    assert len(types) > 150
    assert tried > 1_500


@pytest.mark.parametrize("values", [arrow_values, page_values])
def test_nulls_of_any_type_are_nulls_in_arrow(exact, values) -> None:
    read = values(exact)
    for (type_name,) in exact.execute(TYPES).fetchall():
        text = next(iter(values_of(exact, type_name)), None)
        if text is None:
            continue
        asked = sql.SQL("SELECT v FROM (VALUES (NULL::{0}), ({1}::{0}), (NULL)) AS u(v)").format(
            sql.SQL(type_name), sql.Literal(text)
        )
        with suppress(ValueError):  # a value that Arrow cannot hold; above
            first, value, last = read(asked)
            assert (first, value is None, last) == (None, False, None), type_name


def test_values_that_look_like_null_are_not_null_in_arrow(exact) -> None:
    for text, type_name in [("(,)", "pair"), ("{NULL}", "integer[]"), ("NULL", "text"), ("", "text"), ("", "tsvector")]:
        assert arrow_values(exact)(query(type_name, [text])) == [text]


@pytest.mark.parametrize(
    ("type_name", "text", "problem"),
    [
        ("date", "infinity", "got infinity"),
        ("date", "-infinity", "got -infinity"),
        ("date", "10000-01-01", "got a year before 1 or after 9999"),
        ("timestamptz", "infinity", "got infinity"),
        ("timestamp", "0001-12-31 BC", "got a year before 1 or after 9999"),
        ("time", "24:00:00", "got 24:00:00"),
        ("numeric(12,2)", "NaN", "got NaN|NaN"),
        ("numeric", "1e30", "cannot hold"),
    ],
)
def test_a_value_that_arrow_cannot_hold_is_named_with_its_column(
    exact, type_name: str, text: str, problem: str
) -> None:
    asked = sql.SQL("SELECT 1 AS id, '{}'::{} AS \"valid To\"").format(sql.SQL(text), sql.SQL(type_name))
    with pytest.raises(ValueError, match=problem) as error:
        list(record_batches(exact, asked))
    assert re.search("Arrow's .* cannot hold a value of valid To: ", str(error.value))
    assert str(error.value).endswith("""Read it as text: columns={'valid To': '"valid To"::text', ...}.""")


@pytest.mark.parametrize("client", ["UTF8", "LATIN1", "EUC_JP"])
def test_text_is_utf_8_in_arrow_whatever_the_client_encoding_is(exact, client: str) -> None:
    exact.execute(sql.SQL("SET client_encoding = {}").format(sql.Literal(client)))
    text = {"UTF8": "ä€𝄞", "LATIN1": "äö", "EUC_JP": "日本"}[client]
    for type_name in ("text", "json", "text[]", "mood"):
        value = {"json": f'"{text}"', "text[]": f"{{{text}}}", "mood": "sad"}.get(type_name, text)
        assert arrow_values(exact)(query(type_name, [value])) == [value]


def test_bytes_that_are_not_utf_8_are_an_error_in_arrow(postgres_server) -> None:
    with postgres_server.database(encoding="SQL_ASCII") as conninfo:
        for encoding in ("SQL_ASCII", "UTF8"):
            with psycopg.connect(conninfo, client_encoding=encoding) as connection:
                asked = sql.Composed([sql.SQL(r"SELECT E'a\xff' AS v")])
                with pytest.raises((ValueError, psycopg.Error), match="UTF"):
                    list(record_batches(connection, asked))


digits = st.text("0123456789", max_size=45)
numerics = st.builds("{}0{}.{}".format, st.sampled_from(["", "-"]), digits, digits)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(
    texts=st.lists(numerics, min_size=1, max_size=4),
    type_name=st.sampled_from(["numeric", "numeric(38,10)", "numeric(38,0)", "numeric(70,30)", "numeric(38,38)"]),
)
def test_a_numeric_of_any_length_is_the_same_in_arrow_or_an_error(exact, texts: list[str], type_name: str) -> None:
    texts = [text for text in texts if exact.execute("SELECT text_of(%s, %s)", [text, type_name]).fetchone()[0]]
    if texts:
        asked = query(type_name, texts)
        with suppress(ValueError):
            assert arrow_values(exact)(asked) == [value for (value,) in exact.execute(asked)]


def test_trailing_zeros_of_a_numeric_are_accepted(exact) -> None:
    asked = query("numeric", ["1.0000000000000000000000", "-99999999999999999999.10000000000000000000"])
    assert arrow_values(exact)(asked) == [Decimal(1), Decimal("-99999999999999999999.1")]


def test_fractions_in_json_are_decimals(exact) -> None:
    document = '{"a": [12345678901234567890.12, 0.1], "b": 12345678901234567890123}'
    for type_name in ("json", "jsonb"):
        [value] = tuple_values(exact)(query(type_name, [document]))
        assert value == {"a": [Decimal("12345678901234567890.12"), Decimal("0.1")], "b": 12345678901234567890123}


@pytest.mark.parametrize(
    ("type_name", "text", "problem"),
    [
        ("interval", "1 mon", "a timedelta has days and seconds only"),
        ("interval", "1 year", "a timedelta has days and seconds only"),
        ("date", "infinity", "too large"),
        ("timestamptz", "0044-03-15 12:00:00+00 BC", "too small"),
        ("time", "24:00:00", "hour must be in 0..23"),
        ("timestamp[]", '{"10000-01-01 00:00:00"}', "too large"),
    ],
)
@pytest.mark.parametrize("chunked", sorted({False, psycopg.capabilities.has_stream_chunked()}))
def test_a_value_that_python_cannot_hold_is_named_with_its_column(
    exact, monkeypatch: pytest.MonkeyPatch, type_name: str, text: str, problem: str, chunked: bool
) -> None:
    monkeypatch.setattr(psycopg.capabilities, "has_stream_chunked", lambda check=False: chunked)
    asked = sql.SQL("SELECT 1 AS id, '{}'::{} AS \"valid To\" FROM generate_series(1, 300)").format(
        sql.SQL(text), sql.SQL(type_name)
    )
    with pytest.raises(ValueError, match=problem) as error:
        list(stream(exact, asked, tuple_row))
    assert "a value of valid To" in str(error.value)
    assert str(error.value).endswith("""Read it as text: columns={'valid To': '"valid To"::text', ...}.""")
