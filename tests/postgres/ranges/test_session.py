"""Planning does not change the caller's session or transaction."""

from __future__ import annotations

import logging

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import index_walk, plan_ranges
from tests.postgres.ranges.conftest import Planner
from tests.postgres.ranges.covering import rows_in, rows_of
from tests.support.postgres import PostgresServer

SETTINGS = ("datestyle", "intervalstyle", "extra_float_digits", "enable_seqscan", "enable_sort", "jit")


def settings(connection: psycopg.Connection) -> list[str]:
    return [connection.execute(f"SHOW {name}").fetchone()[0] for name in SETTINGS]


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_session_is_unchanged(database: str, connection, skewed: str, autocommit: bool) -> None:
    with psycopg.connect(database, autocommit=autocommit) as used:
        used.execute("SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0; SET intervalstyle = 'iso_8601'")
        used.commit()
        before = settings(used)
        used.commit()
        plan_ranges(used, table=skewed, ranges=5)
        assert used.info.transaction_status == TransactionStatus.IDLE
        assert settings(used) == before


def test_a_transaction_that_exported_its_snapshot_continues(database: str, connection, skewed: str) -> None:
    with psycopg.connect(database) as used:
        used.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        used.read_only = True
        snapshot = used.execute("SELECT pg_export_snapshot()").fetchone()[0]
        before = settings(used)
        plan_ranges(used, table=skewed, ranges=5, where="row_id > 7", refine=True)
        with pytest.raises(InvalidParameterError):
            plan_ranges(used, table=skewed, where="no such thing")
        assert settings(used) == before
        assert used.info.transaction_status == TransactionStatus.INTRANS
        with psycopg.connect(database) as worker:
            worker.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            worker.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")


def test_the_plan_sees_the_snapshot_of_the_transaction(database: str, connection, skewed: str) -> None:
    with psycopg.connect(database) as used:
        used.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        used.execute("SELECT 1")
        connection.execute("DELETE FROM skewed WHERE row_id > 1000")
        assert plan_ranges(used, table=skewed, split="keyset", ranges=5).expected_rows == 50_000


@pytest.mark.parametrize("options", [{"row_factory": dict_row}, {"cursor_factory": psycopg.ClientCursor}])
def test_the_factories_of_the_connection_do_not_matter(database: str, connection, skewed: str, options) -> None:
    with psycopg.connect(database, **options) as used:
        assert plan_ranges(used, table=skewed, ranges=5).expected_rows == 50_000


def test_a_condition_cannot_contain_a_second_statement(connection, plan: Planner, skewed: str) -> None:
    with pytest.raises(InvalidParameterError, match="where: cannot insert multiple commands"):
        plan(skewed, where="true); DELETE FROM skewed; SELECT (true")
    assert connection.execute("SELECT count(*) FROM skewed").fetchone() == (50_000,)


@pytest.mark.parametrize(
    "where", ["note LIKE '%s 100%'", "note = '{0}'", "note <> 'it''s' -- a comment", "note = E'\\\\'"]
)
def test_a_condition_is_not_changed(connection, plan: Planner, where: str) -> None:
    connection.execute("CREATE TABLE notes (id bigint PRIMARY KEY, note text)")
    assert plan("notes", where=where).strategy == "single"


def test_names_that_need_quotes_are_quoted(connection, plan: Planner) -> None:
    connection.execute('CREATE TABLE "walk %s {0}" ("k0 {1} %s" bigint PRIMARY KEY, far int)')
    connection.execute('INSERT INTO "walk %s {0}" SELECT generate_series(1, 100)')
    made = plan('"walk %s {0}"', split="keyset", rows_per_range=30)
    assert [one.expected_rows for one in made.ranges] == [30, 30, 30, 10]


@pytest.mark.parametrize("name", ["walk", "far", "cut", "origin", "passed", "entry", "found"])
def test_tables_can_have_the_names_that_the_planner_uses(connection, plan: Planner, name: str) -> None:
    connection.execute(f"CREATE TABLE {name} (k0 bigint, {name} bigint, passed_ int, PRIMARY KEY (k0, {name}))")
    connection.execute(f"INSERT INTO {name} SELECT n / 50, n FROM generate_series(0, 99) AS n; ANALYZE {name}")
    assert [one.expected_rows for one in plan(name, split="keyset", rows_per_range=30).ranges] == [30, 30, 30, 10]
    assert len(plan(name, split="histogram", key=name, ranges=3).ranges) == 3


@pytest.mark.parametrize("names", [("k1", "x"), ("k1", "k0"), ("p0", "k1"), ("place", "p0")])
def test_columns_can_have_the_names_that_the_planner_uses(connection, plan: Planner, names) -> None:
    first, second = names
    connection.execute(f"CREATE TABLE named ({first} int, {second} int, row_id int, PRIMARY KEY ({first}, {second}))")
    connection.execute("INSERT INTO named SELECT n, 10000 - n, n FROM generate_series(1, 1000) AS n; ANALYZE named")
    for split in ("auto", "histogram", "keyset", "single"):
        made = plan("named", split=split, rows_per_range=100, freeze_upper=True)
        assert made.window.upper == ("1000", "9001")
        assert rows_in(connection, made) == rows_of(connection, "named")
    assert [one.expected_rows for one in plan("named", split="keyset", rows_per_range=100).ranges] == [100] * 10
    assert len(plan("named", split="width", key=second, ranges=4).ranges) == 4


def test_a_database_without_encoding_is_supported(postgres_server: PostgresServer, connection) -> None:
    name = f"bytes_{connection.info.backend_pid}"
    connection.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    with psycopg.connect(postgres_server.conninfo(name), autocommit=True) as used:
        used.execute(r"CREATE TABLE words AS SELECT n::text || E'\xc3\xa4' AS word FROM generate_series(1, 100) AS n")
        encoding = used.info.encoding
        made = plan_ranges(used, table="words", key="word", ranges=4)
        assert len(made.ranges) == 4 + 1
        assert used.info.encoding == encoding
    connection.execute(f"DROP DATABASE {name}")


def test_a_long_walk_logs_its_progress(plan: Planner, skewed: str, monkeypatch, caplog) -> None:
    monkeypatch.setattr(index_walk, "_LOG_INTERVAL", 0.0)
    with caplog.at_level(logging.INFO):
        plan(skewed, split="keyset", rows_per_range=20_000)
    assert "Planning: scanned 40,000 rows of the index so far." in caplog.messages


def test_a_plan_takes_few_queries(connection, plan: Planner, skewed: str) -> None:
    connection.execute("ANALYZE skewed")
    assert plan(skewed, ranges=10).queries < 12
