from contextlib import ExitStack, closing

import psycopg
import pytest

from burla_provider.database import snapshot
from burla_provider.database.connect import connection_parameters, is_alive, open_connection
from burla_provider.database.snapshot import Snapshot, check_joinable, held_snapshot, join_snapshot
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError, SnapshotLostError
from tests.support.snapshots import open_snapshot


@pytest.fixture
def table(connection):
    connection.execute("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 10) AS g")
    return psycopg.sql.Identifier("public", "t")


@pytest.fixture
def parameters(connection, table):
    return connection_parameters(connection)


@pytest.fixture
def joiner(database):
    with psycopg.connect(database, autocommit=True) as joiner:
        joiner.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield joiner


def count(connection):
    return connection.execute("SELECT count(*) FROM t").fetchone()[0]


def test_a_session_that_joins_sees_what_the_holder_sees(parameters, connection, table, joiner):
    with open_snapshot(parameters, "public", "t") as held:
        connection.execute("DELETE FROM t WHERE id > 5")
        join_snapshot(joiner, held.snapshot, table)
        assert (count(held.connection), count(joiner), count(connection)) == (10, 10, 5)


def test_a_snapshot_whose_holder_is_gone_is_lost(parameters, table, joiner):
    with open_snapshot(parameters, "public", "t") as held:
        pass
    with pytest.raises(SnapshotLostError, match="is gone"):
        join_snapshot(joiner, held.snapshot, table)


def test_a_holder_whose_session_was_ended_is_not_alive(parameters, connection):
    with open_snapshot(parameters, "public", "t") as held:
        assert is_alive(held.connection)
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [held.connection.info.backend_pid])
        assert not is_alive(held.connection)


def test_the_server_releases_a_snapshot_whose_holder_is_unreachable_after_a_minute(parameters):
    with open_snapshot(parameters, "public", "t") as held:
        limits = [
            held.connection.execute(f"SHOW {name}").fetchone()[0]
            for name in ("tcp_keepalives_idle", "tcp_user_timeout")
        ]
    assert limits == ["30", "60000"]


def test_nothing_is_held_afterwards_whatever_happened(parameters, connection):
    with pytest.raises(ZeroDivisionError), open_snapshot(parameters, "public", "t") as held:
        raise ZeroDivisionError
    assert held.connection.closed
    connection.execute("SET lock_timeout = 1; TRUNCATE t")


def test_no_limit_of_the_role_ends_the_holder(parameters, connection):
    role_limits = "SET idle_in_transaction_session_timeout = '50ms'"
    connection.execute(f"ALTER DATABASE {connection.info.dbname} {role_limits}")
    with open_snapshot(parameters, "public", "t") as held:
        connection.execute("SELECT pg_sleep(0.1)")
        assert is_alive(held.connection)


@pytest.mark.parametrize(
    "definition",
    ["CREATE VIEW v AS SELECT * FROM t", "CREATE MATERIALIZED VIEW v AS SELECT * FROM t"],
    ids=["view", "materialized view"],
)
def test_views_can_be_read_in_a_snapshot_too(parameters, connection, joiner, definition):
    connection.execute(definition)
    with open_snapshot(parameters, "public", "v") as held:
        join_snapshot(joiner, held.snapshot, psycopg.sql.Identifier("public", "v"))
        assert joiner.execute("SELECT count(*) FROM v").fetchone() == (10,)


def test_a_table_that_is_not_there_is_the_server_s_own_error(parameters):
    with pytest.raises(psycopg.errors.UndefinedTable), open_snapshot(parameters, "public", "nothing"):
        pass


def test_a_table_that_somebody_keeps_locked_is_named(parameters, connection, database, monkeypatch):
    monkeypatch.setitem(snapshot.HOLDER_SETTINGS, "lock_timeout", "50ms")
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(BurlaProviderError, match=r'exclusive lock on "public"\."t" for 50ms'):
            open_snapshot(parameters, "public", "t").__enter__()


def test_an_error_of_a_server_that_refuses_names_the_alternative(connection, joiner):
    # As behind a pooler that spreads sessions over two servers: this one does not know the snapshot.
    with pytest.raises(InvalidParameterError, match='consistency="none"') as error:
        check_joinable(connection, Snapshot("0000FFFF-0000FFFF-1"), joiner)
    assert error.value.parameter == "consistency"


def test_a_snapshot_whose_holder_was_ended_can_be_taken_again(parameters, connection):
    """The server shares snapshots: it has restarted, or an administrator has ended the session."""
    with closing(open_connection(parameters, application_name="holder", autocommit=True)) as holder:
        taken = ExitStack()
        snapshot = taken.enter_context(held_snapshot(holder, "public", "t"))
        check_joinable(connection, snapshot, holder)
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [holder.info.backend_pid])
        with pytest.raises(SnapshotLostError, match=r"the session that held it ended\. Run the task again"):
            check_joinable(connection, snapshot, holder)
        taken.close()
