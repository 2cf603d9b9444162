"""Property tests: a job of any kind on any table returns what one SQL statement returns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, event, given, note, reject, settings

from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.burla import BurlaHook
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.ranges import pages_choice
from tests.airflow.conftest import add_database
from tests.support.drawn_jobs import DrawnJob, jobs, shown, sorted_rows
from tests.support.drawn_keys import prepare
from tests.support.in_process_engine import InProcessEngine, TooManyCallsError
from tests.support.postgres import PostgresServer
from tests.support.task_runner import Airflow, TaskResult

EXAMPLES = int(os.environ.get("BURLA_TEST_EXAMPLES", "40"))
"""BURLA_TEST_EXAMPLES=2000 takes ten minutes."""
DRAWN = settings(
    deadline=None,
    report_multiple_bugs=False,
    phases=set(Phase) - {Phase.explain},
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def shared(postgres_server: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database for all examples."""
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as connection:
        prepare(connection)
        yield connection


@settings(DRAWN, max_examples=EXAMPLES)
@given(job=jobs())
def test_a_job_returns_the_totals_of_one_statement(
    shared: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, job: DrawnJob
) -> None:
    engine = InProcessEngine(**job.engine)
    monkeypatch.setattr(BurlaHook, "open_client", engine.open_client)
    monkeypatch.setattr(BurlaHook, "run", engine.run)
    compare(shared, job, tries=2 if engine.crashes else 1)


@settings(DRAWN, max_examples=EXAMPLES)
@given(job=jobs(leaves_out=True))
def test_a_job_without_a_key_returns_the_totals_of_one_statement(
    shared: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, job: DrawnJob
) -> None:
    monkeypatch.setattr(BurlaHook, "run", InProcessEngine(**job.engine).run)
    monkeypatch.setattr(pages_choice, "_MIN_PAGES_PER_RANGE", 0)  # the tables have few pages
    compare(shared, job, tries=2 if job.engine["crashes"] else 1)


@settings(DRAWN, max_examples=max(4, EXAMPLES // 20))
@given(job=jobs())
def test_the_local_engine_returns_the_totals_of_one_statement(shared: psycopg.Connection[Any], job: DrawnJob) -> None:
    compare(shared, job)


def compare(connection: psycopg.Connection[Any], job: DrawnJob, tries: int = 1) -> None:
    """Make the table, ask the one statement, run the job, and compare."""
    note(job.script())
    note(f"{job.select('...')};\n{job.parameters_of_operator()}")
    connection.execute(job.drop())
    try:
        connection.execute(job.script())
        expected = job.expected(connection)
        ids = row_ids(connection, job.select("row_id"))
        all_ids = row_ids(connection, f"SELECT row_id FROM {job.table.relation}")
        result = run(connection, job, tries)
        if result is None:
            return
        event("by pages" if job.options["split"] == "auto" and "read only once" in result.log else "by key")
        assert result.value["row_count"] == len(ids), result.log
        if job.has_results_table:
            counted = f"SELECT coalesce(sum(row_count), 0) FROM {job.results_table}"
            assert row_ids(connection, counted) == [len(ids)]
        if job.work == "totals":
            assert {name: shown(result.value[name]) for name in expected} == expected
        elif not job.is_write:
            assert sorted_rows(result.value.get("rows", [])) == expected
        elif job.work == "update":
            written = "SELECT row_id FROM {} CROSS JOIN generate_series(1, n)"
            assert row_ids(connection, written.format(job.table.relation)) == ids
        else:
            archived = connection.execute(f"SELECT * FROM {job.archive}").fetchall()
            assert sorted_rows(archived) == expected
            kept = row_ids(connection, f"SELECT row_id FROM {job.table.relation}")
            assert kept == (sorted({*all_ids} - {*ids}) if job.work == "move" else all_ids)
    finally:
        connection.execute(job.drop())


def run(connection: psycopg.Connection[Any], job: DrawnJob, tries: int) -> TaskResult | None:
    """What the task ended with; None: it refused a parameter, and may."""
    airflow = Airflow()
    airflow.add_connection("burla_default", "burla", extra={"engine": "local"})
    add_database(airflow, "db", connection.info)
    given = job.parameters_of_operator()
    try:
        operator = BurlaPostgresOperator(task_id="t", postgres_conn_id="db", range_retries=0, **given)
    except InvalidParameterError as refusal:
        return refused(job, refusal)
    for try_number in range(1, tries + 1):
        result = airflow.run(operator, try_number=try_number, max_tries=tries - 1)
        if result.state == "success":
            return result
        if isinstance(result.error, TooManyCallsError):
            reject()
        if isinstance(result.error, BaseException) and isinstance(result.error.__cause__, InvalidParameterError):
            return refused(job, result.error.__cause__)
    raise AssertionError(result.log)


def refused(job: DrawnJob, refusal: InvalidParameterError) -> None:
    if refusal.parameter not in job.refusable:
        raise AssertionError(f"refused: {refusal}")
    event(f"refused: {refusal.parameter}")


def row_ids(connection: psycopg.Connection[Any], query: str) -> list[int]:
    return sorted(row[0] for row in connection.execute(query))
