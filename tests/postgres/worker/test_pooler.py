"""Behind pgbouncer in transaction mode, where each transaction may use another server process."""

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from burla_provider.database.connect import connection_parameters, is_pooled
from burla_provider.database.settings import SessionSettings
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.pause import JobPause, PauseQuery
from burla_provider.task.report import Report
from burla_provider.task.reporter import Reporter
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import ProcessRange, ProcessRows, Transform
from burla_provider.worker.row_functions import MapRow, RowFormat
from burla_provider.worker.sinks import Target, Update, UpdateInPlace, Upsert
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.task.test_exchange import ROW, Overwrite
from tests.postgres.worker.conftest import KEY, ROWS, ranges
from tests.support.snapshots import open_snapshot
from tests.support.waiting import wait_for as wait_until


@pytest.fixture
def pooled(orders, database, tmp_path):
    """The conninfo of the orders' database behind a pooler with four server connections."""
    if not shutil.which("pgbouncer"):
        pytest.skip("pgbouncer is not installed")
    server = conninfo_to_dict(database)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    users, config = tmp_path / "users.txt", tmp_path / "pgbouncer.ini"
    users.write_text(f'"{server["user"]}" "{server["password"]}"\n')
    config.write_text(
        f"[databases]\n{server['dbname']} = host={server['host']} port={server['port']}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = plain\n"
        f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 4\n"
        f"ignore_startup_parameters = extra_float_digits\nadmin_users = {server['user']}\n"
    )
    log = tmp_path / "log"
    with subprocess.Popen(command(config, tmp_path), stdout=log.open("wb"), stderr=subprocess.STDOUT) as pooler:
        try:
            wait_for(port, pooler, log)
            yield psycopg.conninfo.make_conninfo(database, port=port)
        finally:
            pooler.send_signal(signal.SIGKILL)


