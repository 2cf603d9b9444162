"""BurlaPostgresOperator and what databases may be like: other servers behind them, encodings, ways to reach them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges.catalog import read_facts
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.session import TaskSession
from burla_provider.task.target import TargetSession
from burla_provider.worker.sinks import Insert, Target
from tests.airflow.conftest import Orders, add_database
from tests.support.postgres import PostgresServer, running_server
from tests.support.task_runner import Airflow
from tests.support.waiting import wait_for

TOTALS = {"total": "sum(amount)"}


def operator(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(**{"task_id": "t", "postgres_conn_id": "orders_db", "ranges": 7, **options})


@pytest.fixture
def elsewhere(orders: Orders) -> None:
    """The orders below 30,000 as a partition of a table, and the rest where a foreign partition may find them."""
    orders.connection.execute("""
        CREATE TABLE mixed (id bigint NOT NULL, amount numeric(14, 4)) PARTITION BY RANGE (id);
        CREATE TABLE near PARTITION OF mixed FOR VALUES FROM (0) TO (30000);
        INSERT INTO near SELECT id, amount FROM orders WHERE id < 30000;
        CREATE TABLE rest AS SELECT id, amount FROM orders WHERE id >= 30000;
    """)


@pytest.fixture
def out_of_reach(elsewhere: None, orders: Orders) -> None:
    """The foreign partition, which nothing can be read from."""
    orders.connection.execute("""
        CREATE FOREIGN DATA WRAPPER wrapper;
        CREATE SERVER other FOREIGN DATA WRAPPER wrapper;
        CREATE FOREIGN TABLE far PARTITION OF mixed FOR VALUES FROM (30000) TO (MAXVALUE) SERVER other;
    """)


@pytest.mark.parametrize("options", [{"table": "far"}, {"table": "far", "upper": "50000"}, {"table": "mixed"}])
@pytest.mark.usefixtures("out_of_reach")
def test_a_snapshot_of_what_is_on_another_server_is_refused(airflow: Airflow, options: dict[str, str]) -> None:
    result = airflow.run(operator(**options, key="id", totals=TOTALS), max_tries=3)
    assert result.state == "failed"
    assert "consistency: rows are in the foreign table public.far" in str(result.error)
    assert 'Use consistency="none"' in str(result.error)


@pytest.mark.usefixtures("out_of_reach")
def test_a_window_without_the_partitions_of_another_server_has_a_snapshot(airflow: Airflow, orders: Orders) -> None:
    result = airflow.run(operator(table="mixed", key="id", upper="20000", totals=TOTALS))
    assert result.value["row_count"] == orders.ask("count(*)", "id < 20000"), result.log


@pytest.mark.usefixtures("out_of_reach")
def test_a_window_is_no_advice_for_a_job_that_reads_the_table_as_a_whole(airflow: Airflow) -> None:
    result = airflow.run(operator(table="mixed", key="id", upper="20000", totals=TOTALS, resume=True))
    assert "consistency: rows are in the foreign table public.far" in str(result.error)
    assert "a window without these rows" not in str(result.error)


@pytest.mark.parametrize(("table", "rows"), [("far", "id >= 30000"), ("mixed", "TRUE")])
@pytest.mark.usefixtures("elsewhere")
def test_tables_of_another_server_are_read_without_a_snapshot(
    airflow: Airflow, orders: Orders, table: str, rows: str
) -> None:
    try:
        orders.connection.execute("CREATE EXTENSION postgres_fdw")
    except psycopg.Error:
        pytest.skip("This server has no postgres_fdw.")
    info = orders.connection.info
    orders.connection.execute(f"""
        CREATE SERVER other FOREIGN DATA WRAPPER postgres_fdw
            OPTIONS (host '{info.host}', port '{info.port}', dbname '{info.dbname}');
        CREATE USER MAPPING FOR CURRENT_USER SERVER other OPTIONS (user '{info.user}', password '{info.password}');
        CREATE FOREIGN TABLE far PARTITION OF mixed FOR VALUES FROM (30000) TO (MAXVALUE)
            SERVER other OPTIONS (table_name 'rest');
    """)
    result = airflow.run(operator(table=table, key="id", totals=TOTALS, consistency="none"))
    assert result.error is None, result.log
    assert (result.value["row_count"], result.value["total"]) == (
        orders.ask("count(*)", rows),
        str(orders.ask("sum(amount)", rows)),
    )


@pytest.fixture
def words(request: pytest.FixtureRequest, airflow: Airflow, postgres_server: PostgresServer) -> Iterator[str]:
    """The table ``words`` and the connection ``words_db``, in a database of another encoding."""
    with postgres_server.database(encoding=request.param) as conninfo:
        with psycopg.connect(conninfo, client_encoding="UTF8") as connection:
            connection.execute("CREATE TABLE words (word text PRIMARY KEY)")
            connection.execute("INSERT INTO words SELECT 'wörter ' || n FROM generate_series(1, 100) AS n")
            add_database(airflow, "words_db", connection.info)
        yield conninfo


@pytest.mark.parametrize("words", ["SQL_ASCII", "LATIN1"], indirect=True)
@pytest.mark.usefixtures("words")
def test_text_is_text_in_a_database_of_another_encoding(airflow: Airflow) -> None:
    def last(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        query = sql.SQL("SELECT max(word) FROM words WHERE {}").format(key_range.where)
        return {"last": connection.execute(query).fetchone()[0]}  # type: ignore[index]

    options = {"table": "words", "postgres_conn_id": "words_db", "where": "word <> 'wörter 99'", "verify": "count"}
    result = airflow.run(operator(**options, totals={"last": "max(word)"}))
    assert result.value == {"row_count": 99, "last": "wörter 98"}, result.log
    options = {"table": "words", "postgres_conn_id": "words_db", "process_range": last, "ledger": "public.burla_ledger"}
    result = airflow.run(operator(**options, combine=lambda values: {"last": max(value["last"] for value in values)}))
    assert result.value == {"last": "wörter 99"}, result.log


@pytest.mark.parametrize("words", ["LATIN1"], indirect=True)
@pytest.mark.usefixtures("words")
def test_a_character_that_the_database_does_not_have_is_an_error_that_says_so(airflow: Airflow) -> None:
    options = {"table": "words", "postgres_conn_id": "words_db", "totals": {"n": "count(*)"}}
    result = airflow.run(operator(**options, where="word <> '€'"))
    assert result.state == "failed"
    assert str(result.error).startswith("where: ")
    assert "has no equivalent in encoding" in str(result.error)


@pytest.mark.parametrize("words", ["SQL_ASCII", "LATIN1"], indirect=True)
def test_results_are_stored_in_a_database_of_another_encoding(airflow: Airflow, words: str) -> None:
    def last(rows: Iterable[tuple[str]]) -> dict[str, Any]:
        found = max(word for (word,) in rows)
        if found == "wörter 99":
            raise ValueError("€ in the last one")
        return {"last": f"{found} €"}

    options = {"table": "words", "postgres_conn_id": "words_db", "process_rows": last, "results_table": "public.found"}
    options |= {"ranges": 2, "tolerated_failures": 1, "combine": lambda values: values[0]}
    result = airflow.run(operator(**options))
    assert result.state == "success", result.log
    with psycopg.connect(words, client_encoding="UTF8") as connection:
        kept = connection.execute("SELECT result ->> 'last', error FROM found ORDER BY range_id").fetchall()
    assert {text[:6] for text, _ in kept if text} == {"wörter"}
    assert next(error for _, error in kept if error).endswith(("€ in the last one", r"\u20ac in the last one"))


@pytest.fixture
def socket_db(airflow: Airflow) -> Iterator[None]:
    """A table of ids from 1 to 100, and the connection ``socket_db`` to it through a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="burla-test-socket-") as directory:
        os.chmod(directory, 0o777)  # as root, the server runs as somebody else
        with running_server(settings={"unix_socket_directories": directory}) as server:
            with (server.home / "pg_hba.conf").open("a") as access:
                access.write("local all all scram-sha-256\n")
            with psycopg.connect(server.dsn) as connection:
                connection.execute("CREATE TABLE ids AS SELECT n AS id FROM generate_series(1, 100) AS n")
                connection.execute("SELECT pg_reload_conf()")
            by_socket = psycopg.conninfo.make_conninfo(server.dsn, host=directory)
            wait_for(lambda: may_connect(by_socket))
            with psycopg.connect(by_socket) as connection:
                add_database(airflow, "socket_db", connection.info)
            yield


