"""Data that version 0.1.0 has stored, in the database and in Airflow's state stores, and a task of this version.

All rows and values are those that 0.1.0 wrote. In the runs that had failed, 0.1.0 had processed three of four ranges.
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from airflow.sdk import Asset

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.task.ledger_table import read_outcomes
from burla_provider.worker.ledger import Ledger
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.postgres import report_writes
from tests.support.task_runner import Airflow

RUN_KEY = "test_dag/t/-1/scheduled__2026-11-20/1"

LEDGER_TABLE = """
    CREATE TABLE books (
        run_key     text        NOT NULL CHECK (run_key <> ''),
        range_index integer     NOT NULL,
        range       text        NOT NULL,
        row_count   bigint,
        result      jsonb,
        answer      bytea,
        attempt     integer     NOT NULL,
        worker      text        NOT NULL,
        started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
        finished_at timestamptz,
        unfinished  text,
        PRIMARY KEY (run_key, range_index),
        CONSTRAINT burla_range_unfinished FOREIGN KEY (unfinished, range_index)
            REFERENCES books (run_key, range_index) DEFERRABLE INITIALLY DEFERRED
    );
    CREATE INDEX books_unfinished ON books (unfinished, range_index) WHERE unfinished IS NOT NULL
"""

PLAN = (
    '["b594a33b6413d0699dd3f58f3ccff29b", {"key": [{"name": "id", "type": "bigint", "nullable": false}], "text": "table'
    '         public.counters", "items": [[null, ["11"], false, null, 10], [["11"], ["21"], false, null, 10], [["21"],'
    ' ["31"], false, null, 10], [["31"], ["41"], false, null, 10]], "table": "counters", "schema": "public", "summary":'
    ' {"key": ["id"], "last": ["31 <= id < 41"], "first": ["... <= id < 11", "11 <= id < 21", "21 <= id < 31"],'
    ' "hints": [], "lower": null, "table": "public.counters", "upper": "41", "ranges": 4, "reason": "About 40 rows'
    ' changed since the last ANALYZE, so the index was walked.", "queries": 16, "seconds": 0.0326, "strategy":'
    ' "keyset", "partitions": 0, "expected_rows": 40, "needs_snapshot": false, "rows_per_range": {"median": 10,'
    ' "largest": 10, "smallest": 10}}}]'
)

OUTCOMES = (
    (
        "(None, ('11',))",
        b"\x80\x05\x95~\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05index\x94K\x00\x8c\x05value\x94}\x94\x8c\trow_count"
        b"\x94K\nsh\x04K\n\x8c\x07seconds\x94G?\xa7\xb0\x98\x00\x00\x00\x00\x8c\x07started\x94GA\xda\xc3v\xf0\x13\xf8T"
        b"\x8c\x06worker\x94\x8c\x08vm:32678\x94\x8c\x08attempts\x94K\x01\x8c\x07failure\x94Nu.",
    ),
    (
        "(('11',), ('21',))",
        b"\x80\x05\x95~\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05index\x94K\x01\x8c\x05value\x94}\x94\x8c\trow_count"
        b"\x94K\nsh\x04K\n\x8c\x07seconds\x94G?\xa5VH\x00\x00\x00\x00\x8c\x07started\x94GA\xda\xc3v\xf0\x14 \xa1\x8c"
        b"\x06worker\x94\x8c\x08vm:32679\x94\x8c\x08attempts\x94K\x01\x8c\x07failure\x94Nu.",
    ),
    (
        "(('21',), ('31',))",
        b"\x80\x05\x95~\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x05index\x94K\x02\x8c\x05value\x94}\x94\x8c\trow_count"
        b"\x94K\nsh\x04K\n\x8c\x07seconds\x94G?|%\x00\x00\x00\x00\x00\x8c\x07started\x94GA\xda\xc3v\xf0\x17)7\x8c\x06"
        b"worker\x94\x8c\x08vm:32679\x94\x8c\x08attempts\x94K\x01\x8c\x07failure\x94Nu.",
    ),
)

RESULTS_TABLE = """
    CREATE TABLE results (
        run text, range_id integer, lower text, upper text, row_count bigint, result jsonb, error text,
        attempts integer, worker text, started timestamp with time zone, seconds double precision,
        PRIMARY KEY (run, range_id)
    );
    INSERT INTO results VALUES ('test_dag/t/-1/scheduled__2026-11-19', 0, NULL, '41', 40, '{"row_count": 40}', NULL,
        1, 'vm:497', '2026-11-19 00:00:00+00', 0.1)
