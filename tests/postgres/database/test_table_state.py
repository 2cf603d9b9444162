"""Whether a table has changed since it was read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from burla_provider.database.table_state import (
    BUSY,
    DIFFERENT,
    HIDDEN,
    UNKNOWN,
    find_possible_change,
    state_before,
    table_state,
)
from tests.support.marks import conninfo_of
from tests.support.postgres import report_writes
from tests.support.waiting import wait_for


def state(connection: psycopg.Connection) -> dict[str, str] | None:
    report_writes(connection)
    return table_state(connection, "public", "orders")


@pytest.mark.usefixtures("counted_writes")
def test_writes_new_columns_and_new_files_are_changes(connection) -> None:
    connection.execute("CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 100) AS n")
    states = [state(connection)]
    assert state(connection) == states[0]
    for change in ("UPDATE orders SET id = 0 WHERE id = 1", "ALTER TABLE orders ADD note text", "VACUUM FULL orders"):
        connection.execute(change)
        states.append(state(connection))
    assert len({str(one) for one in states}) == 4


@pytest.mark.usefixtures("counted_writes")
def test_partitions_are_changes_too(connection) -> None:
    connection.execute("""
        CREATE TABLE orders (id bigint) PARTITION BY RANGE (id);
        CREATE TABLE first PARTITION OF orders FOR VALUES FROM (0) TO (10);
        CREATE TABLE second (id bigint);
    """)
    states = [state(connection)]
    for change in (
        "ALTER TABLE orders ATTACH PARTITION second FOR VALUES FROM (10) TO (20)",
        "INSERT INTO second VALUES (11)",
        "ALTER TABLE orders DETACH PARTITION first",
    ):
        connection.execute(change)
        states.append(state(connection))
    assert len({str(one) for one in states}) == 4


@pytest.mark.usefixtures("counted_writes")
def test_under_row_security_the_state_is_unknown(connection) -> None:
    connection.execute("""
        CREATE TABLE orders (id bigint);
        ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
        ALTER TABLE orders FORCE ROW LEVEL SECURITY;
        CREATE ROLE limited;
        GRANT SELECT ON orders TO limited;
        GRANT EXECUTE ON FUNCTION pg_control_system() TO limited;
    """)
    try:
        assert state(connection) is not None  # a superuser sees all rows
        connection.execute("SET ROLE limited")
        assert state(connection) is None
        connection.execute("RESET ROLE; ALTER TABLE orders DISABLE ROW LEVEL SECURITY; SET ROLE limited")
        assert state(connection) is not None
    finally:
        connection.execute("RESET ROLE; DROP OWNED BY limited; DROP ROLE limited")


@pytest.mark.usefixtures("counted_writes")
def test_the_expression_of_a_virtual_column_is_a_change(connection) -> None:
    if connection.info.server_version < 180000:
        pytest.skip("PostgreSQL 18 added virtual columns")
    connection.execute("CREATE TABLE orders (id bigint, twice bigint GENERATED ALWAYS AS (2 * id) VIRTUAL)")
    before = state(connection)
    connection.execute("ALTER TABLE orders ALTER COLUMN twice SET EXPRESSION AS (3 * id)")
    after = state(connection)
    assert {name for name in before if before[name] != after[name]} == {"columns"}


ATTACH = "ALTER TABLE orders ATTACH PARTITION second FOR VALUES FROM (10) TO (20)"


@pytest.mark.usefixtures("counted_writes")
@pytest.mark.parametrize(
    ("orders", "change", "undo"),
    [
        ("(id bigint) PARTITION BY RANGE (id)", ATTACH, "ALTER TABLE orders DETACH PARTITION second"),
        ("(id bigint) PARTITION BY RANGE (id)", "CREATE TABLE third PARTITION OF orders DEFAULT", "DROP TABLE third"),
        ("(id bigint)", "ALTER TABLE second INHERIT orders", "ALTER TABLE second NO INHERIT orders"),
    ],
)
def test_a_partition_that_came_and_went_is_a_change(connection, orders: str, change: str, undo: str) -> None:
    connection.execute(f"CREATE TABLE orders {orders}; CREATE TABLE second (id bigint)")
    before = state(connection)
    connection.execute(change)
    connection.execute(undo)
    after = state(connection)
    assert before is not None
    assert after is not None
    assert {name for name in before if before[name] != after[name]} == {"attached"}


@pytest.mark.usefixtures("counted_writes")
def test_partitions_of_other_tables_are_no_change_of_a_table_without_any(connection) -> None:
    connection.execute("CREATE TABLE orders (id bigint); CREATE TABLE other (id bigint) PARTITION BY RANGE (id)")
    before = state(connection)
    connection.execute("CREATE TABLE other_1 PARTITION OF other DEFAULT")
    assert state(connection) == before


@pytest.mark.usefixtures("counted_writes")
@pytest.mark.parametrize("rewrite", ["VACUUM FULL {}", "CLUSTER {0} USING {0}_id_idx"])
@pytest.mark.parametrize("leaf", ["first", "second"])
def test_rows_that_moved_in_a_partition_are_a_change(connection, rewrite: str, leaf: str) -> None:
    connection.execute("""
        CREATE TABLE orders (id bigint) PARTITION BY RANGE (id);
        CREATE INDEX ON orders (id);
        CREATE TABLE first PARTITION OF orders FOR VALUES FROM (0) TO (500);
        CREATE TABLE second PARTITION OF orders FOR VALUES FROM (500) TO (1000);
        INSERT INTO orders SELECT n FROM generate_series(0, 999) AS n ORDER BY hashint4(n);
    """)
    connection.execute("VACUUM")
    before = state(connection)
    size = connection.execute("SELECT pg_relation_size(%s)", [leaf]).fetchone()
    connection.execute(rewrite.format(leaf))
    assert connection.execute("SELECT pg_relation_size(%s)", [leaf]).fetchone() == size
    after = state(connection)
    assert {name for name in before if before[name] != after[name]} == {"written"}


def test_without_counters_the_state_is_unknown(connection) -> None:
    connection.execute("CREATE TABLE orders (id bigint)")
    connection.execute("SET track_counts = off")
    assert state(connection) is None
    assert find_possible_change(connection, "public", "orders", None, 0) == UNKNOWN


def test_with_counters_off_for_a_role_the_state_is_unknown(connection) -> None:
    connection.execute("CREATE TABLE orders (id bigint)")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET track_counts = off")
    connection.execute("SET track_counts = on")
    assert state(connection) is None


def test_before_postgres_15_the_state_is_unknown(connection) -> None:
    if connection.info.server_version >= 150000:
        pytest.skip("this server counts all writes")
    connection.execute("CREATE TABLE orders (id bigint)")
    assert table_state(connection, "public", "orders") is None


@pytest.fixture
def orders(counted_writes: None, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    connection.execute("CREATE TABLE orders AS SELECT n AS id FROM generate_series(1, 100) AS n")
    report_writes(connection)
    return connection


def before(connection: psycopg.Connection[Any]) -> dict[str, str]:
    found = state_before(connection, "public", "orders")
    assert found is not None
    return found


def possible_change(connection: psycopg.Connection[Any], earlier: dict[str, str], patience: float = 0) -> str:
    # As a retry asks: in a session and a snapshot of its own.
    with psycopg.connect(conninfo_of(connection)) as retry:
        retry.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return find_possible_change(retry, "public", "orders", earlier, patience)


@contextmanager
def writer(connection: psycopg.Connection[Any]) -> Iterator[psycopg.Connection[Any]]:
    """A session that has just reported, and so does not report its next write for a second."""
    with psycopg.connect(conninfo_of(connection), autocommit=True) as other:
        report_writes(other)
        other.execute("SELECT 1")
        yield other


def test_a_write_that_is_not_counted_yet_is_noticed_once_the_writer_is_idle(orders) -> None:
    for _ in range(20):  # on a machine that stalls, the write may come after that second
        with writer(orders) as other:
            earlier = before(orders)
            other.execute("INSERT INTO orders VALUES (101)")
            if state_before(orders, "public", "orders")["written"] == earlier["written"]:
                assert possible_change(orders, earlier) == BUSY
                assert possible_change(orders, earlier, 30) == DIFFERENT
                return
    pytest.fail("counted at once: no proof")


def test_a_write_that_is_not_counted_until_a_transaction_ends_is_doubted(orders) -> None:
    with writer(orders) as other:
        earlier = before(orders)
        # One message: between two of them, the session may report.
        other.execute("BEGIN; INSERT INTO orders VALUES (101); COMMIT; BEGIN")
        other.execute("SELECT 1")
        assert possible_change(orders, earlier) == BUSY
        other.execute("COMMIT")


@pytest.mark.parametrize("begins", ["before", "after"])
def test_a_write_of_a_procedure_that_has_committed_and_goes_on_is_doubted(orders, begins: str) -> None:
    orders.execute("""
        CREATE PROCEDURE write() LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(1);
            INSERT INTO orders VALUES (101);
            COMMIT;
            PERFORM pg_advisory_lock(2);
        END $$
    """)
    count = "SELECT count(*) FROM orders"
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with writer(orders) as other, psycopg.connect(conninfo_of(orders), autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(2)")
        if begins == "before":
            gate.execute("SELECT pg_advisory_lock(1)")
        thread = threading.Thread(target=other.execute, args=["CALL write()"])
        if begins == "before":
            thread.start()
            wait_for(lambda: gate.execute(waits).fetchone() == (1,))
            earlier = before(orders)
            gate.execute("SELECT pg_advisory_unlock(1)")
        else:
            earlier = before(orders)
            thread.start()
        wait_for(lambda: gate.execute(count).fetchone() == (101,))
        assert possible_change(orders, earlier, 0.5) == BUSY
        gate.execute("SELECT pg_advisory_unlock(2)")
        thread.join()


def test_sessions_that_cannot_have_written_since_are_no_reason_to_wait(orders) -> None:
    info = conninfo_of(orders)
    with psycopg.connect(info) as in_transaction, psycopg.connect(info, autocommit=True) as idle:
        in_transaction.execute("SELECT 1")
        idle.execute("SELECT 1")
        earlier = before(orders)
        in_transaction.execute("SELECT 2")
        with psycopg.connect(info) as retry, psycopg.connect(info) as ended:
            retry.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            pids = [ended.info.backend_pid, orders.info.backend_pid]
            ended.close()
            # The session that has asked for the earlier state has itself been at work since: end it.
            orders.close()
            wait_for(lambda: count_sessions(retry, pids) == 0)
            assert find_possible_change(retry, "public", "orders", earlier, 0) == ""


def count_sessions(connection: psycopg.Connection[Any], pids: list[int]) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    [(count,)] = connection.execute(query, [pids]).fetchall()
    return int(count)


def test_a_session_of_many_short_transactions_is_waited_for(orders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("burla_provider.database.table_state.BUSY_REPORT", 1.0)
    earlier = before(orders)
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.01):
            orders.execute("SELECT 1")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert possible_change(orders, earlier) == BUSY
        assert possible_change(orders, earlier, 20) == ""
    finally:
        done.set()
        thread.join()


def test_a_role_that_does_not_see_other_sessions_cannot_tell(orders) -> None:
    orders.execute("DROP ROLE IF EXISTS reader; CREATE ROLE reader LOGIN; GRANT SELECT ON orders TO reader")
    earlier = before(orders)
    with psycopg.connect(conninfo_of(orders), autocommit=True) as retry:
        try:
            retry.execute("SET SESSION AUTHORIZATION reader")
            assert find_possible_change(retry, "public", "orders", earlier, 5) == HIDDEN
            orders.execute("GRANT pg_read_all_stats TO reader")
            assert find_possible_change(retry, "public", "orders", earlier, 0) == BUSY
        finally:
            retry.execute("RESET SESSION AUTHORIZATION")
            orders.execute("DROP OWNED BY reader; DROP ROLE reader")
