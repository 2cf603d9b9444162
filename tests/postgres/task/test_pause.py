"""The queries that docs/guides/pausing.md recommends, asked as the task asks them."""

from __future__ import annotations

import logging
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from burla_provider.database.connect import connection_parameters
from burla_provider.exceptions import InvalidParameterError, PauseQueryError
from burla_provider.task import pause
from burla_provider.task.pause import JobPause, PauseQuery
from tests.support.postgres import running_server
from tests.support.standby import running_standby
from tests.support.waiting import wait_for

PAGE = (Path(__file__).parents[3] / "docs" / "guides" / "pausing.md").read_text()
CONTROL, LAG, OWN_LAG, VACUUM, LOCKS, HOURS = re.findall(r"^```sql\n(SELECT.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture
def ask(connection: psycopg.Connection[Any]) -> Any:
    """``ask(query)``: what the task gets, with the rights of ``connection`` or another one."""

    def ask(query: str, other: psycopg.Connection[Any] | None = None) -> bool:
        with closing(PauseQuery(query, connection_parameters(other or connection), "test")) as pause_query:
            return pause_query.ask()

    return ask


def test_a_control_table(connection: Any, ask: Any) -> None:
    connection.execute("CREATE TABLE job_control (job text PRIMARY KEY, paused boolean NOT NULL)")
    assert ask(CONTROL) is False
    connection.execute("INSERT INTO job_control VALUES ('order_words', true)")
    assert ask(CONTROL) is True
    connection.execute("UPDATE job_control SET paused = false")
    assert ask(CONTROL) is False


def test_vacuum_at_work(connection: Any, ask: Any, database: str) -> None:
    connection.execute("CREATE TABLE orders (id bigint); CREATE TABLE others (id bigint)")
    connection.execute("CREATE ROLE watcher LOGIN PASSWORD 'pw'")
    try:
        conninfo = psycopg.conninfo.make_conninfo(database, user="watcher", password="pw")
        with psycopg.connect(database) as vacuum, psycopg.connect(conninfo) as watcher:
            vacuum.execute("ANALYZE others")
            assert ask(VACUUM, watcher) is False
            vacuum.execute("ANALYZE orders")  # it has the lock that VACUUM has
            assert ask(VACUUM, watcher) is True
            vacuum.rollback()
            assert ask(VACUUM, watcher) is False
    finally:
        connection.execute("DROP ROLE watcher")


def test_a_session_that_waits_for_a_lock(connection: Any, ask: Any, database: str) -> None:
    soon = LOCKS.replace("5 seconds", "0 seconds")
    assert soon != LOCKS
    connection.execute("CREATE TABLE orders (id bigint)")
    with closing(psycopg.connect(database)) as holder, closing(psycopg.connect(database)) as waiter:
        holder.execute("LOCK orders")
        assert ask(soon) is False
        waiter.pgconn.send_query(b"SELECT FROM orders")
        wait_for(lambda: ask(soon))
        assert ask(LOCKS.replace("5 seconds", "1 hour")) is False
        holder.rollback()
        wait_for(lambda: not ask(soon))


def test_a_pause_that_cannot_begin_is_no_error_of_the_query(
    connection: psycopg.Connection[Any], database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "ASK_SECONDS", 0.0)
    monkeypatch.setitem(pause._HOLD_SETTINGS, "lock_timeout", "10ms")
    parameters, reporter = connection_parameters(connection), None
    query = PauseQuery("SELECT true", parameters, "test")
    job: Any = JobPause(query, parameters, "test", logging.getLogger(__name__), reporter)  # type: ignore[arg-type]
    with closing(job), closing(psycopg.connect(database)) as worker:
        worker.execute(job.lock.try_shared)
        for _ in range(5):
            job.check()
        problem = (
            r"^pause_while: the pause cannot begin \(attempt 6 of 6\): canceling statement due to lock timeout\. A w"
        )
        with pytest.raises(PauseQueryError, match=problem):
            job.check()


def test_hours_of_the_day(connection: Any, ask: Any) -> None:
    always = HOURS.replace("06:00", "00:00").replace("22:00", "24:00")
    assert ask(always) is True
    assert ask(always.replace("BETWEEN", "NOT BETWEEN")) is False
    for when, expected in (("2026-01-15 04:59Z", False), ("2026-01-15 05:00Z", True), ("2026-07-15 20:01Z", False)):
        assert ask(HOURS.replace("now()", f"timestamptz '{when}'")) is expected


@pytest.fixture(scope="module")
def primary() -> Any:
    settings = {"wal_level": "replica"}
    with running_server(settings=settings) as server, psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id bigint)")
        with (server.home / "pg_hba.conf").open("a") as access:
            access.write("host replication all samehost scram-sha-256\n")
        connection.execute("SELECT pg_reload_conf()")
        yield server, connection


def test_the_lag_of_a_standby(primary: Any, ask: Any) -> None:
    server, connection = primary
    lag, own_lag = LAG.replace("> 100 * 1024 * 1024", "> 0"), OWN_LAG.replace("30 seconds", "0 seconds")
    assert lag != LAG
    assert own_lag != OWN_LAG
    connection.execute("CREATE ROLE watcher LOGIN PASSWORD 'pw'")
    given = conninfo_to_dict(server.dsn)
    source = psycopg.conninfo.make_conninfo(**{name: given[name] for name in ("host", "port", "user", "password")})
    conninfo = psycopg.conninfo.make_conninfo(server.dsn, user="watcher", password="pw")
    with psycopg.connect(conninfo, autocommit=True) as watcher:
        assert ask(lag, watcher) is False  # there is no standby
        with (
            running_standby(server, connection, {"primary_conninfo": source}) as replica,
            psycopg.connect(replica.dsn, autocommit=True) as standby,
        ):
            connection.execute("INSERT INTO orders VALUES (1)")
            replayed = "SELECT pg_last_xact_replay_timestamp() IS NOT NULL"
            wait_for(lambda: standby.execute(replayed).fetchone() == (True,))
            wait_for(lambda: not ask(lag, connection) and not ask(own_lag, standby))
            standby.execute("SELECT pg_wal_replay_pause()")
            wait_for(lambda: standby.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() == ("paused",))
            connection.execute("INSERT INTO orders VALUES (2)")
            wait_for(lambda: ask(lag, connection) and ask(own_lag, standby))
            assert ask(LAG, connection) is ask(OWN_LAG, standby) is False
            with pytest.raises(InvalidParameterError, match=r'returned NULL .* GRANT pg_monitor TO "watcher";'):
                ask(lag, watcher)
            connection.execute("GRANT pg_monitor TO watcher")
            assert ask(lag, watcher) is True
            standby.execute("SELECT pg_wal_replay_resume()")
            wait_for(lambda: not ask(lag, connection) and not ask(own_lag, standby))
    with pytest.raises(InvalidParameterError, match="returned NULL"):
        ask(own_lag, connection)
