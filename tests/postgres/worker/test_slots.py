import threading

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.connection_limit import take_slot
from burla_provider.exceptions import ConnectionLimitError
from burla_provider.worker import connection
from burla_provider.worker.processors import SqlTotals
from tests.postgres.worker.conftest import ranges
from tests.support.waiting import LIMITS

(WHOLE,) = ranges(1)


def test_a_worker_holds_its_slot_while_connected(worker, orders):
    one = worker(SqlTotals(()), slots=1)
    assert one(WHOLE).ok
    assert not take_slot(orders, 1)


def test_waiting_for_a_slot_does_not_count_for_range_timeout(worker, orders, database):
    for limit in LIMITS:
        one = worker(SqlTotals(()), slots=1, range_timeout=limit)
        with psycopg.connect(database, autocommit=True) as other:
            assert take_slot(other, 1)
            timer = threading.Timer(limit + 0.5, other.close)
            timer.start()
            outcome = one(WHOLE)
            timer.join()
        if outcome.failure is None:
            return
        one.close()
    pytest.fail(outcome.failure.text)


def test_a_worker_without_a_slot_closes_its_connection(orders, monkeypatch):
    monkeypatch.setattr(connection, "SLOT_TIMEOUT", 0)
    assert take_slot(orders, 1)
    with pytest.raises(ConnectionLimitError, match="All 1 available connections of the database"):
        connection.connect_worker(connection_parameters(orders), "x", read_only=True, slots=1)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'x'"
    while orders.execute(query).fetchone()[0]:
        pass
