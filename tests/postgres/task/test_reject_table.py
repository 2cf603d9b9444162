"""The table of rejected rows, as other users of the database see it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from burla_provider.task.reject_table import open_reject_table, remove_rejects
from tests.support.waiting import wait_for


def test_its_rows_can_be_deleted_in_a_database_that_publishes_all_tables(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    rejects = open_reject_table(connection, "rejects", "dag/task/-1/run", 1, ("id",), {}, may_restart=True)
    remove_rejects(connection, rejects, rejects.run_key)


def test_first_runs_at_the_same_time_do_not_disturb_each_other(
    connection: psycopg.Connection[Any], database: str
) -> None:
    def open_table() -> None:
        with psycopg.connect(database, autocommit=True, application_name="test") as own:
            open_reject_table(own, "rejects", "dag/task/-1/run", 1, ("id",), {})

    waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(3) as pool:
        with psycopg.connect(database) as other:
            other.execute("LOCK TABLE pg_class IN SHARE MODE")  # all have looked for the table, and none can make it
            runs = [pool.submit(open_table) for _ in range(3)]
            wait_for(lambda: connection.execute(waiting).fetchone() == (3,))
        for run in runs:
            run.result()
    assert connection.execute("SELECT count(*) FROM pg_indexes WHERE tablename = 'rejects'").fetchone() == (1,)