"""

CHECKPOINT = {
    "burla_checkpoint": {
        "run": RUN_KEY,
        "fingerprint": "c122a8bb0304f05a72ddb00cd4b5545d",
        "state": {
            "server": "7714063457029386868",
            "counting_since": "None",
            "written": "16392 16392 40 0 0 8192",
            "columns": "16392 id 20 -1 f, 16392 n 23 -1 f",
        },
        "moments": 1,
        "pages": False,
    },
    "burla_last_job": ["local-646", None],
    "burla_checkpoint_plan_00000": (
        "eJytU8Fu2zAM/RVC58CInaIDiu7Qw27D7ps9BIrNxkJl2pNkJEWQfx9JxUlbrLcJMGC+90SJ79knE9seB2sewEzzzrvWrMAku/MoUDvOlDBEAV"
        "/wlaH6ZMgOSrpOta+TVju3d5QEodn7S4Nn6yOefzPoEg5R9tdCr6A2ZWmYUMUKMliuGakXqjbV55LqItl8LslUxj4K5EpxHgYbZKjTbeJsQvGP"
        "wWVe3ZaCTbgXTKiIOnRAG0cS7Gk3zgnu1hDGQ4S2t7THDqKjFiH1CN7GBE8/nr7//PVtBXFU0FGHRzjYyI9/wa6Qnj0bqp7JsUH6SHXHxWRDcs"
        "mNJMCaATxO2CbstnKoiASU9+2EYat7dc44WO8xJi5KkQzYOUtL5W3YL+RZ6vGAgatsm5mn6W357IJqa1MUBTx+BdfBI3B2zJXlFagUqG5AzsWI"
        "D7p7c6O4kXKE2MVtJDvFfkzLh8TEnxmDUxvKjWSB7UidmlCsq/t7uXTCo+zIkcKyPuTaEEcHt+W6hpZgM5KjfYD/E2dDOb/lPA7Rvm3MvLS3oD"
        "Jg/2GJSr5XyDnp6yWkhtT/6wTvM2hI73Vd7z1uaPKWiOc4uNTzaRu4GMs3h+oL8K96/gvDnDjq"
    ),
    "burla_checkpoint_outcomes_00000": (
        "eJxjYGDobGCdWscAAbVTNHpYM/NSUiumeDP0sJYl5pSmTqmd0sOYN8Wbq7iHsyi/PD45vzSvBMjtYS9OTc7PSyme4m7fX+sA0g4UKkksKklNme"
        "LueOtw2beb7TN62Mrzi7JTi6b0sJXlWpmZWEzp4UgsKUnNLSgpnuLN2MOelpiZU1qUOsWvVI8Bt2OYSHBMpDsDNsfcmrGCSo5hJMExkx0vYHPM"
        "AyNzdMdY4nEMAFQFmDA="
    ),
}

WATERMARK_KEY = "burla_high_water_mark c2612303978ae1609da22a1fb7bcc846 test_dag.t public.counters"
MAPPED_WATERMARK_KEY = "burla_high_water_mark 0284b10de1e82cdba6e0b283be260fd6 test_dag.t public.counters"
"""Of a task with ``where="n = 0 AND id > 3"``."""
WATERMARK = {"begin": None, "end": "41", "run": "scheduled__2026-11-20", "map_index": -1}


@pytest.fixture
def counters(orders: Orders) -> Orders:
    """Forty rows. 0.1.0 has incremented the first thirty of them."""
    orders.connection.execute("""
        CREATE TABLE counters (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0);
        INSERT INTO counters SELECT id, (id <= 30)::int FROM generate_series(1, 40) AS id;
        ANALYZE counters;
    """)
    report_writes(orders.connection)
    return orders


@pytest.fixture
def ledger(counters: Orders) -> Orders:
    """The ledger of the run, in which 0.1.0 has processed three of four ranges."""
    counters.connection.execute(LEDGER_TABLE)
    insert = (
        "INSERT INTO books (run_key, range_index, range, row_count, result, answer, attempt, worker, finished_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, 1, %s, clock_timestamp())"
    )
    counters.connection.execute(insert, [RUN_KEY, -1, "the plan", None, PLAN, None, ""])
    for index, (bounds, answer) in enumerate(OUTCOMES):
        counters.connection.execute(insert, [RUN_KEY, index, bounds, 10, '{"row_count": 10}', answer, "vm:32678"])
    return counters


def increment(connection: Any, key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE counters SET n = n + 1 WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).rowcount}


def count(rows: Any) -> dict[str, Any]:
    return {"n": sum(1 for _ in rows)}


def make_task(**options: Any) -> BurlaPostgresOperator:
    given = {"table": "counters", "postgres_conn_id": "orders_db", "key": "id", "ranges": 4, "retries": 1}
    return BurlaPostgresOperator(task_id="t", **{**given, **options})


def test_a_retry_of_a_run_that_0_1_0_has_begun_does_not_write_twice(airflow: Airflow, ledger: Orders) -> None:
    result = airflow.run(make_task(process_range=increment, ledger="public.books"), try_number=2, max_tries=1)
    assert result.state == "failed"
    assert "The version of the provider, the table," in str(result.error)
    assert "Clearing the task starts a new run" in str(result.error)
    query = "SELECT n, count(*) FROM counters GROUP BY n ORDER BY n"
    assert ledger.connection.execute(query).fetchall() == [(0, 10), (1, 30)]


def test_clearing_it_says_what_is_written_again(airflow: Airflow, ledger: Orders) -> None:
    result = airflow.run(make_task(process_range=increment, ledger="public.books"), try_number=3, max_tries=3)
    assert result.state == "success", result.log
    assert "3 ranges that were already written will be written again" in result.log


def test_a_new_run_uses_the_ledger_table_of_0_1_0(airflow: Airflow, ledger: Orders) -> None:
    task = make_task(process_range=increment, ledger="public.books")
    result = airflow.run(task, run_id="scheduled__2026-11-21")
    assert result.state == "success", result.log
    query = "SELECT n, count(*) FROM counters GROUP BY n ORDER BY n"
    assert ledger.connection.execute(query).fetchall() == [(1, 10), (2, 30)]


def test_old_runs_of_0_1_0_are_removed_from_the_ledger(airflow: Airflow, ledger: Orders) -> None:
    ledger.connection.execute("UPDATE books SET finished_at = finished_at - interval '8 days'")
    task = make_task(process_range=increment, ledger="public.books", ledger_retention=datetime.timedelta(days=1))
    assert airflow.run(task, run_id="scheduled__2026-11-21").state == "success"
    query = "SELECT count(*) FROM books WHERE run_key = %s"
    assert ledger.connection.execute(query, [RUN_KEY]).fetchone() == (0,)


def test_the_stored_outcomes_of_0_1_0_can_be_read(ledger: Orders) -> None:
    key = Ledger("public", "books", RUN_KEY)
    outcomes = list(read_outcomes(ledger.connection, key))
    assert [(outcome.index, outcome.value, outcome.worker) for outcome in outcomes] == [
        (0, {"row_count": 10}, "vm:32678"),
        (1, {"row_count": 10}, "vm:32679"),
        (2, {"row_count": 10}, "vm:32679"),
    ]


def test_the_results_table_of_0_1_0_gets_the_rows_of_another_run(airflow: Airflow, counters: Orders) -> None:
    counters.connection.execute(RESULTS_TABLE)
    result = airflow.run(make_task(process_rows=count, results_table="public.results"))
    assert result.state == "success", result.log
    query = "SELECT run, count(*), sum(row_count) FROM results GROUP BY run ORDER BY run"
    assert counters.connection.execute(query).fetchall() == [
        ("test_dag/t/-1/scheduled__2026-11-19", 1, 40),
        ("test_dag/t/-1/scheduled__2026-11-20", 4, 40),
    ]


@needs_state_stores
def test_a_retry_with_a_checkpoint_of_0_1_0_begins_again(airflow: Airflow, counters: Orders) -> None:
    airflow.state_store.update(CHECKPOINT)
    result = airflow.run(make_task(process_rows=count), try_number=2, max_tries=1)
    assert result.state == "success", result.log
    assert "An earlier try has finished 3 items, but this try starts from the beginning" in result.log
    assert result.value == {"row_count": 40, "n": 40}
    assert not [key for key in airflow.state_store if key.startswith("burla_checkpoint")]


def add_rows(counters: Orders) -> None:
    counters.connection.execute("INSERT INTO counters SELECT id, 0 FROM generate_series(41, 45) AS id")


def count_increment(airflow: Airflow, run_id: str, map_index: int = -1, **options: Any) -> int:
    given = {"totals": {"n": "count(*)"}, "incremental": True, "outlets": [Asset("counted")]}
    result = airflow.run(make_task(**given, **options), run_id=run_id, map_index=map_index, try_number=2, max_tries=1)
    assert result.state == "success", result.log
    return int(result.value["n"])


@needs_state_stores
def test_an_increment_begins_where_0_1_0_ended(airflow: Airflow, counters: Orders) -> None:
    airflow.asset_store["counted", WATERMARK_KEY] = WATERMARK
    add_rows(counters)
    assert count_increment(airflow, "scheduled__2026-11-21") == 5
    assert airflow.asset_store["counted", WATERMARK_KEY]["begin"] == "41"


@needs_state_stores
def test_an_increment_of_a_mapped_task_begins_where_0_1_0_ended(airflow: Airflow, counters: Orders) -> None:
    airflow.asset_store["counted", MAPPED_WATERMARK_KEY] = {**WATERMARK, "map_index": 2}
    add_rows(counters)
    options = {"where": "n = %(n)s AND id > 3", "parameters": {"n": 0}, "map_index": 2}
    assert count_increment(airflow, "scheduled__2026-11-21", **options) == 5


@needs_state_stores
def test_a_retry_of_a_run_that_0_1_0_has_finished_repeats_its_window(airflow: Airflow, counters: Orders) -> None:
    airflow.asset_store["counted", WATERMARK_KEY] = WATERMARK
    add_rows(counters)
    assert count_increment(airflow, "scheduled__2026-11-20") == 40
