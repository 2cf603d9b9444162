"""Classes on a real cluster: made once per worker process, also if it is killed, and dropped after the job."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.support.marks import conninfo_of
from tests.support.task_runner import Airflow
from tests.support.waiting import wait_for


class Model:
    """Inserts a row for every event, with its process."""

    def __init__(self, conninfo: str, failures: int = 0) -> None:
        self.conninfo = conninfo
        if self.note("loaded") <= failures:
            raise OSError("the model is not there")

    def note(self, event: str) -> int:
        """Return how often the event has happened so far."""
        import socket

        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            worker = f"{socket.gethostname()}:{os.getpid()}"
            insert = "INSERT INTO events (event, worker) VALUES (%s, %s) RETURNING id"
            [(number,)] = connection.execute(insert, (event, worker)).fetchall()
            query = "SELECT count(*) FROM events WHERE event = %s AND id <= %s"
            [(count,)] = connection.execute(query, (event, number)).fetchall()
            return int(count)

    def close(self) -> None:
        self.note("closed")


class Total(Model):
    kills = False

    def __call__(self, rows: Iterator[Any], key_range: Any) -> dict[str, Any]:
        if self.note("called") >= 3 and self.kills and self.note("killed") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.2)
        # Not with assert: a worker does not have pytest, which rewrites it.
        return {"total": sum(amount for _, amount in rows), "keys": bool(key_range.idempotency_key) + 0}


class KilledOnce(Total):
    kills = True


@pytest.fixture
def events(orders: Orders) -> psycopg.Connection[Any]:
    orders.connection.execute("CREATE TABLE events (id bigserial, event text, worker text)")
    return orders.connection


def counted(connection: psycopg.Connection[Any], event: str) -> Counter[str]:
    return Counter(worker for (worker,) in connection.execute("SELECT worker FROM events WHERE event = %s", (event,)))


def totals(events: psycopg.Connection[Any], function: Any, failures: int = 0, **options: Any) -> BurlaPostgresOperator:
    arguments = {"conninfo": conninfo_of(events), "failures": failures}
    usual = {"table": "orders", "postgres_conn_id": "orders_db", "columns": ["id", "amount"], "ranges": 12}
    return BurlaPostgresOperator(task_id="t", process_rows=function, op_kwargs=arguments, **usual | options)


def count_models(_: int) -> int:
    """Return how many models are in the memory of this worker process."""
    import gc
    import time

    gc.collect()
    time.sleep(0.5)  # so that each worker gets an input
    return sum(1 for one in gc.get_objects() if type(one).__name__ in ("Total", "UserFunction"))


def test_a_class_is_made_once_per_worker_process_and_dropped_after_the_job(
    on_burla: Airflow, orders: Orders, events: psycopg.Connection[Any]
) -> None:
    result = on_burla.run(totals(events, Total))
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)")), "keys": 12}
    loaded = counted(events, "loaded")
    assert loaded.keys() == counted(events, "called").keys()
    assert set(loaded.values()) == {1}
    wait_for(lambda: counted(events, "closed") == loaded, 60)
    result = on_burla.run(BurlaMapOperator(task_id="u", python_callable=count_models, inputs=range(4)))
    # The models of a map are its UserFunction only.
    assert result.value == [1, 1, 1, 1], result.log


def test_a_worker_that_replaces_a_killed_one_makes_it_again(
    on_burla: Airflow, orders: Orders, events: psycopg.Connection[Any]
) -> None:
    # With two workers, the other one may process all that is left.
    result = on_burla.run(totals(events, KilledOnce, max_parallelism=1))
    assert result.state == "success", result.log
    assert result.value["total"] == str(orders.ask("sum(amount)"))
    assert counted(events, "killed").total() >= 1
    after = "(SELECT min(id) FROM events WHERE event = 'killed')"
    query = f"SELECT count(*) FROM events WHERE event = 'loaded' AND id > {after}"
    [(loaded_again,)] = events.execute(query).fetchall()
    assert loaded_again >= 1
    assert counted(events, "called").total() >= 13


def test_a_constructor_that_always_fails_fails_the_job_once(
    on_burla: Airflow, events: psycopg.Connection[Any], cluster: Any
) -> None:
    result = on_burla.run(totals(events, Total, failures=1000), max_tries=1)
    assert result.state == "up_for_retry"
    assert str(result.error).startswith(
        "A worker could not load what the function needs. OSError: the model is not there\nTraceback"
    )
    assert not re.search(r"range \d+ \([^\n]*\)[^\n]*: OSError", result.log)  # no range has failed
    assert counted(events, "called").total() == 0
    # Three times per worker, and not for each of the 12 ranges.
    assert set(counted(events, "loaded").values()) <= {1, 2, 3}
    assert max(counted(events, "loaded").values()) == 3
    assert len(result.xcoms["burla_report"]["jobs"]) == 1
    cluster.wait_until_free()


def test_a_constructor_that_fails_once_does_not_fail_the_job(
    on_burla: Airflow, orders: Orders, events: psycopg.Connection[Any]
) -> None:
    result = on_burla.run(totals(events, Total, failures=1))
    assert result.state == "success", result.log
    assert result.value["total"] == str(orders.ask("sum(amount)"))
    assert "trying again in 1 s: OSError: the model is not there" in result.log
