"""range_timeout holds on a network that drops all packets."""

import os
import socket
import time

import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters, open_connection
from burla_provider.worker.connection import CachedConnection
from burla_provider.worker.outcome import decode
from burla_provider.worker.processors import ProcessRange, ProcessRows
from burla_provider.worker.range_task import RangeTask
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges
from tests.support.black_network import BlackNetwork

(WHOLE,) = ranges(1)
LIMITS = (1, 5, 25)
"""Of a range, in seconds. The network comes back after 30."""


def count(connection, key_range):
    query = sql.SQL("SELECT count(*) FROM orders WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).fetchone()[0]}


@pytest.fixture
def behind(orders, monkeypatch):
    """``behind(processor, black_on, **fields)``: a network, and a range task that connects through it.

    The last network is also ``behind.network``, for functions that need it.
    """
    monkeypatch.setattr(CachedConnection, "cancel_seconds", 0.2)
    opened = []

    def make(processor, black_on=None, **fields):
        network = BlackNetwork(orders.info.host, orders.info.port, black_on)
        parameters = {**connection_parameters(orders), "host": "127.0.0.1", "port": str(network.port)}
        # Not pickled, so that functions can reach the network.
        task = RangeTask(parameters, ORDERS, KEY, processor, **{"range_retries": 5} | fields)
        opened.append((task, network))
        make.network = network
        return task, network

    yield make
    for task, network in opened:
        task.close()
        network.close()


def run_until_black(behind, processor, black_on=None, **fields):
    """Return the outcome of a range whose time limit passes while the network is black.

    If the machine stalls, the limit may pass before the network goes black: the next one is longer.
    """
    for limit in LIMITS:
        task, network = behind(processor, black_on, range_timeout=limit, **fields)
        outcome = decode(task(0, WHOLE.to_item()))
        if network.is_black:
            break
    assert network.is_black
    return outcome


@pytest.mark.parametrize("black_on", [b"\0user\0", b"BEGIN", b"SET TRANSACTION SNAPSHOT", b"LOCK TABLE", b"count(*)"])
def test_range_timeout_holds_on_a_dead_network_in_a_snapshot(behind, held, black_on):
    outcome = run_until_black(behind, ProcessRange(count), black_on, snapshot=held.snapshot)
    assert outcome.failure.type.endswith("RangeTimeoutError")


def test_range_timeout_includes_commit(behind):
    outcome = run_until_black(behind, ProcessRange(count), b"COMMIT\0")
    assert outcome.failure.type.endswith("RangeTimeoutError")


@pytest.mark.parametrize("inside", [False, True], ids=["function", "rows"])
def test_after_an_interruption_nothing_is_sent_on_a_dead_network(behind, inside):
    def stop_between_statements(connection, key_range):
        behind.network.go_black()
        time.sleep(60)

    def stop_between_rows(rows):
        next(rows)
        stop_between_statements(None, None)

    processor = ProcessRows(stop_between_rows) if inside else ProcessRange(stop_between_statements)
    outcome = run_until_black(behind, processor)
    assert outcome.failure.type.endswith("RangeTimeoutError")


def test_an_error_of_the_function_does_not_wait_for_a_rollback(behind):
    def fail(connection, key_range):
        network.go_black()
        raise ValueError("no")

    task, network = behind(ProcessRange(fail))
    outcome = decode(task(0, WHOLE.to_item()))
    assert network.is_black
    assert outcome.failure.type == "ValueError"


@pytest.mark.parametrize("black_on", [b"BEGIN", b"count(*)", b"COMMIT\0"])
def test_a_network_that_comes_back_changes_no_result(behind, monkeypatch, black_on):
    task, network = behind(ProcessRange(count), black_on)
    go_black = network.go_black
    monkeypatch.setattr(network, "go_black", lambda: go_black(0.5))
    outcome = decode(task(0, WHOLE.to_item()))
    assert (outcome.row_count, outcome.failure) == (ROWS, None)


def test_unacknowledged_data_fails_after_a_minute(orders):
    with (
        open_connection(connection_parameters(orders), application_name="x") as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as line,
    ):
        assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
