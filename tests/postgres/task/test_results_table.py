"""The table of a job's results, and the privileges of the role that writes it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from burla_provider.database.connect import connection_parameters, open_connection
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.results_table import ResultsTable, prepare_results_table
from burla_provider.task.session import reconnect
from burla_provider.worker.outcome import Failure, Outcome
from tests.support.waiting import wait_for

RANGE = KeyRange(Key((KeyColumn("id", "integer"),)), 0, ("1",), ("9",))
REFUSED = r'^results_table: "public"\."results" cannot be used: '


@pytest.fixture
def guest(connection: psycopg.Connection, database: str) -> Iterator[dict[str, str]]:
    """The connection parameters of a role that has only the privileges of PUBLIC, without CREATE."""
    connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    connection.execute("CREATE ROLE results_guest LOGIN PASSWORD 'guest'")
    with psycopg.connect(make_conninfo(database, user="results_guest", password="guest")) as own:
        yield connection_parameters(own)
    connection.execute("DROP OWNED BY results_guest; DROP ROLE results_guest")


def prepare(parameters: dict[str, str], schema: str = "public") -> None:
    with open_connection(parameters, application_name="test", autocommit=True) as own:
        prepare_results_table(own, schema, "results")


def results_of(parameters: dict[str, str]) -> ResultsTable:
    return ResultsTable(partial(reconnect, parameters, "test"), "public", "results", "run")


def test_an_existing_table_needs_no_privilege_to_create_one(connection, database: str, guest) -> None:
    with psycopg.connect(database) as own:
        prepare(connection_parameters(own))
    connection.execute("GRANT SELECT, INSERT, DELETE ON results TO results_guest")
    prepare(guest)
    results = results_of(guest)
    results.add(Outcome(0, value={"total": 3}, row_count=2))
    results.write([RANGE])
    assert connection.execute("SELECT row_count, lower, result FROM results").fetchall() == [(2, "1", {"total": 3})]


def test_a_temporary_table_is_refused(connection) -> None:
    with pytest.raises(InvalidParameterError, match="results_table: a temporary table exists in one session only"):
        prepare(connection_parameters(connection), "pg_temp")


def test_the_error_names_the_privilege_to_create_the_table(guest) -> None:
    with pytest.raises(InvalidParameterError, match=REFUSED + "permission denied for schema public"):
        prepare(guest)


def test_a_table_without_the_privilege_to_insert_is_refused(connection, database: str, guest) -> None:
    with psycopg.connect(database) as own:
        prepare(connection_parameters(own))
    connection.execute("GRANT SELECT ON results TO results_guest")
    with pytest.raises(InvalidParameterError, match=REFUSED + "permission denied for table results"):
        prepare(guest)


def test_a_table_with_other_columns_is_named(connection) -> None:
    connection.execute("CREATE TABLE results (total numeric)")
    with pytest.raises(InvalidParameterError, match=REFUSED + 'column "run" does not exist'):
        prepare(connection_parameters(connection))


def test_first_runs_at_the_same_time_do_not_disturb_each_other(connection, database: str) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'"
    parameters = connection_parameters(connection)
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(database) as own:
            own.execute("LOCK TABLE pg_class IN SHARE MODE")  # both have looked for the table, and neither can make it
            checks = [pool.submit(prepare, parameters) for _ in range(2)]
            wait_for(lambda: connection.execute(waiting).fetchone() == (2,))
        for check in checks:
            check.result()


def test_the_error_for_a_read_only_session_names_the_parameter(database: str, connection) -> None:
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    with (
        psycopg.connect(database) as own,
        pytest.raises(InvalidParameterError, match="results_table: the server is read-only"),
    ):
        prepare(connection_parameters(own))


def test_characters_that_postgresql_does_not_have_are_replaced(connection, database: str) -> None:
    with psycopg.connect(database) as own:
        parameters = connection_parameters(own)
    prepare(parameters)
    results = results_of(parameters)
    results.add(Outcome(0, value={"name": "a\0b"}, failure=Failure("ValueError", "no \0 here")))
    results.write([RANGE])
    row = connection.execute("SELECT result->>'name', error FROM results").fetchone()
    assert row == ("a\ufffdb", "ValueError: no \ufffd here")


@pytest.mark.parametrize(("has_parts", "stored"), [(False, {"ids": [5]}), (True, {"ids": 5})])
def test_a_list_of_one_value_stays_a_list_unless_it_has_the_parts_of_a_total(
    connection, database: str, has_parts: bool, stored: dict[str, object]
) -> None:
    with psycopg.connect(database) as own:
        parameters = connection_parameters(own)
    prepare(parameters)
    results = ResultsTable(partial(reconnect, parameters, "test"), "public", "results", "run", has_parts=has_parts)
    results.add(Outcome(0, value={"ids": [5]}))
    results.write([RANGE])
    assert connection.execute("SELECT result FROM results").fetchone() == (stored,)


def test_another_table_is_refused(connection, database: str) -> None:
    connection.execute("CREATE TABLE results (id int)")
    with psycopg.connect(database) as own, pytest.raises(InvalidParameterError, match='column "run" does not exist'):
        prepare(connection_parameters(own))


def test_two_airflows_that_write_a_run_of_the_same_name_do_not_disturb_each_other(connection, database: str) -> None:
    with psycopg.connect(database) as own:
        parameters = connection_parameters(own)
    prepare(parameters)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE results IN SHARE MODE")  # both want to replace the rows of the run
            runs = [pool.submit(results_of(parameters).write, [RANGE]) for _ in range(2)]
            wait_for(lambda: connection.execute(waiting).fetchone() == (2,))
        for run in runs:
            run.result()
    assert connection.execute("SELECT count(*) FROM results").fetchone() == (1,)
