"""Expressions whose value differs per range are refused; expressions that only look volatile are accepted."""

from __future__ import annotations

import psycopg
import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.sql_checks import check_source
from burla_provider.task.sql_totals import check_totals, parse_totals
from burla_provider.worker.source import Source

EVENTS = Source("public", "events")
SETUP = """
    CREATE SCHEMA other;
    CREATE TABLE events (
        id int PRIMARY KEY, at timestamptz, day date, span daterange, "now" text, "current_date" text, "age(" int
    );
    CREATE TABLE many (id int, at timestamptz) PARTITION BY RANGE (at);
    CREATE TABLE many_old PARTITION OF many FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
    CREATE TABLE many_older PARTITION OF many FOR VALUES FROM ('2000-01-01') TO ('2001-01-01');
    CREATE TYPE word AS ENUM ('now', 'then');
    ALTER TABLE events ADD word word;
    CREATE FUNCTION fresh(timestamptz) RETURNS bool LANGUAGE sql STABLE AS 'SELECT $1 > now()';
    CREATE FUNCTION plain(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
    CREATE FUNCTION other."My f"(int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION other.now() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 1; END';
    CREATE FUNCTION mixed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION mixed(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN $1; END';
    CREATE FUNCTION other.guess(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN random() < 0.5; END';
    CREATE OPERATOR other.~~> (LEFTARG = int, RIGHTARG = int, FUNCTION = other.guess);
    CREATE OPERATOR other.<-> (LEFTARG = int, RIGHTARG = int, FUNCTION = other.guess);
    CREATE TYPE other."Score" AS (n int);
    CREATE FUNCTION other.draw(int) RETURNS other."Score" LANGUAGE plpgsql AS 'BEGIN RETURN ROW(1); END';
    CREATE CAST (int AS other."Score") WITH FUNCTION other.draw(int);
    CREATE VIEW recent AS SELECT * FROM events WHERE at > now() - interval '1 day';
    CREATE VIEW every AS SELECT * FROM events;
"""

REFUSED = [
    ("at > now()", "now()"),
    ("at > pg_catalog.NOW ( ) - interval '1 day'", "now()"),
    ("at > /* x */ current_timestamp(3)", "current_timestamp"),
    ("day = Current_Date", "current_date"),
    ("at::time > localtime", "localtime"),
    ("random() < 0.5", "random()"),
    ("id IN (SELECT (clock_timestamp() - e.at) / interval '1 s' FROM events e)", "clock_timestamp()"),
    ("EXISTS (SELECT FROM events e WHERE e.id = events.id AND e.at < statement_timestamp())", "statement_timestamp()"),
    ("age(at) > interval '1 year'", "current_date"),  # what age() calls
    ("age(xmin) > 5", "age()"),
    ("pg_backend_pid() > id", "pg_backend_pid()"),
    ("id < txid_current()", "txid_current()"),
    ("gen_random_uuid() > '5'", None),
    ("fresh(at)", "now()"),
    ('other."My f"(id) > 5', "other.My f()"),
    ("mixed(id, 1) > 5", "public.mixed()"),
    ("mixed((ARRAY[id, 2])[1], 1) > 5", "public.mixed()"),
    ("coalesce(day, 'today') > '2024-01-01'", "'today'"),
    ("day = 'today'", "'today'"),
    ("now = 'today' AND day < 'today'", "'today'"),
    ("at BETWEEN E' Yesterday ' AND '2024-01-01'", "Yesterday"),
    ("at > $x$tomorrow 10:00$x$", "tomorrow"),
    ("at > timestamp 'NOW'", "'NOW'"),
    ("at > '2024-01-01' AND word = 'now' AND date('now') > day", "'now'"),
    ("day = 'today'::text::date", "'today'"),
    ("day = ('to' || 'day')::date", "'today'"),
    ("day = ANY ('{2024-01-01,tomorrow}')", "tomorrow"),
    ("span && '[yesterday,)'", "yesterday"),
    ("id OPERATOR(other.~~>) 5", "other.guess()"),
    ('(id::other."Score").n > 5', "other.draw()"),
    ("id IN (SELECT e.id FROM events e TABLESAMPLE system (50))", "Add REPEATABLE (1)"),
]
ACCEPTED = [
    None,
    "at > '2024-01-01'",
    "now = 'today' AND \"current_date\" = 'now' -- now() 'today'",
    "events.now <> 'now()' AND \"age(\" > 5 /* random() /* now() */ */",
    "word = 'now' AND word::text <> 'today'",
    "to_char(at, 'YYYY') = '2024' AND date_trunc('day', at, 'UTC') > day AND age(at, '2024-01-01') > '1 day'",
    "at + interval '1 day' > '2024-01-01'::date AND extract(year FROM at) > 2000",
    "plain(id) > 5 AND mixed(id) > 5 AND other.now() = 1",
    "mixed((ARRAY[id, 2])[1]) > 5 AND id > 2",
    "(id, now) IN (SELECT id, now FROM events) AND coalesce(current_user, session_user) <> 'now'",
    "at < make_timestamptz(2024, 1, 1, 0, 0, 0) AND current_setting('TimeZone') <> 'now'",
    "point(id, 1) <-> point(2, 2) > 1 AND id IN (SELECT e.id FROM events e TABLESAMPLE system (50) REPEATABLE (1))",
    "to_tsvector(now) @@ 'now & today'::tsquery AND now LIKE 'now%' AND now ~ '^today$'",
]


