"""Keys of types with operators outside pg_catalog, and of composite types."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key
from burla_provider.ranges.plan import from_record, to_record
from burla_provider.worker.failing_rows import describe_rows
from burla_provider.worker.source import Source
from tests.postgres.ranges.conftest import Planner, flush_counters
from tests.postgres.ranges.covering import rows_in, rows_of

LETTERS = "".join(f"'{letter}', " for letter in "zyxwvutsrqponmlkjihgfedcba").rstrip(", ")
REVERSED = f"""
    CREATE SCHEMA "own %";
    CREATE TYPE "own %".letter AS ENUM ({LETTERS});
    CREATE FUNCTION "own %".cmp(a "own %".letter, b "own %".letter) RETURNS int IMMUTABLE LANGUAGE sql
        AS 'SELECT CASE WHEN a::text < b::text THEN -1 WHEN a::text > b::text THEN 1 ELSE 0 END';
    {{operators}}
    CREATE OPERATOR CLASS "own %".by_text DEFAULT FOR TYPE "own %".letter USING btree AS
        {{members}}, FUNCTION 1 "own %".cmp("own %".letter, "own %".letter);
"""
"""An enum with a default operator class that reverses its order. The operators are in a schema that is not on the
search path, and one of them has an unusual name."""

OPERATORS = {"<": "lt", "<=": "le", "===": "eq", ">=": "ge", ">": "gt"}


def reversed_order() -> str:
    functions, members = [], []
    for number, (name, function) in enumerate(OPERATORS.items(), 1):
        comparison = "=" if name == "===" else name
        functions.append(f"""
            CREATE FUNCTION "own %".{function}(a "own %".letter, b "own %".letter) RETURNS bool
                IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN a::text {comparison} b::text; END';
            CREATE OPERATOR "own %".{name} (
                LEFTARG = "own %".letter, RIGHTARG = "own %".letter, FUNCTION = "own %".{function}
            );
        """)
        members.append(f'OPERATOR {number} "own %".{name}')
    return REVERSED.format(operators="\n".join(functions), members=", ".join(members))


@pytest.fixture(params=["k", "k, n", "n, k"])
def letters(connection: psycopg.Connection, request) -> list[str]:
    """The columns of the index on a table of letters."""
    connection.execute(reversed_order())
    connection.execute(f"""
        CREATE TABLE letters (row_id int, k "own %".letter NOT NULL, n int NOT NULL);
        INSERT INTO letters SELECT i, chr(97 + i * i % 26)::"own %".letter, i % 17 FROM generate_series(1, 2000) AS i;
        CREATE INDEX ON letters ({request.param});
        ANALYZE letters;
    """)
    return str(request.param).split(", ")


@pytest.mark.parametrize("split", ["auto", "keyset", "histogram"])
@pytest.mark.parametrize("options", [{"ranges": 12}, {"rows_per_range": 60, "refine": True}])
def test_the_ranges_of_a_type_with_its_own_operators_have_every_row(
    connection, plan: Planner, letters, split: str, options
) -> None:
    try:
        made = plan("letters", key=letters, split=split, **options)
    except InvalidParameterError as refusal:
        # Several such columns have no row comparison, so an index scan cannot start at a key.
        if len(letters) == 1 or split != "histogram" or refusal.parameter not in ("split", "refine"):
            raise
        return
    assert len(made.ranges) > 1
    assert rows_in(connection, made) == rows_of(connection, "letters")
    stored = from_record(json.loads(json.dumps(to_record(made))))
    assert stored.ranges == made.ranges
    # The condition means the same in a query with parameters.
    for one in made.ranges[:3]:
        query = sql.SQL("SELECT count(*) FROM letters WHERE {}").format(one.where)
        assert connection.execute(query, ()).fetchone() == connection.execute(query).fetchone()


def test_a_window_of_such_a_type_has_its_rows(connection, plan: Planner) -> None:
    connection.execute(reversed_order())
    connection.execute("""CREATE TABLE letters AS
        SELECT i AS row_id, chr(97 + i % 26)::"own %".letter AS k FROM generate_series(1, 500) AS i""")
    made = plan("letters", key="k", lower="c", upper="x", ranges=5)
    assert rows_in(connection, made) == rows_of(connection, "letters", "k::text >= 'c' AND k::text < 'x'")
    with pytest.raises(InvalidParameterError, match="no key is between x"):
        plan("letters", key="k", lower="x", upper="c")


def test_rows_of_such_a_type_are_found(connection, plan: Planner) -> None:
    connection.execute(reversed_order())
    connection.execute("""CREATE TABLE letters (row_id int, k "own %".letter PRIMARY KEY)""")
    connection.execute("""INSERT INTO letters VALUES (1, 'a'), (2, 'b')""")
    [whole] = plan("letters", split="single").ranges
    part = type(whole)(whole.key, 0, ("b",))
    assert describe_rows(connection, Source("public", "letters"), part, Key()) == "k = b"


def test_citext_outside_the_search_path_is_supported(connection, plan: Planner) -> None:
    try:
        connection.execute("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")
    except psycopg.errors.FeatureNotSupported:
        pytest.skip("This server has no citext.")
    connection.execute("""
        CREATE TABLE names (row_id int, k ext.citext PRIMARY KEY);
        INSERT INTO names
        SELECT i, CASE WHEN i % 2 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END FROM generate_series(1, 3000) AS i;
        ANALYZE names;
    """)
    for split in ("auto", "keyset", "histogram"):
        made = plan("names", split=split, ranges=20)
        assert rows_in(connection, made) == rows_of(connection, "names")
        assert len(made.ranges) == 20


def test_a_composite_key_is_refused_and_never_chosen(connection, plan: Planner) -> None:
    connection.execute("""
        CREATE TYPE pair AS (a int, b int);
        CREATE DOMAIN couple AS pair;
        CREATE TABLE pairs (row_id int UNIQUE NOT NULL, k pair PRIMARY KEY, d couple UNIQUE NOT NULL);
    """)
    assert plan("pairs").key.names == ("row_id",)
    for key in ("k", "d", ["row_id", "k"]):
        with pytest.raises(InvalidParameterError, match=r"key: [kd] has the composite type"):
            plan("pairs", key=key)


KINDS = ["uuid", "date", "text", "char(4)", '"char"', "bit(8)", "bytea", "timestamptz", "numeric(9, 2)"]


@pytest.mark.parametrize("kind", KINDS)
def test_quoted_identifiers_change_no_plan(connection, plan: Planner, kind: str) -> None:
    values = {
        "uuid": "md5(n::text)::uuid",
        "date": "date '2024-01-01' + n",
        "timestamptz": "timestamptz '2024-01-01' + n * interval '1 s'",
        "bytea": "int4send(n)",
        "bit(8)": "n",
        "numeric(9, 2)": "n / 7.0",
    }
    value = values.get(kind, f"chr(40 + n % 60)::{kind}")
    columns = f"n AS row_id, ({value})::{kind} AS k"
    connection.execute(f"CREATE TABLE t AS SELECT {columns} FROM generate_series(1, 3000) AS n")
    connection.execute("CREATE INDEX ON t (k)")
    flush_counters(connection)  # otherwise a report between the two plans changes the second one
    connection.execute("ANALYZE t")
    usual = plan("t", key="k", ranges=9)
    connection.execute("SET quote_all_identifiers = on")
    quoted = plan("t", key="k", ranges=9)
    assert (quoted.key, quoted.ranges) == (usual.key, usual.ranges)
    assert rows_in(connection, quoted) == rows_of(connection, "t")
