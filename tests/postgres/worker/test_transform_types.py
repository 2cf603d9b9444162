"""Values of every type are written as they were read."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import MapRow, RowFormat
from burla_provider.worker.sinks import Insert, Target, UpdateInPlace, Upsert
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ranges

np = pytest.importorskip("numpy")

VALUES = {
    "smallint": ["-32768", "7"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["1.00", "-0.000000000000000000001", "NaN", "12345678901234567890123456789.5"],
    "numeric(6,2)": ["1234.50"],
    "real": ["1.1", "NaN", "-Infinity"],
    "double precision": ["0.1", "-0", "1e308", "Infinity", "5e-324"],
    "text": ["", "a", "\\N", "tab\t and\nline\\", "Größe 🙂", 'it\'s "quoted"'],
    "varchar(5)": ["abc"],
    "char(5)": ["abc"],
    '"char"': ["x"],
    "bytea": ["\\x", "\\x00ff5c0a"],
    "boolean": ["t", "f"],
    "date": ["2026-11-30", "0001-01-01"],
    "timestamp": ["2026-11-30 10:00:00.123456"],
    "timestamptz": ["2026-11-30 10:00:00.123456+05:30"],
    "time": ["23:59:59.999999"],
    "timetz": ["10:00:00+02"],
    "interval": ["3 days 04:05:06.7", "-1 days"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
    "json": ['{"b": 1.50, "a": [null, "x"]}', '"text"', "12345678901234567890.123"],
    "jsonb": ['{"b": 1.50, "a": [null, {"c": "\\\\"}]}', '"text"', "[]", "true"],
    "integer[]": ["{}", "{1,NULL,3}", "{{1,2},{3,4}}"],
    "text[]": ['{"a b","",NULL,"NULL","q\\"u\\\\"}'],
    "numeric[]": ["{1.10,NaN}"],
    "int4range": ["[1,5)", "empty", "(,3)"],
    "tstzrange": ['["2026-01-01 00:00:00+00",)'],
    "inet": ["192.168.0.1/24", "::1"],
    "point": ["(1,2.5)"],
    "mood": ["sad", "very happy"],
    "email": ["a@example.com"],
    "tsvector": ["'a':1 'b':2"],
    "bit(4)": ["1010"],
}


@pytest.fixture
def values(connection: psycopg.Connection):
    """``values(type, texts)``: two tables with a column of the type, and the texts as values of the first."""
    connection.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN email AS text CHECK (VALUE ~ '@')"
    )

    def make(name, texts):
        for table in ("given", "taken"):
            connection.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, v {name})")
        for number, text in enumerate([*texts, None], 1):
            connection.execute(f"INSERT INTO given VALUES (%s, %s::text::{name})", [number, text])
        return connection

    return make


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("mode", ["insert", "upsert", "in place"])
def test_a_value_passes_through_exactly(values, name, mode):
    connection = values(name, VALUES[name])
    json_columns = ("v",) if name in ("json", "jsonb") else ()
    source = Source("public", "given", ("id", "v"))
    if mode == "in place":
        connection.execute("INSERT INTO taken TABLE given; UPDATE given SET v = v")
        sink = UpdateInPlace(Target("public", "given", ("v",), json_columns), ("id",))
        function = UpdateRows(EachRow(lambda row: row[1:]), RowFormat(("id", "v"), ("v",)), 2)
    else:
        target = Target("public", "taken", ("id", "v"), json_columns)
        sink = Insert(target) if mode == "insert" else Upsert(target, ("id",), ("v",))
        function = MapRow(lambda row: row, RowFormat(("id", "v"), ("id", "v")))
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), sink)
    with psycopg.connect(connection.info.dsn, password=connection.info.password) as reader:
        result = Transform(function, writer, KEY, reads_xmin=mode == "in place")(reader, source, ranges(1)[0])
    writer.close()
    assert result.row_count == len(VALUES[name]) + 1
    for one, other in (("given", "taken"), ("taken", "given")):
        query = f"SELECT id, v::text FROM {one} EXCEPT ALL SELECT id, v::text FROM {other}"
        assert connection.execute(query).fetchall() == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\0b", "^v: a text has a NUL character, which PostgreSQL cannot store: "),
        ("\udcff.csv", r"^v: a text has '\\udcff', which utf-8 does not have: '\\udcff.csv'. Replace it.$"),
    ],
)
@pytest.mark.parametrize("sink", [Insert, lambda target: Upsert(target, ("id",), ("v",))], ids=["insert", "upsert"])
def test_text_that_cannot_be_stored_is_refused_by_name(values, sink, text, message):
    connection = values("text", ["a"])
    target = Target("public", "taken", ("id", "v"))
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), sink(target))
    transform = Transform(MapRow(lambda row: (row[0], text), RowFormat(("id", "v"), ("id", "v"))), writer, KEY)
    with (
        psycopg.connect(connection.info.dsn, password=connection.info.password) as reader,
        pytest.raises(ValueError, match=message),
    ):
        transform(reader, Source("public", "given", ("id", "v")), ranges(1)[0])
    writer.close()


def test_the_keys_of_a_dict_with_decimals_become_texts(values):
    connection = values("jsonb", [])
    amounts = {2026: Decimal("1.50"), None: Decimal(2), True: Decimal(3), "a": {0.5: Decimal(4)}}
    Insert(Target("public", "taken", ("id", "v"), ("v",))).write(connection, [(1, amounts)])
    [(written,)] = connection.execute("SELECT v::text FROM taken").fetchall()
    assert written == '{"a": {"0.5": 4}, "2026": 1.50, "null": 2, "true": 3}'
    with pytest.raises(TypeError, match="keys must be str"):
        Insert(Target("public", "taken", ("id", "v"), ("v",))).write(connection, [(2, {(1, 2): Decimal(1)})])


def test_json_in_arrays_is_written_exactly(values):
    connection = values("jsonb[]", ["{}", '{NULL,"{\\"a\\": [1.50, null, \\"x\\"]}","\\"text\\"","[1, 2]",true}'])
    target = Target("public", "taken", ("id", "v"), json_arrays=("v",))
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), Insert(target))
    transform = Transform(MapRow(lambda row: row, RowFormat(("id", "v"), ("id", "v"))), writer, KEY)
    with psycopg.connect(connection.info.dsn, password=connection.info.password) as reader:
        transform(reader, Source("public", "given", ("id", "v")), ranges(1)[0])
    writer.close()
    assert connection.execute("TABLE given EXCEPT ALL TABLE taken").fetchall() == []


ID = UUID(int=5)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("text", ID, "00000000-0000-0000-0000-000000000005"),
        ("text[]", [ID, None], "{00000000-0000-0000-0000-000000000005,NULL}"),
        ("uuid[]", [ID], "{00000000-0000-0000-0000-000000000005}"),
        ("text", True, "true"),
        ("text[]", [True, False], "{true,false}"),
        ("boolean[]", [True, None, False], "{t,NULL,f}"),
        ("text", np.bool_(False), "false"),
        ("numeric", np.float32(0.1), "0.1"),
        ("double precision[]", [np.float32(0.1), np.float32("nan")], "{0.1,NaN}"),
        ("real", np.float32(1e-45), "1e-45"),
    ],
    ids=lambda value: f"{value!r:.30}",
)
def test_values_have_the_text_of_postgresql_in_a_column_of_another_type(values, name, value, expected):
    connection = values(name, [])
    Insert(Target("public", "taken", ("id", "v"))).write(connection, [(1, value)])
    assert connection.execute("SELECT v::text FROM taken").fetchall() == [(expected,)]


@pytest.mark.parametrize("name", ["integer", "numeric"])
def test_a_uuid_is_no_number(values, name):
    connection = values(name, [])
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        Insert(Target("public", "taken", ("id", "v"))).write(connection, [(1, ID)])


@pytest.mark.parametrize("value", [{"a": 1}, {1, 2}, [{"a": 1}], [1, "a"]], ids=str)
def test_a_value_that_psycopg_cannot_write_is_refused_by_name(values, value):
    connection = values("text[]", [])
    target = Target("public", "taken", ("id", "v"))
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), Insert(target))
    transform = Transform(MapRow(lambda row: (str(row[0]), value), RowFormat(("id", "v"), ("id", "v"))), writer, KEY)
    with (
        psycopg.connect(connection.info.dsn, password=connection.info.password) as reader,
        pytest.raises(ValueError, match=f"^v: a value of the type {type(value).__name__} cannot be written: "),
    ):
        transform(reader, Source("public", "given", ("id", "v")), ranges(1)[0])
    writer.close()
