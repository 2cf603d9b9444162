"""Rows that fail: the result, the log, the limit, and what is refused early."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database
from tests.support.chaos import Chaos
from tests.support.task_runner import Airflow, run_and_kill


def copy(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Fail on 100 rows in the function, and on 100 others on the server."""
    id_ = row[0]
    if id_ % 1_000 == 0:
        raise ValueError(f"no {id_}, postgres://user:pw@host")
    return id_, -1 if id_ % 1_000 == 4 else id_


@pytest.fixture
def copies(orders: Orders) -> psycopg.Connection[Any]:
    """The table that rows are written to. It has no key, so that a row that came twice would be there twice."""
    orders.connection.execute("CREATE TABLE copies (id bigint, n bigint CHECK (n >= 0))")
    return orders.connection


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id"],
        "map_row": copy,
        "target_table": "copies",
        "write_mode": "insert",
        "ledger": "runs",
        "reject_table": "rejects",
        "max_parallelism": 2,
        "ranges": 4,
    }
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


def failing(connection: psycopg.Connection[Any]) -> int:
    [(count,)] = connection.execute("SELECT count(*) FROM orders WHERE id % 1000 IN (0, 4)").fetchall()
    assert count > 10
    return int(count)


def assert_split(connection: psycopg.Connection[Any]) -> None:
    """Check that each row is either in the target or rejected, once."""
    wanted = "SELECT id FROM orders WHERE id % 1000 NOT IN (0, 4)"
    rejected = "SELECT (source_key ->> 'id')::bigint FROM rejects"
    for one, other in (("SELECT id FROM copies", wanted), (rejected, wanted.replace("NOT IN", "IN"))):
        for first, second in ((one, other), (other, one)):
            assert connection.execute(f"({first}) EXCEPT ALL ({second})").fetchall() == []


@pytest.mark.parametrize("options", [{}, {"tolerated_rejects": "{{ 5 }}%"}])
def test_rejected_rows_are_counted_and_logged(airflow: Airflow, copies: Any, options: dict[str, Any]) -> None:
    result = airflow.run(operator(**options))
    rejected = failing(copies)
    assert result.state == "success", result.error
    assert result.value == {
        "row_count": 20_000,
        "rows_inserted": 20_000 - rejected,
        "rows_filtered": 0,
        "rows_rejected": rejected,
    }
    assert_split(copies)
    assert f"{rejected} of 20,000 rows were rejected." in result.log
    assert "ValueError, such as: no " in result.log
    assert "psycopg.errors.CheckViolation [23514], such as: new row for relation" in result.log
    query = result.log[result.log.index("SELECT source_key") :].splitlines()[0].replace("\\", "").rpartition(";")[0]
    assert len(copies.execute(query).fetchall()) == rejected


def test_no_message_has_a_secret(airflow: Airflow, copies: Any) -> None:
    password = airflow.connections["orders_db"].password
    assert password

    def tell(row: tuple[Any, ...]) -> tuple[Any, ...]:
        raise ValueError(f"cannot log in with {password}")

    result = airflow.run(operator(map_row=tell, where="id < 100"))
    assert result.value["rows_rejected"] > 0
    assert copies.execute("SELECT DISTINCT message FROM rejects").fetchall() == [("cannot log in with ***",)]
    assert password not in result.log


@pytest.mark.parametrize("limit", [3, "0.1%"])
def test_too_many_rejected_rows_fail_the_task(airflow: Airflow, copies: Any, limit: Any) -> None:
    copies.execute("ANALYZE orders")
    result = airflow.run(operator(tolerated_rejects=limit, retries=1), max_tries=1)
    assert result.state == "up_for_retry"
    assert f"rows were rejected (tolerated: {limit})." in str(result.error)
    assert "raise tolerated_rejects before" in str(result.error)
    assert "such as: no " in str(result.error)
    assert copies.execute("SELECT count(*) FROM rejects").fetchone()[0] > 3
    second = airflow.run(operator(tolerated_rejects="5%", retries=1), try_number=2, max_tries=1)
    assert second.value["rows_rejected"] == failing(copies)
    assert_split(copies)


