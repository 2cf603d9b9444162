"""Calls that insert a row ten times per second, so that a test sees when the last call has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg

from burla_provider.operators.map import BurlaMapOperator
from tests.cluster.jobs.conftest import Cluster
from tests.support.marks import conninfo_of
from tests.support.waiting import wait_for


def stamping(conninfo: str) -> Callable[[int], None]:
    """Return a function of one input that inserts rows for five minutes."""

    def stamp(_: int) -> None:
        import time

        import psycopg

        with psycopg.connect(conninfo, autocommit=True) as connection:
            for _ in range(3000):
                connection.execute("INSERT INTO stamps DEFAULT VALUES")
                time.sleep(0.1)

    return stamp


class Stamps:
    """The table of stamps, and the task that inserts them."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.connection.execute("CREATE TABLE stamps (at timestamptz DEFAULT clock_timestamp())")
        self.conninfo = conninfo_of(connection)

    def task(self, **options: Any) -> BurlaMapOperator:
        return BurlaMapOperator(
            task_id="t",
            python_callable=stamping(self.conninfo),
            inputs=[1, 2],
            requirements=["psycopg[binary]"],
            **options,
        )

    def count(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM stamps").fetchone()
        return row[0] if row else 0

    def assert_all_ended(self, cluster: Cluster) -> None:
        """Check that the job is canceled, that its node becomes free, and that no call runs."""
        wait_for(cluster.is_free, 60)
        before = self.count()
        if before:  # the job has begun
            last_job, *_ = cluster.get("/v1/management/jobs")["items"]
            assert last_job["status"] == "canceled"
        time.sleep(1)  # a running call would insert ten rows
        assert self.count() == before
