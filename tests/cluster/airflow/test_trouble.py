"""Tasks on a cluster that is busy, broken or unreachable, and functions that fail.

The test of the killed node takes minutes: Burla waits three minutes for a node that does not answer.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.demo.cluster import find_state_directory
from burla_provider.operators.map import BurlaMapOperator
from tests.airflow.conftest import Orders
from tests.cluster.airflow.slow_orders import RANGES, SlowOrders, meanwhile
from tests.cluster.jobs.conftest import Cluster
from tests.support.task_runner import Airflow
from tests.support.waiting import wait_for
from tests.unit.jobs.running import client_of

HEAD = find_state_directory() / "head.pid"
BREAK_AFTER = 30
"""Number of started ranges (of 40) after which the job is broken. Starting again would make 70 marks."""
MAX_MARKS = RANGES + 24
"""Until the lost job is canceled, two workers start two ranges per second each, and these run again."""


@pytest.fixture
def slow(orders: Orders) -> SlowOrders:
    return SlowOrders(orders)


@pytest.fixture
def breakable(cluster: Cluster) -> Iterator[Cluster]:
    """Return the cluster, and restart it after the test."""
    yield cluster
    cluster.restart()
    cluster.wait_until_free(180)


class BackgroundTask:
    """A task that runs in another process while the test continues."""

    def __init__(self, airflow: Airflow, operator: Any) -> None:
        self._receiver, sender = multiprocessing.Pipe(duplex=False)

        def run() -> None:
            result = airflow.run(operator)
            sender.send((result.state, result.value, result.xcoms.get("burla_job_url")))

        self.process = multiprocessing.get_context("fork").Process(target=run)
        self.process.start()

    def result(self) -> tuple[str, Any, str]:
        assert self._receiver.poll(180)
        answer: tuple[str, Any, str] = self._receiver.recv()
        self.process.join()
        return answer


def test_after_a_killed_client_only_missing_ranges_run_again(on_burla: Airflow, slow: SlowOrders) -> None:
    with meanwhile(lambda: slow.marks.count() >= BREAK_AFTER, lambda: client_of().kill()) as breaking:
        result = on_burla.run(slow.task())
    breaking.result()
    assert result.value == slow.totals(), result.log
    [missing] = re.findall(r"running (\d+) missing items again", result.log)
    assert int(missing) < RANGES
    # The lost job may go on until it is canceled, but each range is started once by each of the two jobs.
    assert slow.marks.count() <= RANGES + int(missing)


@pytest.mark.skipif(not shutil.which("docker"), reason="Nodes can only be killed where they are containers.")
def test_after_a_killed_node_only_missing_ranges_run_again(
    on_burla: Airflow, slow: SlowOrders, breakable: Cluster
) -> None:
    (node,) = breakable.get("/v1/cluster/state")["ready_nodes"]
    container = node["host"].removeprefix("http://").partition(":")[0]

    def kill() -> None:
        subprocess.run(["docker", "kill", container], check=True, capture_output=True)

    with meanwhile(lambda: slow.marks.count() >= BREAK_AFTER, kill) as breaking:
        result = on_burla.run(slow.task(grow=True))
    assert result.value == slow.totals(), result.log
    assert slow.marks.count() <= MAX_MARKS
    breaking.result()


@pytest.mark.skipif(not HEAD.exists(), reason="The head can only be stopped where it is a process of this machine.")
def test_a_head_that_does_not_answer_for_a_minute_does_not_lose_the_job(on_burla: Airflow, slow: SlowOrders) -> None:
    head = int(HEAD.read_text())

    def silence() -> None:
        os.kill(head, signal.SIGSTOP)
        try:
            time.sleep(60)
        finally:
            os.kill(head, signal.SIGCONT)

    with meanwhile(lambda: slow.marks.count() > 8, silence) as breaking:
        result = on_burla.run(slow.task())
    assert result.value == slow.totals(), result.log
    assert slow.marks.count() == RANGES
    breaking.result()


def test_two_users_at_once_do_not_disturb_each_other(on_burla: Airflow, cluster: Cluster) -> None:
    def sleep_and_return(number: int) -> int:
        import time

        time.sleep(2)
        return number

    tasks = []
    for user in ("one@example.com", "two@example.com"):
        on_burla.add_connection(user, "burla", host=cluster.engine.url, login=user, password=cluster.engine.token)
        task = BurlaMapOperator(task_id="t", python_callable=sleep_and_return, inputs=[1, 2], burla_conn_id=user)
        tasks.append(BackgroundTask(on_burla, task))
    results = [task.result() for task in tasks]
    assert [(state, value) for state, value, _ in results] == [("success", [1, 2])] * 2
    users = [cluster.job(url.rpartition("/")[2])["user"] for _, _, url in results]
    assert users == ["one@example.com", "two@example.com"]


def test_a_cluster_that_stays_busy_fails_the_task_for_a_retry(
    on_burla: Airflow, slow: SlowOrders, cluster: Cluster
) -> None:
    conninfo = slow.marks.conninfo

    def hold(number: int) -> int:
        import time

        import psycopg

        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("INSERT INTO marks VALUES (%s)", [number])
            while connection.execute("SELECT FROM marks WHERE first_id = 0").fetchone() is None:
                time.sleep(0.2)
        return number

    requirements = ["psycopg[binary]"]
    first = BackgroundTask(
        on_burla, BurlaMapOperator(task_id="t", python_callable=hold, inputs=[1], requirements=requirements)
    )
    wait_for(lambda: slow.marks.count() > 0, 180)
    second = on_burla.run(BurlaMapOperator(task_id="u", python_callable=abs, inputs=[-1], queue_timeout=1), max_tries=1)
    assert second.state == "up_for_retry"
    assert "All nodes are busy" in str(second.error)
    assert "queue_timeout" in str(second.error)
    slow.marks.connection.execute("INSERT INTO marks VALUES (0)")
    assert first.result()[:2] == ("success", [1])


def test_a_wrong_token_fails_the_task_and_the_error_names_the_fields(
    on_burla: Airflow, slow: SlowOrders, cluster: Cluster
) -> None:
    on_burla.add_connection(
        "burla_default", "burla", host=cluster.engine.url, login="kit@example.com", password="wr0ng-token"
    )
    result = on_burla.run(slow.task(queue_timeout=20), max_tries=1)
    assert result.state == "failed"
    assert f"{cluster.engine.url} refused the login. Check login (e-mail) and password" in str(result.error)
    assert "burla login" not in str(result.error)
    assert "wr0ng-token" not in result.log + str(result.error)
    assert slow.marks.count() == 0


def test_a_cluster_that_does_not_answer_fails_the_task_for_a_retry(on_burla: Airflow, slow: SlowOrders) -> None:
    on_burla.add_connection(
        "burla_default", "burla", host="http://localhost:9", login="kit@example.com", password="t0ken"
    )
    result = on_burla.run(slow.task(), max_tries=1)
    assert result.state == "up_for_retry"
    assert "No response from http://localhost:9" in str(result.error)


def test_the_other_ranges_finish_if_a_range_kills_its_worker(on_burla: Airflow, slow: SlowOrders) -> None:
    def crash(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        import os

        if key_range.index == 5:
            os._exit(1)
        return {"ranges": 1}

    task = slow.task(process_rows=None, columns=None, process_range=crash, ranges=12, tolerated_failures=1)
    result = on_burla.run(task)
    assert result.state == "success", result.log
    assert (result.value["ranges"], result.value["failed_ranges"], result.value["complete"]) == (11, 1, False)
    assert "The worker died" in result.log
    [group] = result.xcoms["burla_report"]["failures"]["groups"]
    node = r"burla-node-\w+"
    end = "Worker process ended unexpectedly while the container was still healthy"
    assert re.fullmatch(rf"Its worker died 3 times\. Node {node}: {end}\.", group["message"])
    assert "it ran out of memory, code in C crashed, or the function ended the process" in group["advice"]
    assert (group["attempts"], len(group["workers"])) == (3, 1)


def test_workers_that_die_on_every_range_are_not_blamed_on_the_ranges(on_burla: Airflow, slow: SlowOrders) -> None:
    def crash(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        import os

        os._exit(137)

    result = on_burla.run(slow.task(process_rows=None, columns=None, process_range=crash, ranges=12, job_retries=0))
    detail = result.xcoms["burla_report"]["status"]["detail"]
    assert "Worker processes died 6 times, on different items, and 7 of 12 items are still missing" in detail
    assert "give each worker more (func_ram)" in detail


def test_exceptions_of_every_kind_are_reported_with_their_range(on_burla: Airflow, slow: SlowOrders) -> None:
    class CustomError(Exception):
        pass

    class Unpicklable(Exception):
        def __init__(self, needed: Any) -> None:
            import threading

            super().__init__("cannot travel")
            self.lock = threading.Lock()

    def fail(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        import sys

        if key_range.index == 1:
            raise CustomError("too late")
        if key_range.index == 2:
            raise Unpicklable(1)
        if key_range.index == 3:
            sys.exit(3)
        if key_range.index == 4:
            raise KeyboardInterrupt
        return {}

    result = on_burla.run(slow.task(process_rows=None, columns=None, process_range=fail, ranges=8))
    assert result.state == "failed"
    assert "4 of 8 ranges failed, with 4 kinds of errors" in str(result.error)
    for message in ("CustomError: too late", "cannot travel", "SystemExit: 3", "KeyboardInterrupt"):
        assert message in result.log, message


def test_twenty_ranges_that_fail_at_once_are_all_reported(on_burla: Airflow, slow: SlowOrders) -> None:
    def fail(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        raise ValueError(f"number {key_range.index}.")

    result = on_burla.run(slow.task(process_rows=None, columns=None, process_range=fail, ranges=20))
    assert "20 of 20 ranges failed (tolerated: 0)" in str(result.error)
    assert [number for number in range(20) if f" range {number} (" not in result.log] == []
