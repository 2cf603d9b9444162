"""A table that a job writes to has to accept rows before the job runs, not only at its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import trial_write
from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.reject_table import open_reject_table
from burla_provider.task.results_table import prepare_results_table
from burla_provider.worker.ledger import Ledger

PREPARE: dict[str, Callable[[psycopg.Connection[Any]], Any]] = {
    "ledger": lambda connection: prepare_ledger(connection, Ledger("public", "kept", "run")),
    "results_table": lambda connection: prepare_results_table(connection, "public", "kept"),
    "reject_table": lambda connection: open_reject_table(connection, "kept", "run", 1, ("id",), {}),
}

TRIGGER = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'not on Sundays'; END$$;
    CREATE TRIGGER refuse AFTER INSERT ON kept FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("ALTER TABLE kept ADD team text NOT NULL", 'null value in column "team" of relation "kept" violates not-null'),
        ("ALTER TABLE kept ADD team text, ADD CHECK (team IS NOT NULL)", "violates check constraint"),
        (TRIGGER, "not on Sundays"),
    ],
)
@pytest.mark.parametrize("parameter", PREPARE)
def test_a_table_that_refuses_rows_is_refused_before_the_job(
    connection: psycopg.Connection[Any], parameter: str, change: str, problem: str
) -> None:
    PREPARE[parameter](connection)
    connection.execute(change)
    with pytest.raises(InvalidParameterError) as e:
        PREPARE[parameter](connection)
    assert str(e.value).startswith(f'{parameter}: the server refuses a row for "public"."kept": ')
    assert problem in str(e.value)
    assert "Name a table that does not exist: it will be created." in str(e.value)


@pytest.mark.parametrize("parameter", PREPARE)
def test_the_check_leaves_no_row(connection: psycopg.Connection[Any], parameter: str) -> None:
    PREPARE[parameter](connection)
    assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("REVOKE INSERT ON kept FROM creation_guest", "permission denied for table kept"),
        ("ALTER TABLE kept ENABLE ROW LEVEL SECURITY", "COPY FROM not supported with row-level security"),
        ("ALTER TABLE kept RENAME TO old; CREATE VIEW kept AS TABLE old; GRANT ALL ON kept TO creation_guest", "view"),
    ],
)
def test_a_results_table_that_the_role_cannot_copy_to_is_refused_before_the_job(
    connection: psycopg.Connection[Any], database: str, change: str, problem: str
) -> None:
    connection.execute("CREATE ROLE creation_guest LOGIN PASSWORD 'guest'")
    try:
        prepare_results_table(connection, "public", "kept")
        connection.execute("GRANT SELECT, INSERT, DELETE ON kept TO creation_guest")
        conninfo = make_conninfo(database, user="creation_guest", password="guest")
        with psycopg.connect(conninfo, autocommit=True) as guest:
            prepare_results_table(guest, "public", "kept")
            connection.execute(change)
            with pytest.raises(InvalidParameterError, match="results_table: the server refuses a row") as e:
                prepare_results_table(guest, "public", "kept")
        assert problem in str(e.value)
        assert 'run: GRANT SELECT, INSERT, DELETE ON "public"."kept" TO creation_guest;' in str(e.value)
    finally:
        connection.execute("DROP OWNED BY creation_guest; DROP ROLE creation_guest")


@pytest.mark.parametrize("timeout", ["lock_timeout", "statement_timeout"])
def test_a_lock_that_is_not_available_is_not_an_error_of_the_table(
    connection: psycopg.Connection[Any], database: str, timeout: str
) -> None:
    PREPARE["results_table"](connection)
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE kept IN SHARE MODE")
        connection.execute(f"SET {timeout} = '100ms'")
        with (
            pytest.raises((psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled)),
            trial_write(connection, "results_table", Identifier("public", "kept")),
        ):
            connection.execute("INSERT INTO kept VALUES ('a run', 0)")
