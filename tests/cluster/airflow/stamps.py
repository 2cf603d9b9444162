"""Work that stamps the database ten times a second, so that a test sees when the last of it was done."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from burla_provider.operators.map import BurlaMapOperator
from tests.cluster.jobs.conftest import Cluster
from tests.support.waiting import wait_for


class Stamps:
    """The table of stamps, and tasks that write into it for five minutes."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
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

    def assert_all_ended(self, cluster: Cluster) -> None:
        """The node is free within ten seconds, and nothing is worked any more."""
        wait_for(cluster.is_free, 10)
        before = self.count()
        time.sleep(1)  # ten stamps' time: that nothing happens has no event
        assert self.count() == before
