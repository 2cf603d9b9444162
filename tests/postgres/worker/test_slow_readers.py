"""One side may leave unread what the other sends for longer than ``tcp_user_timeout``.

Linux applies this limit also if the other side acknowledges every packet, but its receive buffer is full. So the tests
send more than all buffers of a connection hold.
"""

import os
import socket
import threading
import time
from contextlib import closing, contextmanager
from functools import partial

import psycopg
import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters, open_connection
from burla_provider.database.settings import SessionSettings
from burla_provider.task.results_table import ResultsTable, prepare_results_table
from burla_provider.task.session import reconnect
from burla_provider.worker.outcome import Outcome, decode
from burla_provider.worker.pause import PauseLock
from burla_provider.worker.processors import ProcessRange, ProcessRows, Transform
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.row_functions import MapRow, RowFormat
from burla_provider.worker.sinks import Insert, Target
from burla_provider.worker.sinks.copy_rows import copy_rows
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges

(WHOLE,) = ranges(1)
LIMIT = 1_000
"""Milliseconds, in place of a minute."""
SECONDS = 5
"""How long nothing is read."""
WIDTH = 30_000
"""Characters per row: all rows together have 30 MB."""
WIDE = Source("public", "orders", {"id": "id", "note": f"repeat('x', {WIDTH})"})


@pytest.fixture
def parameters(orders):
    """How workers connect, with the client's limit."""
    return {**connection_parameters(orders), "tcp_user_timeout": str(LIMIT)}


@pytest.fixture
def process(parameters, monkeypatch):
    """``process(processor, source)``: the outcome of the whole table, with the server's limit."""
    # If another test of this process has unpickled a RangeTask, these functions have globals of their own. For the same
    # reason this task is not pickled.
    function = RangeTask._connect
    for name in ("connect_worker", "_set_up", "unreachable_client_settings"):
        function = function.__globals__[name]
    monkeypatch.setitem(function.__globals__["_UNREACHABLE_CLIENT"], "tcp_user_timeout", str(LIMIT))
    opened = []

    def process(processor, source=ORDERS):
        opened.append(RangeTask(parameters, source, KEY, processor))
        return decode(opened[-1](0, WHOLE.to_item()))

    yield process
    for task in opened:
        task.close()


@pytest.fixture
def copies(orders):
    orders.execute("CREATE TABLE copies (id bigint PRIMARY KEY, note text)")
    return orders


@contextmanager
def uncommitted_row(conninfo):
    """Insert the first row of the copies in a transaction of another session, which is rolled back after a while."""
    with closing(psycopg.connect(conninfo)) as other:
        other.execute("INSERT INTO copies VALUES (1)")
        timer = threading.Timer(SECONDS, other.rollback)
        timer.start()
        yield
        timer.join()


def user_timeout(connection):
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        return line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


def test_a_function_of_rows_may_compute_for_longer_than_the_limit(process):
    def read(rows):
        next(rows)
        time.sleep(SECONDS)
        return {"rest": sum(1 for _ in rows)}

    outcome = process(ProcessRows(read), WIDE)
    assert outcome.failure is None
    assert outcome.row_count == ROWS


def test_a_pause_may_take_longer_than_the_limit(process, parameters, copies, database):
    lock = PauseLock(2**62 + 2, seconds=0.2)
    sink = Insert(Target("public", "copies", ("id", "note")))
    writer = TargetWriter(parameters, SessionSettings(), sink, pause_lock=lock)
    function = MapRow(lambda row: (row[0], row[1][:9]), RowFormat(("id", "note"), ("id", "note")), 10)
    with closing(writer), closing(psycopg.connect(database)) as task:
        task.execute(lock.lock)
        timer = threading.Timer(SECONDS, task.rollback)
        timer.start()
        outcome = process(Transform(function, writer, KEY, chunk_rows=100), WIDE)
        timer.join()
    assert outcome.failure is None
    assert outcome.row_count == ROWS


def test_a_target_may_wait_for_another_session_for_longer_than_the_limit(process, parameters, copies, database):
    sink = Insert(Target("public", "copies", ("id", "note")))
    writer = TargetWriter(parameters, SessionSettings(), sink)
    function = MapRow(lambda row: (row[0], "x" * WIDTH), RowFormat(("id", "amount"), ("id", "note")), 10)
    with closing(writer), uncommitted_row(database):
        outcome = process(Transform(function, writer, KEY))
    assert outcome.failure is None
    assert copies.execute("SELECT count(*), sum(length(note)) FROM copies").fetchone() == (ROWS, ROWS * WIDTH)


def test_a_function_of_a_range_may_read_slowly(process):
    def read(connection, key_range):
        query = sql.SQL("SELECT id, repeat('x', {}) FROM orders WHERE {}").format(sql.Literal(WIDTH), key_range.where)
        rows = connection.cursor().stream(query)
        next(rows)
        time.sleep(SECONDS)
        return {"rest": sum(1 for _ in rows)}

    outcome = process(ProcessRange(read))
    assert outcome.failure is None
    assert outcome.value == {"rest": ROWS - 1}


def test_the_server_may_read_the_rows_of_a_function_slowly(process, copies, database):
    def write(connection, key_range):
        with connection.cursor().copy("COPY copies FROM STDIN") as copy:
            for number in range(1, ROWS + 1):
                copy.write_row((number, "x" * WIDTH))
        return {"row_count": ROWS}

    with uncommitted_row(database):
        outcome = process(ProcessRange(write))
    assert outcome.failure is None
    assert copies.execute("SELECT count(*) FROM copies").fetchone() == (ROWS,)


def test_results_may_wait_for_another_session_for_longer_than_the_limit(parameters, connection):
    prepare_results_table(connection, "public", "results")
    connection.execute(
        f"""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF new.range_id = 0 THEN PERFORM pg_sleep({SECONDS}); END IF; RETURN new; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON results FOR EACH ROW EXECUTE FUNCTION wait()
        """
    )
    results = ResultsTable(partial(reconnect, parameters, "test"), "public", "results", "run")
    parts = ranges(ROWS)
    for part in parts:
        results.add(Outcome(part.index, value={"note": "x" * WIDTH}, row_count=1))
    results.write(parts)
    assert connection.execute("SELECT count(*) FROM results").fetchone() == (ROWS,)


def test_a_session_that_only_writes_keeps_the_limit(parameters):
    writer = TargetWriter(parameters, SessionSettings(), Insert(Target("public", "orders", ("id",))))
    with closing(writer):
        [(limit,)] = writer.read(WHOLE, lambda connection: connection.execute("SHOW tcp_user_timeout").fetchall())
    assert limit == "60000"


def test_the_limit_applies_again_after_a_copy_and_after_a_function(parameters):
    target = Target("public", "orders", ("id", "amount"))
    inside = []

    def rows():
        inside.append(user_timeout(connection))
        yield 0, 0

    with open_connection(parameters, application_name="x") as connection:
        assert user_timeout(connection) == LIMIT
        copy_rows(connection, target.relation, target, rows())
        ProcessRange(lambda connection, _: inside.append(user_timeout(connection)) or {})(connection, WIDE, WHOLE)
        assert inside == [0, 0]
        assert user_timeout(connection) == LIMIT