def test_rows_of_ranges_that_failed_are_counted(airflow: Airflow, copies: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] > 150_000:
            raise TimeoutError("too slow")
        return copy(row)

    result = airflow.run(operator(map_row=fail, ranges=1, tolerated_failures=1))
    assert result.value["complete"] is False
    [(written,)] = copies.execute("SELECT count(*) FROM copies").fetchall()
    [(rejected,)] = copies.execute("SELECT count(*) FROM rejects").fetchall()
    assert result.value["rows_inserted"] == written > 0
    assert result.value["rows_rejected"] == rejected > 0
    assert result.value["row_count"] == written + rejected


def test_a_batch_that_fails_is_halved(airflow: Airflow, copies: Any) -> None:
    def copy_all(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return [copy(row) for row in rows]

    result = airflow.run(operator(map_row=None, map_batch=copy_all, isolate_failures=True))
    assert result.value["rows_rejected"] == failing(copies)
    assert_split(copies)


def test_without_a_reject_table_the_error_names_the_rows(airflow: Airflow, copies: Any) -> None:
    options = {"reject_table": None, "isolate_failures": True, "ranges": 1}
    error = str(airflow.run(operator(**options, map_row=lambda row: (row[0], row[0] - 12))).error)
    assert "Rows that fail: id = 3; id = 6; id = 9" in error


@pytest.mark.parametrize("seed", range(3))
def test_each_row_is_written_or_rejected_once_in_chaos(airflow: Airflow, copies: Any, seed: int) -> None:
    def slow(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        import time

        time.sleep(0.02)
        return [copy(row) for row in rows]

    chaos = Chaos(seed, copies)
    for try_number in range(1, 12):
        task = operator(
            map_row=None, map_batch=slow, batch_size=250, isolate_failures=True, range_retries=8, job_retries=5
        )
        run_and_kill(airflow, task, 0, when=chaos if try_number < 6 else lambda: False, try_number=try_number)
        if airflow.states[-1:] == ["success"]:
            break
    assert airflow.states[-1:] == ["success"], chaos.killed
    assert chaos.killed, "nothing was killed: the test shows nothing"
    assert_split(copies)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ledger": None, "write_mode": "upsert"}, "ledger: is required with a reject_table"),
        ({"map_row": None, "map_batch": list}, "isolate_failures: must be True with map_batch and a reject_table"),
        ({"tolerated_rejects": "some"}, "tolerated_rejects: must be a number of items or a percentage, got 'some'."),
        ({"tolerated_rejects": "101%"}, "tolerated_rejects: must be a number of items or a percentage"),
        ({"reject_table": None, "tolerated_rejects": 5}, "tolerated_rejects: there is no reject_table."),
        ({"isolate_failures": 1}, "isolate_failures: must be a boolean, got 1."),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        operator(**options)


def test_a_table_that_cannot_take_rejected_rows_is_refused(airflow: Airflow, copies: Any) -> None:
    copies.execute("CREATE ROLE writer LOGIN PASSWORD 'pw'; GRANT INSERT ON copies TO writer; CREATE SCHEMA s")
    try:
        add_database(airflow, "dwh", copies.info)
        airflow.connections["dwh"].login, airflow.connections["dwh"].password = "writer", "pw"
        airflow.run(operator(where="id < 100"), run_id="before")  # creates the tables
        copies.execute("GRANT ALL ON runs TO writer")
        errors = [
            str(airflow.run(operator(target_conn_id="dwh", reject_table=name)).error)
            for name in ("rejects", "s.rejects", "no_schema.rejects", "runs", "a.b.c")
        ]
        beginnings = [
            "the role writer cannot SELECT and INSERT in public.rejects. Run: GRANT SELECT, INSERT ON",
            "the table s.rejects cannot be created (permission denied for schema s). Run as another role: CREATE TABLE",
            "the table no_schema.rejects does not exist, and there is no schema no_schema.",
            "public.runs is not a table of rejected rows: it does not have source_key, source_row, error_class",
            "'a.b.c' is not a valid table name.",
        ]
        for error, beginning in zip(errors, beginnings, strict=True):
            assert error.startswith(f"reject_table: {beginning}")
    finally:
        copies.execute("DROP OWNED BY writer; DROP ROLE writer")