def command(config, home):
    if os.geteuid() != 0:
        return ["pgbouncer", config]
    # It refuses to run as root.
    nobody = pwd.getpwnam("nobody")
    for path in (home, *home.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    for parent in home.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    return ["pgbouncer", "-u", "nobody", config]


def wait_for(port, pooler, log):
    while pooler.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise RuntimeError(log.read_text())


def test_a_pooler_is_recognised(pooled):
    with psycopg.connect(pooled) as connection:
        assert is_pooled(connection)


@pytest.fixture
def worker_behind(worker, pooled):
    with psycopg.connect(pooled) as connection:
        parameters = connection_parameters(connection)
    return lambda processor, **fields: worker(processor, **fields | {"parameters": parameters})


def add_up(rows):
    return {"total": sum(row[1] for row in rows)}


def test_ranges_are_read_through_a_pooler(worker_behind):
    one = worker_behind(ProcessRows(add_up), settings=SessionSettings("a.b", statement_timeout=30))
    outcomes = [one(key_range) for key_range in ranges(10)]
    assert sum(outcome.value["total"] for outcome in outcomes) == Decimal("5005.00")


def test_workers_share_the_pooler_s_connections(worker_behind):
    workers = [worker_behind(ProcessRows(add_up)) for _ in range(8)]
    outcomes = []
    threads = [
        threading.Thread(target=lambda one=one: outcomes.extend(one(key_range) for key_range in ranges(10)))
        for one in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.failure for outcome in outcomes] == [None] * 80


def test_a_range_leaves_no_settings_in_the_pooled_session(worker_behind, pooled):
    one = worker_behind(ProcessRows(add_up), settings=SessionSettings("a.b", statement_timeout=7), slots=1)
    assert one(ranges(1)[0]).ok
    with psycopg.connect(pooled, autocommit=True) as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_snapshot_is_shared_through_a_pooler(worker_behind, pooled, orders):
    with psycopg.connect(pooled) as connection:
        parameters = connection_parameters(connection)
    with open_snapshot(parameters, "public", "orders") as held:
        orders.execute("UPDATE orders SET amount = 0")
        outcome = worker_behind(ProcessRows(add_up), snapshot=held.snapshot)(ranges(1)[0])
    assert (outcome.value, outcome.row_count) == ({"total": Decimal("5005.00")}, ROWS)


def test_session_state_does_not_reach_the_next_range_through_a_pooler(worker_behind):
    def leave(connection, key_range):
        seen = "SELECT to_regclass('pg_temp.stage')::text, current_setting('work_mem'), current_user::text"
        row = connection.execute(seen).fetchone()
        connection.execute("CREATE TEMP TABLE stage (id bigint); SET work_mem = '77kB'; SET ROLE pg_read_all_data")
        return {"seen": repr(row)}

    one = worker_behind(ProcessRange(leave))
    outcomes = [one(key_range) for key_range in ranges(5)]
    assert [outcome.failure for outcome in outcomes] == [None] * 5
    assert len({outcome.value["seen"] for outcome in outcomes}) == 1


@pytest.mark.parametrize("in_snapshot", [False, True], ids=["own transactions", "snapshot"])
def test_inherited_settings_are_set_per_transaction(worker_behind, pooled, in_snapshot):
    def show(connection, key_range):
        return {"zone": connection.execute("SHOW TimeZone").fetchone()[0]}

    with psycopg.connect(pooled, autocommit=True) as connection:
        session = SessionSettings(inherited={"TimeZone": "Asia/Tokyo", "search_path": '"a b", public'})
        with open_snapshot(connection_parameters(connection), "public", "orders") as held:
            one = worker_behind(ProcessRange(show), settings=session, snapshot=held.snapshot if in_snapshot else None)
            assert [one(key_range).value for key_range in ranges(3)] == [{"zone": "Asia/Tokyo"}] * 3
            assert connection.execute("SHOW TimeZone").fetchone() != ("Asia/Tokyo",)


def test_workers_in_a_snapshot_share_the_pooler_s_connections(worker_behind, pooled):
    with psycopg.connect(pooled) as connection:
        parameters = connection_parameters(connection)
    with open_snapshot(parameters, "public", "orders") as held:
        workers = [worker_behind(ProcessRows(add_up), snapshot=held.snapshot) for _ in range(5)]
        assert [one(ranges(1)[0]).failure for one in workers] == [None] * 5


def test_a_connection_that_the_pooler_ended_is_replaced(worker_behind, pooled):
    name, console = conninfo_to_dict(pooled)["dbname"], psycopg.conninfo.make_conninfo(pooled, dbname="pgbouncer")
    commands = [f"RESUME {name}", f"KILL {name}"]

    def count(connection, key_range):
        while commands:
            with psycopg.connect(console, autocommit=True) as admin:
                admin.execute(commands.pop())
        return {"n": connection.execute("SELECT count(*) FROM orders").fetchone()[0]}

    outcome = worker_behind(ProcessRange(count))(ranges(1)[0])
    assert outcome.ok, outcome.failure
    assert (outcome.value, outcome.attempts) == ({"n": ROWS}, 2)


def test_writes_happen_once_through_a_pooler(worker_behind, orders):
    ledger = Ledger("public", "burla_ledger", "run")
    prepare_ledger(orders, ledger)

    def increment(connection, key_range):
        for _ in range(10):  # often enough to be prepared, where that is allowed
            connection.execute("UPDATE orders SET n = n + 1 WHERE id >= %s", [key_range.start_id])
        return {}

    for _ in range(2):
        assert worker_behind(ProcessRange(increment), ledger=ledger)(ranges(1)[0]).ok
    assert orders.execute("SELECT min(n), max(n) FROM orders").fetchone() == (10, 10)


def test_a_task_pauses_workers_through_a_pooler(worker_behind, pooled, orders, monkeypatch):
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, amount numeric); CREATE TABLE control (paused bool)")
    orders.execute("INSERT INTO control VALUES (true)")
    with psycopg.connect(pooled) as connection:
        parameters = connection_parameters(connection)
    query = PauseQuery("SELECT paused FROM control", parameters, "task")
    ti: Any = SimpleNamespace(dag_id="dag", task_id="task", start_date=None)
    reporter = Reporter({"ti": ti}, logging.getLogger(), Report("orders"))
    with closing(JobPause(query, parameters, "task", logging.getLogger(), reporter)) as pause:
        monkeypatch.setattr("burla_provider.task.pause.ASK_SECONDS", 0)
        pause.check()
        lock = replace(pause.lock, seconds=0.1)
        # Other clients use the server's sessions in turn.
        for _ in range(10):
            with psycopg.connect(pooled) as connection:
                assert connection.execute(lock.try_shared).fetchone() == (False,)
        sink = Upsert(Target("public", "results", ("id", "amount")), ("id",), ("amount",))
        function = MapRow(lambda row: row, RowFormat(("id", "amount"), ("id", "amount")), 100)
        writer = TargetWriter(parameters, SessionSettings("writer"), sink, pause_lock=lock)
        outcomes = []
        one = worker_behind(Transform(function, writer, KEY, chunk_rows=100))
        thread = threading.Thread(target=lambda: outcomes.append(one(ranges(1)[0])))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE query = 'ROLLBACK' AND state = 'idle'"
        wait_until(lambda: orders.execute(waiting).fetchone()[0])
        assert orders.execute("SELECT count(*) FROM results").fetchone() == (0,)
        orders.execute("UPDATE control SET paused = false")
        pause.check()
        thread.join()
    assert outcomes[0].failure is None
    assert orders.execute("SELECT count(*) FROM results").fetchone() == (ROWS,)