@pytest.fixture
def events(connection: psycopg.Connection) -> psycopg.Connection:
    connection.execute(SETUP)
    return connection


def refusal(events, source: Source = EVENTS, **options) -> InvalidParameterError:
    with pytest.raises(InvalidParameterError) as caught:
        check_source(events, source, **options)
    return caught.value


@pytest.mark.parametrize(("where", "name"), REFUSED)
def test_a_condition_that_differs_from_range_to_range_is_refused_by_name(events, where: str, name: str | None) -> None:
    error = refusal(events, Source("public", "events", where=where))
    assert error.parameter == "where"
    assert (name or "gen_random_uuid()") in str(error)


@pytest.mark.parametrize("where", ACCEPTED)
@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "quote_all_identifiers = on"])
def test_a_condition_that_is_the_same_in_every_range_is_accepted(events, where: str | None, setting: str) -> None:
    events.execute(f"SET {setting}")
    check_source(events, Source("public", "events", where=where))
    if where:
        aggregates = parse_totals({"n": f"count(*) FILTER (WHERE {where}\n)", "most": f"max(({where}\n)::int)"})
        check_totals(events, EVENTS, aggregates)


@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "quote_all_identifiers = on"])
def test_settings_do_not_hide_volatile_expressions(events, setting: str) -> None:
    events.execute(f"SET {setting}")
    for where in ("at > now()", "day = current_date", "day < 'today'", "mixed(id, 1) > 5"):
        assert refusal(events, Source("public", "events", where=where)).parameter == "where"


@pytest.mark.parametrize(
    "text",
    [
        "sum(random())",
        "max(at - now())",
        "count(*) FILTER (WHERE at > now())",
        "min(coalesce(day, 'today'))",
        "count(*) FILTER (WHERE day = 'today')",
    ],
)
def test_a_total_that_differs_from_range_to_range_is_refused_by_name(events, text: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"now\(\)|random\(\)|'today'") as caught:
        check_totals(events, EVENTS, parse_totals({"rows": "count(*)", "x": text}))
    assert caught.value.parameter == "totals"
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["random()", "at - now()", "coalesce(day, 'today')", "day = 'today'", "mixed(id, 1)"])
def test_a_column_that_differs_from_range_to_range_is_refused_by_name(events, text: str) -> None:
    error = refusal(events, Source("public", "events", columns={"id": "id", "x": text}))
    assert error.parameter == "columns"
    assert f"'x', which is {text!r}, has " in str(error)


def test_pruned_partitions_do_not_hide_volatile_expressions(events) -> None:
    assert "now()" in str(refusal(events, Source("public", "many", where="at > now()")))
    check_source(events, Source("public", "many", where="at > '2001-06-01'::date"))


def test_a_view_that_calls_now_is_refused_in_a_snapshot(events) -> None:
    assert refusal(events, Source("public", "recent")).parameter == "table"
    assert refusal(events, Source("public", "recent", where="id > 5")).parameter == "table"
    check_source(events, Source("public", "recent", where="id > 5"), in_snapshot=False)
    error = refusal(events, Source("public", "recent", where="id > 5 AND at < now()"), in_snapshot=False)
    assert error.parameter == "where"
    assert refusal(events, Source("public", "every", where="at < now()")).parameter == "where"


def test_a_policy_that_calls_now_is_refused(events, database: str) -> None:
    events.execute("""
        DROP ROLE IF EXISTS reader;
        CREATE ROLE reader;
        GRANT SELECT ON events TO reader;
        ALTER TABLE events ENABLE ROW LEVEL SECURITY;
        CREATE POLICY recent ON events USING (at > now());
    """)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET ROLE reader")
        assert refusal(connection).parameter == "table"
        connection.execute("SET row_security = off")
        for where in (None, "id > 5"):
            error = refusal(connection, Source("public", "events", where=where))
            assert error.parameter == "table"
            assert "row-level security" in str(error)
            assert "Set row_security to on for this role" in str(error)
    events.execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum(generate_series(1, 2))", "set-returning"),
        ("count(*) FILTER (WHERE generate_series(1, 2) > 1)", "set-returning"),
    ],
)
def test_a_set_in_a_total_is_refused(events, text: str, problem: str) -> None:
    with pytest.raises(InvalidParameterError, match=problem) as caught:
        check_totals(events, EVENTS, parse_totals({"x": text}))
    assert caught.value.parameter == "totals"


def test_too_many_totals_are_refused(events) -> None:
    with pytest.raises(InvalidParameterError, match="totals: require 1,801 values"):
        check_totals(events, EVENTS, parse_totals({f"a{n}": f"avg(id + {n})" for n in range(900)}))
