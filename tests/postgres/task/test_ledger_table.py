"""A year of runs in a ledger, and in a table of rejected rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from burla_provider.database.quoting import Identifier
from burla_provider.task.ledger_table import count_finished, of_all_tries, prepare_ledger, remove_run
from burla_provider.task.reject_table import open_reject_table, remove_rejects
from burla_provider.worker.ledger import Ledger
from tests.support.postgres import PostgresServer

LEDGER = Ledger("public", "ledger", "dag/task-5/-1/run")


@pytest.fixture(params=["C", "C.UTF-8"])
def year(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A session in a database of a locale. In most locales, the index of a text finds no prefixes."""
    with (
        postgres_server.database(locale=request.param) as conninfo,
        psycopg.connect(conninfo, autocommit=True) as connection,
    ):
        prepare_ledger(connection, LEDGER)
        open_reject_table(connection, "rejects", LEDGER.run_key, 1, ("id",), {})
        connection.execute("""
            INSERT INTO ledger (run_key, range_index, range, attempt, worker, finished_at)
            SELECT 'dag/task-' || n / 365 || '/-1/run/' || n % 365, 0, '', 1, '', now()
            FROM generate_series(0, 36499) AS n;
            INSERT INTO rejects (run_key, range_index, range, source_row, error_class, message, try_number)
            SELECT run_key, 0, '', '{}', '', '', 1 FROM ledger;
            ANALYZE;
        """)
        yield connection


def count(connection: psycopg.Connection[Any]) -> list[int]:
    query = "SELECT (SELECT count(*) FROM ledger), (SELECT count(*) FROM rejects)"
    return list(connection.execute(query).fetchone() or ())


def test_the_tries_of_a_run_are_found_by_an_index(year: psycopg.Connection[Any]) -> None:
    for table in ("ledger", "rejects"):
        condition = of_all_tries("dag/task-5/-1/run/7")
        query = sql.SQL("EXPLAIN DELETE FROM {} WHERE {}").format(Identifier(table), condition)
        plan = "\n".join(line for (line,) in year.execute(query).fetchall())
        assert "Seq Scan" not in plan, plan
        assert plan.count("Index Cond") == 2, plan


def test_only_the_runs_of_a_task_are_counted_and_only_the_tries_of_a_run_removed(year: psycopg.Connection[Any]) -> None:
    assert count_finished(year, LEDGER, "dag/task-5", "dag/task-5/-1/run/7") == 364
    rejects = open_reject_table(year, "rejects", LEDGER.run_key, 1, ("id",), {})
    remove_run(year, LEDGER, "dag/task-5/-1/run/7")
    remove_rejects(year, rejects, "dag/task-5/-1/run/7")
    assert count(year) == [36499, 36499]
    remove_run(year, LEDGER, "dag/task-5/-1")
    remove_rejects(year, rejects, "dag/task-5/-1")
    assert count(year) == [36135, 36135]
