"""However a task ends, its calls on the cluster end, and the node is free."""

from __future__ import annotations

import datetime
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.airflow.conftest import Orders
from tests.cluster.airflow.slow_orders import RANGES, SlowOrders
from tests.cluster.airflow.stamps import Stamps
from tests.cluster.jobs.conftest import Cluster
from tests.support.airflow_server import AirflowServer, running_airflow
from tests.support.postgres import PostgresServer
from tests.support.task_runner import Airflow, run_and_kill
from tests.support.waiting import wait_for

DAG = "cluster_endings"


@pytest.fixture
def stamps(orders: Orders) -> Stamps:
    return Stamps(orders.connection)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_killed_task_leaves_no_call_running_and_frees_the_node(
    on_burla: Airflow, cluster: Cluster, stamps: Stamps, number: int
) -> None:
    status = run_and_kill(on_burla, stamps.task(), number, when=lambda: stamps.count() > 5)
    stamps.assert_all_ended(cluster)
    if number == signal.SIGTERM:
        assert on_burla.states == ["up_for_retry"]
    else:
        assert status == -signal.SIGKILL


def test_execution_timeout_leaves_no_call_running(on_burla: Airflow, cluster: Cluster, stamps: Stamps) -> None:
    result = on_burla.run(stamps.task(execution_timeout=datetime.timedelta(seconds=8)), max_tries=1)
    assert type(result.error).__name__ == "AirflowTaskTimeout"
    assert result.state == "up_for_retry"
    stamps.assert_all_ended(cluster)


def test_a_retry_after_sigkill_processes_only_missing_ranges(
    on_burla: Airflow, orders: Orders, cluster: Cluster
) -> None:
    slow = SlowOrders(orders)
    run_and_kill(
        on_burla, slow.task(), signal.SIGKILL, when=lambda: "burla_checkpoint_outcomes_00000" in on_burla.state_store
    )
    wait_for(cluster.is_free, 60)
    before = slow.marks.count()
    result = on_burla.run(slow.task(), try_number=2, max_tries=1)
    assert result.value == slow.totals()
    kept = result.xcoms["burla_report"]["resumed"]
    assert kept > 0, result.log
    assert slow.marks.count() - before == RANGES - kept


def test_a_retry_without_missing_ranges_keeps_the_link_to_the_job(
    on_burla: Airflow, orders: Orders, tmp_path: Path
) -> None:
    slow = SlowOrders(orders)
    broken = tmp_path / "broken"
    broken.touch()
    path = str(broken)

    def combine(values: Any) -> dict[str, Any]:
        import os
        from decimal import Decimal

        if os.path.exists(path):
            raise RuntimeError("not yet")
        return {"total": sum((value["total"] for value in values), Decimal(0))}

    first = on_burla.run(slow.task(combine=combine, ranges=4), max_tries=1)
    assert "not yet" in str(first.error)
    broken.unlink()
    second = on_burla.run(slow.task(combine=combine, ranges=4), try_number=2, max_tries=1)
    assert second.value == slow.totals()
    assert slow.marks.count() == 4
    assert second.xcoms["burla_job_url"] == first.xcoms["burla_job_url"]
    assert "/jobs/test_dag-t-" in first.xcoms["burla_job_url"]


@pytest.fixture(scope="module")
def standing_stamps(postgres_server: PostgresServer) -> Iterator[Stamps]:
    with (
        postgres_server.database() as conninfo,
        psycopg.connect(conninfo, autocommit=True) as connection,
    ):
        yield Stamps(connection)


@pytest.fixture(scope="module")
def standalone(
    standing_stamps: Stamps, running_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowServer]:
    """Start a complete Airflow, with a DAG whose task runs on the cluster for minutes."""
    engine = running_cluster.engine
    connections = {
        "burla_default": {
            "conn_type": "burla",
            "host": engine.url,
            "login": engine.email,
            "password": engine.token,
        }
    }
    environment = {"BURLA_TEST_STAMPS": standing_stamps.conninfo}
    dags = Path(__file__).parent / "dags"
    with running_airflow(tmp_path_factory.mktemp("airflow"), dags, connections, environment) as server:
        yield server


def start(standalone: AirflowServer, stamps: Stamps) -> str:
    """Start a run, and return the path of its task when it inserts rows."""
    before = stamps.count()
    begun = standalone.start_run(DAG)
    standalone.wait_for("stamps", lambda: stamps.count() > before + 5, 300)
    return f"/dags/{DAG}/dagRuns/{quote(begun['dag_run_id'])}/taskInstances/stamp"


@pytest.mark.parametrize("state", ["failed", "success"])
def test_a_task_that_is_marked_ends_its_job(
    standalone: AirflowServer, standing_stamps: Stamps, cluster: Cluster, state: str
) -> None:
    path = start(standalone, standing_stamps)
    standalone.call("PATCH", path, {"new_state": state})
    # Airflow tells the task at its next heartbeat, within 5 s, and then waits 5 s.
    standing_stamps.assert_all_ended(cluster)
    assert standalone.call("GET", path)["state"] == state


def test_a_running_task_that_is_cleared_ends_its_job_and_starts_again(
    standalone: AirflowServer, standing_stamps: Stamps, cluster: Cluster
) -> None:
    path = start(standalone, standing_stamps)
    run_id = standalone.call("GET", path)["dag_run_id"]
    first = link(standalone, path)
    what = {"dag_run_id": run_id, "task_ids": ["stamp"], "only_failed": False, "dry_run": False}
    standalone.call("POST", f"/dags/{DAG}/clearTaskInstances", what)
    second = standalone.wait_for("another job", lambda: link(standalone, path) not in ("", first), 120)
    assert second
    assert cluster.job(first.rpartition("/")[2])["status"] == "canceled"
    before = standing_stamps.count()
    standalone.wait_for("stamps of the new job", lambda: standing_stamps.count() > before + 5, 120)
    standalone.call("PATCH", path, {"new_state": "failed"})
    standing_stamps.assert_all_ended(cluster)


def link(standalone: AirflowServer, path: str) -> str:
    """Return the URL of the task's button; "" if there is none yet."""
    found = standalone.find(f"{path}/links")
    return (found or {}).get("extra_links", {}).get("Burla job") or ""
