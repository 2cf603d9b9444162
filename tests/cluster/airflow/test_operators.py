"""The operators on the real cluster, through Airflow's real task runner."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from burla_provider.operators.map import BurlaMapOperator
from burla_provider.operators.postgres import BurlaPostgresOperator
from tests.airflow.conftest import Orders
from tests.cluster.jobs.conftest import Cluster, wait_for
from tests.support.task_runner import Airflow, run_and_kill

pytestmark = pytest.mark.cluster


def operator(**options: Any) -> BurlaPostgresOperator:
    work = {} if {"process_rows", "process_range"} & options.keys() else {"totals": {"total": "sum(amount)"}}
    defaults = {"task_id": "t", "table": "orders", "postgres_conn_id": "orders_db", "ranges": 12}
    return BurlaPostgresOperator(**{**defaults, **work, **options})


def add_up(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
    return {"total": sum((amount for _, amount in rows), Decimal(0))}


def count_in_range(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), coalesce(sum(amount), 0) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, (key_range.start_id, key_range.end_id)).fetchone()  # type: ignore[misc]
    return {"row_count": count, "total": total}


@pytest.mark.parametrize(
    "work",
    [{}, {"process_rows": add_up, "columns": ["id", "amount"]}, {"process_range": count_in_range}],
    ids=["totals", "process_rows", "process_range"],
)
def test_every_kind_of_work_gives_sqls_own_total(on_burla: Airflow, orders: Orders, work: dict[str, Any]) -> None:
    result = on_burla.run(operator(**work))
    assert result.state == "success", result.log
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}


def test_the_dashboard_knows_the_job_by_dag_and_task_and_the_link_leads_there(
    on_burla: Airflow, orders: Orders, cluster: Cluster
) -> None:
    result = on_burla.run(operator())
    job_id = result.log.split("Job ", 1)[1].split(":", 1)[0]
    assert job_id.startswith("test_dag-t-scheduled__2026-11-20-try1-")
    assert cluster.job(job_id)
    assert result.xcoms["burla_job_url"] == f"{cluster.engine.url}/jobs/{quote(job_id)}"


def test_an_exception_of_the_users_own_class_is_told_and_kills_no_worker(on_burla: Airflow, orders: Orders) -> None:
    class Strange(Exception):
        pass

    def fail_late(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        if any(id > 100_000 for id, _ in rows):
            raise Strange("too late")
        return {}

    result = on_burla.run(operator(process_rows=fail_late, columns=["id", "amount"]))
    assert "Strange: too late" in str(result.error)


def test_no_secret_reaches_the_dashboard(on_burla: Airflow, orders: Orders, cluster: Cluster) -> None:
    result = on_burla.run(operator(process_rows=add_up, columns=["id", "amount"]))
    job_id = result.log.split("Job ", 1)[1].split(":", 1)[0]
    password = orders.connection.info.password
    shown = [cluster.get(f"/v1/management/jobs/{quote(job_id)}{part}") for part in ("", "/errors", "/calls")]
    assert password not in repr(shown) + result.log


class Stamps:
    """Work that stamps the database ten times a second, so that a test sees when the last of it was done."""

    def __init__(self, orders: Orders) -> None:
        self.connection = orders.connection
        self.connection.execute("CREATE TABLE stamps (at timestamptz DEFAULT clock_timestamp())")
        self.conninfo = f"{self.connection.info.dsn} password={self.connection.info.password}"

    def function(self) -> Any:
        conninfo = self.conninfo

        def stamp(_: int) -> None:
            import time

            import psycopg

            with psycopg.connect(conninfo, autocommit=True) as connection:
                for _ in range(3000):
                    connection.execute("INSERT INTO stamps DEFAULT VALUES")
                    time.sleep(0.1)

        return stamp

    def task(self, **options: Any) -> BurlaMapOperator:
        return BurlaMapOperator(
            task_id="t", python_callable=self.function(), inputs=[1, 2], requirements=["psycopg[binary]"], **options
        )

    def count(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM stamps").fetchone()
        return row[0] if row else 0


@pytest.fixture
def stamps(orders: Orders) -> Stamps:
    return Stamps(orders)


def assert_all_ended(cluster: Cluster, stamps: Stamps) -> None:
    """The node is free within ten seconds, and nothing is worked any more."""
    wait_for(cluster.is_free, 10)
    before = stamps.count()
    time.sleep(1)  # ten stamps' time: that nothing happens has no event
    assert stamps.count() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_killed_task_leaves_no_work_running_and_the_node_free(
    on_burla: Airflow, cluster: Cluster, stamps: Stamps, number: int
) -> None:
    status = run_and_kill(on_burla, stamps.task(), number, when=lambda: stamps.count() > 5)
    assert_all_ended(cluster, stamps)
    if number == signal.SIGTERM:
        assert on_burla.states == ["up_for_retry"]
    else:
        assert status == -signal.SIGKILL


def test_execution_timeout_leaves_no_work_running(on_burla: Airflow, cluster: Cluster, stamps: Stamps) -> None:
    result = on_burla.run(stamps.task(execution_timeout=datetime.timedelta(seconds=8)), max_tries=1)
    assert type(result.error).__name__ == "AirflowTaskTimeout"
    assert result.state == "up_for_retry"
    assert_all_ended(cluster, stamps)


def test_a_retry_after_sigkill_works_only_what_is_missing(
    on_burla: Airflow, orders: Orders, cluster: Cluster, stamps: Stamps
) -> None:
    orders.connection.execute("CREATE TABLE marks (first_id bigint)")
    conninfo = stamps.conninfo

    def slow(rows: Iterable[tuple[int, Decimal]]) -> dict[str, Any]:
        import time

        import psycopg

        taken = list(rows)
        with psycopg.connect(conninfo) as connection:
            connection.execute("INSERT INTO marks VALUES (%s)", [taken[0][0]])
        time.sleep(0.5)
        return {"total": sum(amount for _, amount in taken)}

    def marked() -> dict[int, int]:
        return dict(orders.connection.execute("SELECT first_id, count(*) FROM marks GROUP BY 1").fetchall())

    def task() -> BurlaPostgresOperator:
        return operator(process_rows=slow, columns=["id", "amount"], ranges=40)

    # What the fixture has written is counted before the first try looks, not only when its session says so.
    orders.connection.execute("SELECT pg_stat_force_next_flush()")
    run_and_kill(
        on_burla, task(), signal.SIGKILL, when=lambda: "burla_checkpoint_outcomes_00000" in on_burla.state_store
    )
    wait_for(cluster.is_free, 60)
    before = marked()
    result = on_burla.run(task(), try_number=2, max_tries=1)
    assert result.value == {"row_count": 20000, "total": str(orders.ask("sum(amount)"))}
    kept = result.xcoms["burla_report"]["resumed"]
    assert kept > 0, result.log
    assert sum(marked().values()) - sum(before.values()) == 40 - kept


def test_a_dag_file_may_import_its_helpers_inside_functions(on_burla: Airflow, tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "price_helpers.py").write_text("RATE = 3\n\ndef triple(number):\n    return number * RATE\n")
    (tmp_path / "price_dag.py").write_text(
        "def work(number):\n    from price_helpers import triple\n    return triple(number)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import price_dag

    result = on_burla.run(BurlaMapOperator(task_id="t", python_callable=price_dag.work, inputs=[1, 2, 3]))
    assert result.value == [3, 6, 9], result.log


def test_a_wrong_token_fails_the_task_and_says_where_to_look(
    on_burla: Airflow, orders: Orders, cluster: Cluster
) -> None:
    on_burla.add_connection(
        "burla_default", "burla", host=cluster.engine.url, login="kit@example.com", password="wr0ng-token"
    )
    result = on_burla.run(operator(queue_timeout=20))
    assert result.state == "failed"
    assert "login and password" in str(result.error)
    assert "wr0ng-token" not in result.log + str(result.error)
