"""The connections that a task opens, and how often it reads the catalog, before its first range is processed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from airflow.sdk import Asset

from burla_provider.hooks.burla import BurlaHook
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges import catalog, planner
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.task_runner import Airflow
from tests.support.waiting import wait_for


@dataclass
class BeforeFirstRange:
    """What happened until the job was started."""

    connections: list[str] = field(default_factory=list)
    """Application names, in the order of opening."""
    open: list[str] = field(default_factory=list)
    """Application names of the sessions that the server still had."""
    catalog_reads: int = 0
    is_over: bool = False


@pytest.fixture
def before(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> BeforeFirstRange:
    seen = BeforeFirstRange()
    connect, read, run = psycopg.Connection.__init__, catalog.read_facts, BurlaHook.run

    def count_connection(self: psycopg.Connection[Any], pgconn: Any, *args: Any, **options: Any) -> None:
        connect(self, pgconn, *args, **options)
        if not seen.is_over:
            seen.connections.append(self.info.get_parameters().get("application_name", ""))

    def count_read(*args: Any) -> Any:
        seen.catalog_reads += 1
        return read(*args)

    def open_sessions() -> list[str]:
        query = """
            SELECT application_name FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
        """
        return [name for (name,) in orders.connection.execute(query)]

    def start(self: BurlaHook, *args: Any, **options: Any) -> Any:
        if not seen.is_over:
            # A closed connection is listed until its process has ended.
            wait_for(lambda: len(open_sessions()) <= 1)
            seen.open = open_sessions()
        seen.is_over = True
        return run(self, *args, **options)

    monkeypatch.setattr(psycopg.Connection, "__init__", count_connection)
    monkeypatch.setattr(catalog, "read_facts", count_read)
    monkeypatch.setattr(planner, "read_facts", count_read)
    monkeypatch.setattr(BurlaHook, "run", start)
    return seen


def write(connection: Any, key_range: Any) -> dict[str, Any]:
    return {"ranges": 1}


READS = {"totals": {"total": "sum(amount)"}}
WRITES = {"process_range": write, "ledger": "public.burla_ledger"}
INCREMENTAL = {"incremental": True, "outlets": [Asset("orders")]}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(READS, id="snapshot"),
        pytest.param(READS | {"verify": "count", "trial_ranges": 1, "refine": True}, id="snapshot, verified"),
        pytest.param(READS | {"split": "pages", "key": None}, id="snapshot, pages"),
        pytest.param(READS | {"consistency": "none"}, id="no snapshot"),
        pytest.param(WRITES, id="ledger"),
        pytest.param(READS | INCREMENTAL, id="incremental", marks=needs_state_stores),
        pytest.param(WRITES | INCREMENTAL, id="incremental, ledger", marks=needs_state_stores),
    ],
)
@pytest.mark.parametrize("results_table", [None, "public.results"])
def test_two_connections_and_one_read_of_the_catalog_come_before_the_first_range(
    airflow: Airflow, before: BeforeFirstRange, options: dict[str, Any], results_table: str | None
) -> None:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "key": "id", "ranges": 4}
    result = airflow.run(BurlaPostgresOperator(**{**defaults, **options}, results_table=results_table))
    assert result.state == "success", result.log
    assert before.is_over
    assert len(before.connections) == 2, before.connections
    assert before.catalog_reads == 1


def test_a_session_says_that_it_holds_the_snapshot_and_no_other_is_open(
    airflow: Airflow, before: BeforeFirstRange
) -> None:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 4}
    result = airflow.run(BurlaPostgresOperator(**defaults, **READS))
    assert result.state == "success", result.log
    assert before.connections[1].startswith("test_dag.t.")
    assert before.open == [before.connections[1]]
    assert before.open[0].endswith(" snapshot")


def test_a_hook_s_connection_that_the_server_has_ended_is_replaced(
    airflow: Airflow, orders: Orders, before: BeforeFirstRange, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burla_provider.database import snapshot

    wait = snapshot._wait_for_lock

    def end_others(connection: psycopg.Connection[Any], *args: Any) -> None:
        # As idle_session_timeout does while the session waits for the table's lock.
        query = """
            SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)
                AND backend_type = 'client backend'
        """
        orders.connection.execute(query, [connection.info.backend_pid])
        wait(connection, *args)

    monkeypatch.setattr(snapshot, "_wait_for_lock", end_others)
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 4}
    result = airflow.run(BurlaPostgresOperator(**defaults, **READS))
    assert result.state == "success", result.log
    assert len(before.connections) == 3


def test_a_plan_only_creates_no_results_table(airflow: Airflow, orders: Orders) -> None:
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "results_table": "public.results"}
    result = airflow.run(BurlaPostgresOperator(**defaults, **READS, plan_only=True))
    assert result.state == "success", result.log
    assert orders.connection.execute("SELECT to_regclass('public.results')").fetchone() == (None,)
