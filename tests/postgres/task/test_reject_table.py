"""The table of rejected rows, as other users of the database see it."""

from __future__ import annotations

from typing import Any

import psycopg

from burla_provider.task.reject_table import open_reject_table, remove_rejects


def test_its_rows_can_be_deleted_in_a_database_that_publishes_all_tables(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    rejects = open_reject_table(connection, "rejects", "dag/task/-1/run", 1, ("id",), {}, may_restart=True)
    remove_rejects(connection, rejects, rejects.run_key)
