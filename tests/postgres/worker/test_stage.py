"""Rows of a chunk pass through a temporary table of the session: which one wins, and with which types."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, closing
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.chunk_ledger import Progress
from burla_provider.worker.chunks import Chunk
from burla_provider.worker.sinks import Sink, Target, Update, UpdateInPlace, Upsert
from burla_provider.worker.target_writer import TargetWriter
from tests.support.marks import conninfo_of

COLUMNS = ("k", "version", "note", "padding")
TARGET = Target("public", "latest", COLUMNS)
RANGE = KeyRange(Key((KeyColumn("k", "integer"),)), 0)
SINKS = {
    "upsert": Upsert(TARGET, ("k",), COLUMNS[1:]),
    "upsert by version": Upsert(TARGET, ("k",), COLUMNS[1:], "version"),
    "update": Update(TARGET, ("k",), COLUMNS[1:]),
}


def open_writer(connection: psycopg.Connection[Any], sink: Sink) -> AbstractContextManager[TargetWriter]:
    """Return a writer that writes chunks in one session."""
    return closing(TargetWriter(connection_parameters(connection), SessionSettings(), sink))


def write(writer: TargetWriter, rows: list[tuple[Any, ...]]) -> Progress:
    return writer.write(RANGE, Progress(), Chunk(list(rows)))


def draw_rows(seed: int, count: int, keys: int) -> list[tuple[Any, ...]]:
    """Return rows of very different width, whose equal keys are near each other."""
    draw = random.Random(seed)
    return [
        (
            number * keys // count + draw.randrange(3),
            draw.choice([None, 1, 2, 3]),
            str(number),
            "p" * draw.choice([0, 0, draw.randrange(400, 1_900)]),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("mode", SINKS)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), count=st.integers(200, 1_500), keys=st.integers(1, 200))
def test_the_last_row_of_a_key_wins_in_every_chunk_of_a_session(connection, mode, seed, count, keys):
    connection.execute(f"""
        DROP TABLE IF EXISTS latest, wanted, given;
        CREATE TABLE latest (k integer PRIMARY KEY, version integer, note text, padding text);
        INSERT INTO latest SELECT g, NULL, 'there', '' FROM generate_series(0, {keys + 2}) AS g
        WHERE {mode == "update"};
        CREATE TABLE wanted (LIKE latest INCLUDING ALL);
        INSERT INTO wanted TABLE latest;
        CREATE TABLE given (number serial, LIKE latest);
    """)
    version = ("version DESC NULLS LAST,", "WHERE excluded.version > wanted.version OR wanted.version IS NULL")
    order, newer = version if mode == "upsert by version" else ("", "")
    # From the second chunk on, COPY fills free space in earlier pages of the temporary table.
    with open_writer(connection, SINKS[mode]) as writer:
        for part in range(3):
            rows = draw_rows(seed + part, count, keys)
            write(writer, rows)
            connection.execute("TRUNCATE given RESTART IDENTITY")
            with (
                connection.cursor() as cursor,
                cursor.copy("COPY given (k, version, note, padding) FROM STDIN") as copy,
            ):
                for row in rows:
                    copy.write_row(row)
            connection.execute(f"""
                INSERT INTO wanted
                SELECT DISTINCT ON (k) k, version, note, padding FROM given ORDER BY k, {order} number DESC
                ON CONFLICT (k) DO UPDATE SET (version, note, padding) = ROW(excluded.version, excluded.note,
                excluded.padding) {newer}
            """)
            assert connection.execute("TABLE wanted EXCEPT TABLE latest").fetchall() == []
            assert connection.execute("TABLE latest EXCEPT TABLE wanted").fetchall() == []


PRECISE = {
    "upsert": Upsert(Target("public", "prices", ("id", "price")), ("id",), ("price",)),
    "update": Update(Target("public", "prices", ("id", "price")), ("id",), ("price",)),
    "update in place": UpdateInPlace(Target("public", "prices", ("price",)), ("id",)),
}


@pytest.mark.parametrize("mode", PRECISE)
@pytest.mark.parametrize(
    ("before", "after", "value"),
    [("numeric(10,2)", "numeric(12,4)", "2.3456"), ("smallint", "bigint", "5000000000"), ("char(3)", "text", "abcdef")],
)
def test_values_get_the_types_that_the_target_has_now(connection, mode, before, after, value):
    connection.execute(f"CREATE TABLE prices (id integer PRIMARY KEY, price {before}); INSERT INTO prices VALUES (1)")

    def write_price(price):
        [xmin] = connection.execute("SELECT xmin::text FROM prices").fetchone()
        write(writer, [(xmin, "1", price) if mode == "update in place" else (1, price)])
        return connection.execute("SELECT price::text FROM prices").fetchone()

    with open_writer(connection, PRECISE[mode]) as writer:
        assert write_price("7")[0].rstrip("0. ") == "7"
        connection.execute(f"ALTER TABLE prices ALTER price TYPE {after}")
        assert write_price(value) == (value,)


def test_the_types_of_the_target_cannot_change_during_a_write(connection):
    connection.execute("CREATE TABLE prices (id integer PRIMARY KEY, price numeric(10,2))")
    with psycopg.connect(conninfo_of(connection)) as session:
        for _ in range(2):  # the temporary table is created, and then it is there
            with session.transaction():
                session.execute(PRECISE["update"].setup(pooled=False))
                connection.execute("SET lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    connection.execute("ALTER TABLE prices ALTER price TYPE numeric(12,4)")