def may_connect(conninfo: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(conninfo):
        return True
    return False


@pytest.mark.usefixtures("socket_db")
def test_a_unix_socket_is_for_this_machine_only(airflow: Airflow) -> None:
    options = {"table": "ids", "postgres_conn_id": "socket_db", "key": "id", "totals": {"most": "max(id)"}}
    assert airflow.run(operator(**options)).value == {"row_count": 100, "most": 100}
    # Without a login, which would be checked first, and there is no such cluster.
    airflow.add_connection("cluster", "burla", host="https://burla.example.com")
    result = airflow.run(operator(**options, burla_conn_id="cluster"), max_tries=3)
    assert result.state == "failed"
    assert "postgres_conn_id: the connection is to the Unix socket /" in str(result.error)
    assert airflow.run(operator(**options, burla_conn_id="cluster", plan_only=True)).state == "success"


@pytest.mark.usefixtures("socket_db")
def test_functions_and_results_use_a_unix_socket(airflow: Airflow) -> None:
    def count(connection: Any, key_range: Any) -> dict[str, Any]:
        query = sql.SQL("SELECT count(*) FROM ids WHERE {}").format(key_range.where)
        return {"row_count": connection.execute(query).fetchone()[0]}

    options = {"table": "ids", "postgres_conn_id": "socket_db", "key": "id", "results_table": "public.results"}
    result = airflow.run(operator(**options, process_range=count))
    assert result.error is None, result.log
    assert result.value["row_count"] == 100


def test_a_role_with_privileges_on_some_columns_reads_them_without_a_snapshot(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'clerk'; GRANT SELECT (id, amount) ON orders TO clerk")
    try:
        with psycopg.connect(orders.connection.info.dsn, user="clerk", password="clerk") as clerk:
            add_database(airflow, "clerk_db", clerk.info)
        options = {"table": "orders", "postgres_conn_id": "clerk_db", "columns": ["amount"], "totals": TOTALS}
        result = airflow.run(operator(**options), max_tries=3)
        assert result.state == "failed"
        assert "requires SELECT on all of its columns" in str(result.error)
        result = airflow.run(operator(**options, consistency="none"))
        assert result.error is None, result.log
        assert result.value["total"] == str(orders.ask("sum(amount)"))
    finally:
        orders.connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")


@pytest.mark.parametrize("has_target", [False, True], ids=["source", "target"])
def test_the_last_steps_wait_for_a_server_that_is_starting_again(has_target: bool) -> None:
    def ask() -> Any:
        with session.final_connection() as another:
            return another.execute("SELECT current_setting('application_name')").fetchone()

    with (
        running_server() as server,
        psycopg.connect(server.dsn, autocommit=True) as connection,
        ThreadPoolExecutor() as pool,
    ):
        facts = read_facts(PlannerConnection(connection), "pg_class")
        session: Any = TaskSession("again", connection_parameters(connection), connection, facts)
        if has_target:
            target = Target("public", "labels", ("id",))
            session = TargetSession("again", session.parameters, connection, {}, Insert(target), target, False)
        server.stop()
        answer = pool.submit(ask)
        server.start()
        assert answer.result() == ("again",)
