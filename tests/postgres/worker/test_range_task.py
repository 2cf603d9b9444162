import pytest

from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key import CTID
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.processors import ProcessRange, ProcessRows, SqlTotals
from burla_provider.worker.source import Source
from tests.postgres.worker.conftest import KEY, ROWS, ranges

(WHOLE,) = ranges(1)


def show(name):
    return ProcessRange(lambda connection, key_range: {"value": connection.execute(f"SHOW {name}").fetchone()[0]})


def test_a_connection_that_the_server_closed_is_replaced_without_a_retry(worker, orders):
    one = worker(SqlTotals(()))
    assert one(WHOLE).ok
    orders.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'burla'")
    assert one(WHOLE).attempts == 1


def test_the_server_ends_an_abandoned_session(worker, orders):
    if orders.info.server_version < 140000:
        pytest.skip("PostgreSQL 14 brought idle_session_timeout")
    assert worker(show("idle_session_timeout"))(WHOLE).value == {"value": "10min"}
    assert worker(show("client_connection_check_interval"))(WHOLE).value == {"value": "10s"}


@pytest.mark.parametrize("in_snapshot", [False, True])
def test_the_server_ends_an_idle_session_whose_client_is_unreachable_after_a_minute(worker, held, in_snapshot):
    def show_limits(connection, key_range):
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        return {"limits": [connection.execute(f"SHOW {name}").fetchone()[0] for name in names]}

    one = worker(ProcessRange(show_limits), snapshot=held.snapshot if in_snapshot else None)
    for _ in range(2):  # the second range uses the same connection, which was reset
        assert one(WHOLE).value == {"limits": ["30", "10", "3", "0"]}


@pytest.mark.parametrize("name", ["tcp_keepalives_idle", "tcp_user_timeout"])
def test_the_limits_of_the_connection_for_an_unreachable_client_are_kept(worker, name):
    settings = SessionSettings(inherited={name: "7"})
    assert worker(show(name), settings=settings)(WHOLE).value == {"value": "7"}


@pytest.mark.parametrize(("in_snapshot", "level"), [(False, "read committed"), (True, "repeatable read")])
def test_a_session_is_read_committed_except_in_a_snapshot(worker, held, in_snapshot, level):
    snapshot = held.snapshot if in_snapshot else None
    assert worker(show("transaction_isolation"), snapshot=snapshot)(WHOLE).value == {"value": level}
    source = Source("public", "orders", ("id",), f"current_setting('transaction_isolation') = '{level}'")
    one = worker(ProcessRows(lambda rows: {"n": len(list(rows))}), source=source, snapshot=snapshot)
    assert one(WHOLE).row_count == ROWS


def test_in_a_snapshot_lock_timeout_has_a_default(worker, held):
    def patience(**fields):
        return worker(show("lock_timeout"), **fields)(WHOLE).value["value"]

    assert patience() == "0"
    assert patience(snapshot=held.snapshot) == "1min"
    assert patience(snapshot=held.snapshot, settings=SessionSettings(lock_timeout=0)) == "0"


def test_a_partition_is_read_by_itself(worker, orders):
    orders.execute("CREATE TABLE parts (id bigint) PARTITION BY RANGE (id)")
    orders.execute("CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)")
    orders.execute("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)")
    orders.execute("INSERT INTO parts SELECT generate_series(0, 19)")
    one = worker(SqlTotals(()), source=Source("public", "parts"))
    assert one(KeyRange(KEY, 0, relation=("public", "parts_2"))).row_count == 10


def test_pages_cover_a_table_without_a_key(worker, orders, held):
    one = worker(SqlTotals(()), key=CTID, snapshot=held.snapshot)
    orders.execute("UPDATE orders SET n = 1")  # moves every row, but not in the snapshot
    parts = [KeyRange(CTID, 0, None, ("(3,0)",)), KeyRange(CTID, 1, ("(3,0)",), None)]
    assert sum(one(part).row_count for part in parts) == ROWS


def test_pages_are_read_as_pages_and_not_by_scanning_the_table(worker, orders):
    if orders.info.server_version < 140000:
        pytest.skip("PostgreSQL 14 brought scans of a range of pages")

    def explain(connection, key_range):
        query = "EXPLAIN SELECT count(*) FROM orders WHERE ctid >= '(1,0)' AND ctid < '(2,0)'"
        return {"plan": "\n".join(row[0] for row in connection.execute(query))}

    assert "Tid Range Scan" in worker(ProcessRange(explain), key=CTID)(KeyRange(CTID, 0)).value["plan"]


def test_an_outcome_has_worker_start_and_duration(worker):
    outcome = worker(ProcessRange(lambda connection, key_range: {}))(WHOLE)
    host, pid = outcome.worker.split(":")
    assert host
    assert int(pid)
    assert outcome.started > 1_700_000_000
    assert 0 <= outcome.seconds < 60
