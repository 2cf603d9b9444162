"""Workers run with the settings of the task's own session, wherever these come from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders
from tests.support.task_runner import Airflow

ENVIRONMENTS = {
    "time zone": ({"PGTZ": "Asia/Tokyo"}, "at::date = '2026-11-01'"),
    "time zone by options": ({"PGOPTIONS": "-c timezone=Asia/Tokyo"}, "at::date = '2026-11-01'"),
    "date style": ({"PGDATESTYLE": "German, DMY"}, "day >= '03.11.2026'"),
    "search_path": ({"PGOPTIONS": "-c search_path=elsewhere,public"}, "id <= (SELECT max(n) FROM lately)"),
    "role": ({"PGOPTIONS": "-c role=reader"}, "current_user = 'reader' AND id > 5"),
    "row security": ({"PGOPTIONS": "-c role=tenant -c app.tenant=2"}, "id > 0"),
    "custom": ({"PGOPTIONS": "-c app.tenant=3"}, "id % 4 = current_setting('app.tenant')::int"),
    "search configuration": (
        {"PGOPTIONS": "-c default_text_search_config=pg_catalog.simple"},
        "to_tsvector(note) @@ to_tsquery('rows')",
    ),
    "strings": (
        {"PGOPTIONS": "-c standard_conforming_strings=off -c escape_string_warning=off"},
        r"note <> '\x72ows' AND note <> '\')'",
    ),
}
"""The environment of the task, and a condition that means something else without it."""


@pytest.fixture
def events(orders: Orders) -> Iterator[psycopg.Connection[Any]]:
    connection = orders.connection
    connection.execute("""
        CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz NOT NULL, day date NOT NULL, note text NOT NULL);
        INSERT INTO events
            SELECT n, '2026-11-01 00:00+00'::timestamptz + n * '1 hour'::interval, '2026-11-01'::date + n / 24,
                   CASE n % 3 WHEN 0 THEN 'rows' ELSE 'row' END
            FROM generate_series(1, 120) AS n;
        CREATE SCHEMA elsewhere;
        CREATE TABLE elsewhere.lately AS SELECT 17 AS n;
        CREATE TABLE lately AS SELECT 90 AS n;
        CREATE ROLE reader; CREATE ROLE tenant;
        GRANT ALL ON ALL TABLES IN SCHEMA public, elsewhere TO reader, tenant;
        GRANT USAGE, CREATE ON SCHEMA public, elsewhere TO reader, tenant;
        CREATE POLICY own ON events USING (id % 4 = current_setting('app.tenant')::int);
        ALTER TABLE events ENABLE ROW LEVEL SECURITY;
        CREATE POLICY everything ON events TO reader USING (true);
        ANALYZE events;
    """)
    try:
        yield connection
    finally:
        connection.execute("DROP OWNED BY reader, tenant; DROP ROLE reader, tenant")


def count_range(connection: Any, key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("SELECT count(*) FROM events WHERE {} AND {}").format(key_range.where, sql.SQL(MEANS["where"]))
    return {"n": connection.execute(query).fetchone()[0]}


MEANS: dict[str, str] = {}


@pytest.mark.parametrize("consistency", ["snapshot", "none"])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_ranges_see_the_rows_that_one_query_of_the_task_sees(
    airflow: Airflow,
    events: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    consistency: str,
) -> None:
    variables, where = ENVIRONMENTS[environment]
    info = events.info
    query = f"SELECT count(*) FROM events WHERE {where}"
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(f"{info.dsn} password={info.password}", autocommit=True) as connection:
        [(expected,)] = connection.execute(query).fetchall()
    assert 0 < expected < 120
    options: dict[str, Any] = {"table": "public.events", "postgres_conn_id": "orders_db", "key": "id", "ranges": 3}
    if consistency == "snapshot":
        options |= {"where": where, "totals": {"n": "count(*)"}, "verify": "count"}
    else:
        monkeypatch.setitem(MEANS, "where", where)
        options |= {"process_range": count_range}
    result = airflow.run(BurlaPostgresOperator(task_id="t", consistency=consistency, **options))
    assert result.error is None, result.log
    assert result.value["n"] == expected


def test_the_sessions_that_write_keep_the_limits_for_an_unreachable_client(
    airflow: Airflow, events: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c tcp_user_timeout=7000 -c tcp_keepalives_idle=7")
    events.execute("""
        CREATE TABLE copies (id bigint, user_timeout text DEFAULT current_setting('tcp_user_timeout'),
                             idle text DEFAULT current_setting('tcp_keepalives_idle'))
    """)
    options: dict[str, Any] = {"table": "events", "columns": ["id"], "key": "id", "ranges": 3, "write_mode": "insert"}
    options |= {"target_table": "copies", "target_columns": ["id"], "map_row": lambda row: row, "ledger": "runs"}
    result = airflow.run(BurlaPostgresTransformOperator(task_id="t", postgres_conn_id="orders_db", **options))
    assert result.error is None, result.log
    assert events.execute("SELECT DISTINCT user_timeout, idle FROM copies").fetchall() == [("7000", "7")]


def test_a_worker_s_own_environment_changes_nothing(
    airflow: Airflow, events: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a node's image may have. The local engine hands on no such variable, so the test has it do so.
    from burla_provider.jobs import client_process

    environment = client_process.child_environment
    theirs = {"PGTZ": "Asia/Tokyo", "PGDATESTYLE": "SQL, DMY", "PGOPTIONS": "-c search_path=elsewhere -c work_mem=77kB"}
    monkeypatch.setattr(client_process, "child_environment", lambda given: environment(given) | theirs)
    where = "at::date = '2026-11-01' AND day < '11/05/2026' AND id <= (SELECT max(n) FROM lately)"
    [(expected,)] = events.execute(f"SELECT count(*) FROM events WHERE {where}").fetchall()
    options = {"table": "events", "postgres_conn_id": "orders_db", "key": "id", "ranges": 3, "where": where}
    result = airflow.run(BurlaPostgresOperator(task_id="t", **options, totals={"n": "count(*)"}))
    assert (result.error, os.environ.get("PGTZ")) == (None, None), result.log
    assert result.value["n"] == expected
