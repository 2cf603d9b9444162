"""Values of every type are written byte by byte as they were read, or the row is refused."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import EXACT_TEXT, SessionSettings, local_settings
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.target import find_in_place, find_sink
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import MapRow, RowFormat
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ranges
from tests.postgres.worker.test_values import TYPES, declared_types, exact, values_of  # noqa: F401 (a fixture)

MODES = ["insert", "upsert", "update", "in place"]


class RoundTrip:
    """Copies column ``v`` of table ``given`` to table ``taken``, or to itself."""

    def __init__(self, connection: psycopg.Connection[Any], reader: psycopg.Connection[Any], mode: str) -> None:
        self.connection, self.reader, self.mode = connection, reader, mode

    def create(self, type_name: str, texts: list[str]) -> None:
        values = sql.SQL(", ").join(
            sql.SQL("({}, {}::{})").format(number, sql.Literal(text), sql.SQL(type_name))
            for number, text in enumerate([*texts, None])
        )
        query = sql.SQL("""
            DROP TABLE IF EXISTS given, taken; CREATE TABLE given (id bigint PRIMARY KEY, v {type});
            INSERT INTO given VALUES {values}; CREATE TABLE taken (id bigint PRIMARY KEY, v {type});
        """).format(type=sql.SQL(type_name), values=values)
        self.connection.execute(query)
        if self.mode == "update":
            self.connection.execute("INSERT INTO taken SELECT id FROM given")
        elif self.mode == "in place":  # the row is written, because its value differs from the one that was read
            self.connection.execute("INSERT INTO taken TABLE given; UPDATE given SET v = NULL")

    def run(self, expression: str, *, dicts: bool) -> None:
        """Read ``v`` as this expression, and write it. The function returns dicts or tuples."""
        source = Source("public", "given", {"id": "id", "v": expression})
        config: Any = SimpleNamespace(
            target_table="taken",
            write_mode=self.mode,
            conflict_columns=None,
            target_columns=None,
            update_columns=None,
            version_column=None,
        )
        function: Any
        if self.mode == "in place":
            given = f"(SELECT {expression.replace('v', 'taken.v')} FROM taken WHERE taken.id = given.id)"
            source = Source("public", "given", {"id": "id", "v": given})
            config.update_columns, config.key = ["v"], None
            facts = read_facts(PlannerConnection(self.connection), "given")
            session: Any = SimpleNamespace(schema="public", table="given", facts=facts)
            sink = find_in_place(self.connection, config, session)
            form = RowFormat(("id", "v"), ("v",), dicts)
            function = UpdateRows(EachRow(_only_v if dicts else _tail), form, 2)
        else:
            sink = find_sink(self.connection, config)
            function = MapRow(_same, RowFormat(("id", "v"), ("id", "v"), dicts))
        writer = TargetWriter(connection_parameters(self.connection), SessionSettings(), sink)
        with self.reader.transaction():
            self.reader.execute(local_settings(EXACT_TEXT), prepare=False)
            Transform(function, writer, KEY, reads_xmin=self.mode == "in place")(self.reader, source, ranges(1)[0])
        writer.close()

    def differences(self) -> list[tuple[Any, ...]]:
        """Return the values that were read and written, if a byte differs."""
        read, written = ("taken", "given") if self.mode == "in place" else ("given", "taken")
        query = f"""
            SELECT read.v::text, written.v::text FROM {read} AS read FULL JOIN {written} AS written USING (id)
            WHERE ROW(read.v)::record *<> ROW(written.v)::record
        """
        return self.connection.execute(query).fetchall()


def _same(row: Any) -> Any:
    return row


def _tail(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[1:]


def _only_v(row: dict[str, Any]) -> dict[str, Any]:
    return {"v": row["v"]}


@pytest.mark.parametrize("mode", MODES)
def test_a_value_of_any_type_is_written_as_it_was_read(connection, exact, mode) -> None:  # noqa: F811
    types = [name for (name,) in exact.execute(TYPES) if name.removesuffix("[]") != "cstring"]
    types += [*declared_types(exact), "note", "notes", "happiness"]
    exact.execute(DOMAINS)
    texts = {type_name: values_of(exact, type_name) for type_name in types}
    exact.commit()
    connection.autocommit = True
    connection.prepare_threshold = None  # the tables are created again and again
    with psycopg.connect(connection.info.dsn, password=connection.info.password, prepare_threshold=None) as reader:
        trip = RoundTrip(connection, reader, mode)
        different = [
            (type_name, *values) for type_name, all_ in texts.items() for values in copy_values(trip, type_name, all_)
        ]
    assert [one for one in different if not is_equal(connection, *one)] == []


DOMAINS = """
CREATE DOMAIN noted AS jsonb CHECK (jsonb_typeof(VALUE) <> 'nothing'); CREATE DOMAIN note AS noted;
CREATE DOMAIN notes AS jsonb[]; CREATE DOMAIN happiness AS mood CHECK (VALUE = 'happy');
"""


def copy_values(trip: RoundTrip, type_name: str, texts: list[str]) -> list[tuple[Any, ...]]:
    """Return the values that were not written as they were read. What Python cannot hold is read as text."""
    trip.create(type_name, texts)
    try:
        trip.run("v", dicts=len(texts) % 2 == 0)
    except ValueError as error:
        assert "Read it as text: columns={'v': 'v::text'" in str(error)  # noqa: PT017
        if len(texts) > 1:
            return [one for text in texts for one in copy_values(trip, type_name, [text])]
        trip.run("v::text", dicts=False)
    return trip.differences()


def is_equal(connection: psycopg.Connection[Any], type_name: str, given: str, taken: str) -> bool:
    """Return whether a value differs only in what Python does not have.

    A list has no lower bound. A timedelta has 24 hours per day. A json object has no spaces.
    """
    given = re.sub(r"^\[[^=]*]=", "", given)
    if type_name.startswith("interval") and not type_name.endswith("[]"):
        [(same,)] = connection.execute("SELECT %s::interval = %s::interval", [given, taken]).fetchall()
    elif type_name == "interval[]":
        [(same,)] = connection.execute("SELECT %s::interval[] = %s::interval[]", [given, taken]).fetchall()
    elif type_name in ("json", "json[]"):
        array = type_name.removeprefix("json")
        [(same,)] = connection.execute(f"SELECT %s::jsonb{array} = %s::jsonb{array}", [given, taken]).fetchall()
    else:
        same = given == taken
    return bool(same)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
numbers = st.decimals(allow_infinity=False, allow_nan=False)
documents = st.recursive(
    st.booleans() | texts | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)
DRAWN = {
    "text": texts,
    "text[]": st.lists(texts | st.none()) | st.lists(st.tuples(texts, texts).map(list), min_size=1),
    "bytea": st.binary(max_size=20),
    "bytea[]": st.lists(st.binary(max_size=20)),
    "numeric": numbers,
    "numeric[]": st.lists(numbers),
    "double precision": st.floats(allow_nan=False) | st.just(math.nan),  # a NaN with other bits has the same text
    "timestamptz": st.datetimes(timezones=st.timezones()),
    "daterange": st.tuples(st.dates(), st.dates()).map(lambda days: psycopg.types.range.Range(*sorted(days))),
    "jsonb": documents.map(Jsonb),
    "jsonb[]": st.lists(documents.map(Jsonb) | st.none()),
    "note": documents.map(Jsonb),
}


@pytest.mark.parametrize("type_name", DRAWN)
def test_drawn_values_are_written_as_they_were_read(connection, exact, type_name) -> None:  # noqa: F811
    exact.execute(DOMAINS)
    exact.commit()
    connection.autocommit = True
    connection.prepare_threshold = None
    with psycopg.connect(connection.info.dsn, password=connection.info.password, prepare_threshold=None) as reader:
        trip = RoundTrip(connection, reader, "upsert")

        @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=6, deadline=None)
        @given(values=st.lists(DRAWN[type_name], min_size=1, max_size=20), dicts=st.booleans())
        def check(values: list[Any], dicts: bool) -> None:
            trip.create(type_name, [])
            insert = sql.SQL("INSERT INTO given VALUES (%s, %s::{})").format(sql.SQL(type_name))
            connection.cursor().executemany(insert, [(number, value) for number, value in enumerate(values, 1)])
            trip.run("v", dicts=dicts)
            assert trip.differences() == []

        check()
