"""Tables that jobs write to get the columns of a newer version, without harm to other sessions and versions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from burla_provider.database.connect import connection_parameters
from burla_provider.database.quoting import Identifier
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task import ledger_table, reject_table, results_table
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.reject_table import open_reject_table
from burla_provider.task.results_table import ResultsTable, prepare_results_table
from burla_provider.task.session import reconnect
from burla_provider.task.table_version import read_version, upgrade_table
from burla_provider.worker.ledger import Ledger, run_once
from burla_provider.worker.outcome import Outcome

ADDED = ({"host": "text", "50% of": "bigint"}, {"node": "text"})
TABLE = Identifier("public", "kept")
RANGE = KeyRange(Key((KeyColumn("id", "integer"),)), 0, ("1",), ("9",))

Prepare = Callable[[psycopg.Connection[Any]], Any]
PREPARE: dict[Any, Prepare] = {
    ledger_table: lambda connection: prepare_ledger(connection, Ledger("public", "kept", "run")),
    results_table: lambda connection: prepare_results_table(connection, "public", "kept"),
    reject_table: lambda connection: open_reject_table(connection, "kept", "run", 1, (), {}),
}


@pytest.fixture
def guest(connection: psycopg.Connection[Any], database: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of a role that owns no table."""
    connection.execute("CREATE ROLE version_guest LOGIN PASSWORD 'guest'")
    with psycopg.connect(make_conninfo(database, user="version_guest", password="guest"), autocommit=True) as own:
        yield own
    connection.execute("DROP OWNED BY version_guest; DROP ROLE version_guest")


@pytest.fixture
def kept(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A table of version 1 with a row."""
    connection.execute("CREATE TABLE kept (run_key text PRIMARY KEY); INSERT INTO kept VALUES ('a run')")
    return connection


def columns(connection: psycopg.Connection[Any]) -> list[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = 'kept'::regclass AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in connection.execute(query).fetchall()]


def test_a_table_gets_the_columns_of_all_newer_versions(kept: psycopg.Connection[Any]) -> None:
    assert read_version(kept, TABLE, ADDED) == 1
    upgrade_table(kept, TABLE, ADDED)
    assert read_version(kept, TABLE, ADDED) == 3
    assert columns(kept) == ["run_key", "host", "50% of", "node"]
    assert kept.execute("SELECT * FROM kept").fetchall() == [("a run", None, None, None)]


def test_it_is_not_rewritten(kept: psycopg.Connection[Any]) -> None:
    before = kept.execute("SELECT pg_relation_filenode('kept')").fetchone()
    upgrade_table(kept, TABLE, ADDED)
    assert kept.execute("SELECT pg_relation_filenode('kept')").fetchone() == before


def test_a_table_of_the_newest_version_is_not_locked(
    kept: psycopg.Connection[Any], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    upgrade_table(kept, TABLE, ADDED)
    caplog.clear()
    with psycopg.connect(database) as reader, caplog.at_level(logging.INFO, "burla_provider"):
        reader.execute("SELECT FROM kept")
        upgrade_table(kept, TABLE, ADDED)
    assert caplog.messages == []


def test_an_interrupted_upgrade_is_continued(kept: psycopg.Connection[Any]) -> None:
    kept.execute("ALTER TABLE kept ADD host text, ADD node text")
    assert read_version(kept, TABLE, ADDED) == 1
    upgrade_table(kept, TABLE, ADDED)
    assert read_version(kept, TABLE, ADDED) == 3


def test_a_role_that_is_not_the_owner_works_without_the_upgrade(
    kept: psycopg.Connection[Any], guest: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    kept.execute('ALTER TABLE kept ADD host text, ADD "50% of" bigint; GRANT SELECT ON kept TO version_guest')
    with caplog.at_level(logging.INFO, "burla_provider"):
        upgrade_table(guest, TABLE, ADDED)
        assert read_version(guest, TABLE, ADDED) == 2
    [message] = caplog.messages
    assert 'The table "public"."kept" has version 2, the newest is 3.' in message
    assert "must be owner of table kept" in message
    statement = message.partition("The owner can run: ")[2]
    kept.execute(statement)
    assert read_version(guest, TABLE, ADDED) == 3


def test_a_table_in_use_is_left_as_it_is_after_a_second(
    kept: psycopg.Connection[Any], database: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(database) as writer:
        writer.execute("INSERT INTO kept VALUES ('another run')")
        upgrade_table(kept, TABLE, ADDED)
        assert read_version(kept, TABLE, ADDED) == 1
    assert "canceling statement due to lock timeout" in caplog.text
    assert kept.execute("SHOW lock_timeout").fetchone() == ("0",)
    upgrade_table(kept, TABLE, ADDED)
    assert read_version(kept, TABLE, ADDED) == 3


@pytest.mark.parametrize("module", PREPARE, ids=lambda module: module.__name__.rpartition(".")[2])
def test_each_table_is_upgraded_when_a_job_begins(
    connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    prepare = PREPARE[module]
    prepare(connection)
    version_1 = columns(connection)
    monkeypatch.setattr(module, "ADDED_COLUMNS", ADDED)
    prepare(connection)
    assert columns(connection) == [*version_1, "host", "50% of", "node"]


def test_an_older_version_of_the_provider_writes_to_a_newer_ledger(connection: psycopg.Connection[Any]) -> None:
    ledger = Ledger("public", "kept", "run")
    prepare_ledger(connection, ledger)
    upgrade_table(connection, TABLE, ADDED)
    prepare_ledger(connection, ledger)
    with connection.transaction():
        run_once(connection, ledger, RANGE, Outcome(0), lambda: Outcome(0, {"n": 1}, 1))
    assert connection.execute("SELECT row_count, host FROM kept").fetchall() == [(1, None)]


def test_an_older_version_of_the_provider_writes_to_a_newer_results_table(connection: psycopg.Connection[Any]) -> None:
    prepare_results_table(connection, "public", "kept")
    upgrade_table(connection, TABLE, ADDED)
    prepare_results_table(connection, "public", "kept")
    ResultsTable(partial(reconnect, connection_parameters(connection), "test"), "public", "kept", "run").write([RANGE])
    assert connection.execute("SELECT range_id, host FROM kept").fetchall() == [(0, None)]