@pytest.mark.parametrize("mode", ["upsert", "update", "update_in_place"])
def test_rows_are_written_through_a_pooler(worker_behind, pooled, orders, mode):
    """The temporary table must not stay in a session that serves another worker next."""
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, n integer)")
    orders.execute("INSERT INTO results SELECT id FROM orders" if mode == "update" else "SELECT")
    table = "orders" if mode == "update_in_place" else "results"
    columns = ("n",) if mode == "update_in_place" else ("id", "n")
    target = Target("public", table, columns)
    with psycopg.connect(pooled) as connection:
        parameters = connection_parameters(connection)

    def run(part):
        form = RowFormat(("id",), columns)
        if mode == "update_in_place":
            sink, function = UpdateInPlace(target, ("id",)), UpdateRows(EachRow(lambda row: (row[0] * 2,)), form, 2, 10)
        else:
            sink = Upsert(target, ("id",), ("n",)) if mode == "upsert" else Update(target, ("id",), ("n",))
            function = MapRow(lambda row: (row[0], row[0] * 2), form, 10)
        writer = TargetWriter(parameters, SessionSettings(), sink)
        in_place = mode == "update_in_place"
        return worker_behind(Transform(function, writer, KEY, chunk_rows=20, reads_xmin=in_place))(part)

    with ThreadPoolExecutor(3) as threads:
        outcomes = list(threads.map(run, ranges(9)))
    assert [outcome.failure for outcome in outcomes] == [None] * 9
    assert orders.execute(f"SELECT count(*) FROM {table} WHERE n = id * 2").fetchone() == (ROWS,)
    query = "SELECT count(*) FROM pg_class WHERE relname = 'burla_rows'"
    assert orders.execute(query).fetchone() == (0,)


def test_rows_of_a_target_are_replaced(orders, pooled):
    with psycopg.connect(pooled, autocommit=True) as connection:
        overwrite = Overwrite(connection, ("a", "b"))
        overwrite.insert("target", [ROW, (2, "x", 3, None, None, None)])
        overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
        counts = overwrite.run(1)
        assert counts == {"rows_inserted": 0, "rows_updated": 0, "rows_unchanged": 1, "rows_deleted": 1}
        assert connection.execute("SHOW row_security").fetchone() == ("on",)
