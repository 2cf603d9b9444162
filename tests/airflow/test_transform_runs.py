"""Transforms together with what other operators on tables do: increments, partitions, secrets, lineage, sessions."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from airflow.sdk import Asset

from burla_provider.exceptions import ClusterUnauthorizedError
from burla_provider.hooks.burla import BurlaHook
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database, needs_state_stores
from tests.support.marks import conninfo_of
from tests.support.task_runner import Airflow


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "status"],
        "map_row": lambda row: row,
        "target_table": "copies",
        "write_mode": "insert",
        "ledger": "runs",
        "max_parallelism": 2,
        "ranges": 4,
    }
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


@pytest.fixture
def copies(orders: Orders) -> psycopg.Connection[Any]:
    """The table that rows are written to. It has no key, so that a row that came twice would be there twice."""
    orders.connection.execute("CREATE TABLE copies (id bigint, status text)")
    return orders.connection


def assert_copied(connection: psycopg.Connection[Any], source: str = "SELECT id, status FROM orders") -> None:
    for one, other in ((source, "TABLE copies"), ("TABLE copies", source)):
        assert connection.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []


@pytest.mark.parametrize(
    ("unlogged", "message"),
    [
        (["copies"], "public.copies is unlogged, and public.runs is not"),
        (["runs"], "public.runs is unlogged, and public.copies is not"),
        (["copies", "runs"], None),
    ],
)
def test_a_crash_of_the_server_must_not_empty_either_the_target_or_the_ledger(
    airflow: Airflow, copies: Any, unlogged: list[str], message: str | None
) -> None:
    airflow.run(operator(where="id < 0"), run_id="creates the ledger")
    for table in unlogged:
        copies.execute(f"ALTER TABLE {table} SET UNLOGGED")
    result = airflow.run(operator(retries=3), max_tries=3)
    if message is None:
        assert result.value["rows_inserted"] == 20_000
    else:
        assert result.state == "failed"
        assert str(result.error).startswith(f"ledger: {message}")
        assert f'Run: ALTER TABLE "public"."{unlogged[0]}" SET LOGGED;' in str(result.error)


@needs_state_stores
def test_an_increment_continues_what_a_failed_run_has_written(airflow: Airflow, copies: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] > 60_000:
            raise ValueError("not yet")
        return row

    options: dict[str, Any] = {"key": "id", "incremental": True, "outlets": [Asset("copies")]}
    assert airflow.run(operator(**options, map_row=fail), run_id="first").state == "failed"
    [(written,)] = copies.execute("SELECT count(*) FROM copies").fetchall()
    assert 0 < written < 20_000
    copies.execute("INSERT INTO orders SELECT id + 1000000, 1, 'new' FROM orders")
    second = airflow.run(operator(**options), run_id="second")
    assert second.value["row_count"] == second.value["rows_inserted"] == 40_000
    assert_copied(copies)
    assert airflow.run(operator(**options), run_id="third").value["row_count"] == 0


@pytest.mark.parametrize("write_mode", ["insert", "upsert", "update"])
def test_source_and_target_may_be_partitioned(airflow: Airflow, copies: Any, write_mode: str) -> None:
    copies.execute("""
        DROP TABLE copies;
        CREATE TABLE copies (id bigint PRIMARY KEY, status text) PARTITION BY RANGE (id);
        CREATE TABLE copies_1 PARTITION OF copies FOR VALUES FROM (0) TO (50000);
        CREATE TABLE copies_2 PARTITION OF copies DEFAULT;
        CREATE TABLE parts (status text, id bigint PRIMARY KEY) PARTITION BY HASH (id);
        CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE parts_1 (id bigint PRIMARY KEY, status text);
        ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO parts SELECT status, id FROM orders;
        ANALYZE parts;
    """)
    if write_mode == "update":
        copies.execute("INSERT INTO copies SELECT id FROM orders")
    result = airflow.run(operator(table="parts", write_mode=write_mode))
    assert result.state == "success", result.log
    assert_copied(copies)


def test_a_partitioned_table_is_updated_in_place(airflow: Airflow, copies: Any) -> None:
    copies.execute("""
        CREATE TABLE parts (id bigint PRIMARY KEY, status text, label text) PARTITION BY RANGE (id);
        CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (50000);
        CREATE TABLE parts_2 PARTITION OF parts DEFAULT;
        INSERT INTO parts SELECT id, status FROM orders;
    """)
    options = {"target_table": None, "write_mode": "update", "update_columns": ["label"]}
    result = airflow.run(operator(table="parts", map_row=lambda row: (row[1].upper(),), **options))
    assert result.value["rows_updated"] == 20_000
    assert copies.execute("SELECT count(*) FROM parts WHERE label = upper(status)").fetchone() == (20_000,)


def test_the_password_of_the_target_is_in_no_text(airflow: Airflow, copies: Any, capfd: Any) -> None:
    password = "s3cret'pass%word"
    copies.execute("CREATE ROLE writer LOGIN SUPERUSER PASSWORD 's3cret''pass%word'")
    try:
        add_database(airflow, "dwh", copies.info)
        airflow.connections["dwh"].login, airflow.connections["dwh"].password = "writer", password
        copies.execute(f"""
            CREATE FUNCTION show() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the password is %', '{password.replace("'", "''")}'; END $$;
            CREATE TRIGGER show BEFORE INSERT ON copies FOR EACH ROW EXECUTE FUNCTION show();
        """)
        result = airflow.run(operator(target_conn_id="dwh"))
        assert "the password is ***" in str(result.error)
        texts = [str(result.error), result.log, str(result.xcoms), str(result.rendered), *capfd.readouterr()]
        assert not [text for text in texts if "s3cret" in text]
    finally:
        copies.execute("DROP OWNED BY writer; DROP ROLE writer")


def test_no_session_is_left(airflow: Airflow, copies: Any) -> None:
    assert airflow.run(operator()).state == "success"
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag%'"
    assert copies.execute(query).fetchone() == (0,)


def test_failed_ranges_may_be_tolerated(airflow: Airflow, copies: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] == 3:
            raise ValueError("no")
        return row

    value = airflow.run(operator(map_row=fail, tolerated_failures=1)).value
    assert (value["complete"], value["failed_ranges"]) == (False, 1)
    assert copies.execute("SELECT count(*) FROM copies").fetchone() == (value["rows_inserted"],)


def test_a_range_that_failed_here_and_that_another_worker_has_finished_is_counted(
    airflow: Airflow, copies: Any
) -> None:
    conninfo = conninfo_of(copies)

    def finish_elsewhere(row: tuple[Any, ...], key_range: Any) -> tuple[Any, ...]:
        import psycopg

        from burla_provider.worker.ledger import describe_bounds

        if row[0] == 3:
            with psycopg.connect(conninfo) as other:  # as a worker does that runs the same call
                copy = psycopg.sql.SQL("INSERT INTO copies SELECT id, status FROM orders WHERE {}")
                count = other.execute(copy.format(key_range.where)).rowcount
                values = [key_range.index, describe_bounds(key_range), count, count]
                other.execute(
                    "INSERT INTO runs (run_key, range_index, range, attempt, worker, row_count, result, finished_at)"
                    " SELECT run_key, %s, %s, 1, '', %s, jsonb_build_object('rows_inserted', %s::int), now()"
                    " FROM runs WHERE range_index = -1",
                    values,
                )
            raise ValueError("no")
        return row

    value = airflow.run(operator(map_row=finish_elsewhere, tolerated_failures=1)).value
    assert (value["complete"], value["failed_ranges"]) == (False, 1)
    assert value["row_count"] == value["rows_inserted"] == 20_000
    assert_copied(copies)


def test_a_plan_writes_nothing(airflow: Airflow, copies: Any) -> None:
    assert airflow.run(operator(plan_only=True)).value["ranges"] == 4
    assert copies.execute("SELECT to_regclass('runs')").fetchone() == (None,)


def fail_behind_a_chunk(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if 130_000 < row[0] < 150_000 or row[0] > 1_130_000:  # late in both ranges
        raise TypeError("a mistake in the code")
    return row


@pytest.mark.parametrize("options", [{}, {"trial_ranges": 1}, {"on_range_failure": "stop"}], ids=repr)
def test_a_mistake_can_be_corrected_before_the_next_retry_if_rows_are_written(
    airflow: Airflow, copies: Any, options: dict[str, Any]
) -> None:
    copies.execute("INSERT INTO orders SELECT id + 1000000, 1, 'new' FROM orders")
    first = airflow.run(operator(map_row=fail_behind_a_chunk, ranges=2, **options), max_tries=1)
    [(written,)] = copies.execute("SELECT count(*) FROM copies").fetchall()
    assert written in (10_000, 20_000)  # a chunk of each range that was begun
    assert first.state == "up_for_retry", first.log
    assert "Rows of this run are written: correct this before the next retry" in str(first.error)
    second = airflow.run(operator(ranges=2), try_number=2, max_tries=1)
    assert second.value["rows_inserted"] == 40_000
    assert_copied(copies)


def test_a_change_of_the_parameters_can_be_undone_before_the_next_retry(airflow: Airflow, copies: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] > 60_000:
            raise ValueError("not yet")
        return row

    assert airflow.run(operator(map_row=fail), max_tries=2).state == "up_for_retry"
    second = airflow.run(operator(where="id > 0"), try_number=2, max_tries=2)
    assert second.state == "up_for_retry", second.log
    assert "Undo the change before the next retry" in str(second.error)
    assert airflow.run(operator(), try_number=3, max_tries=2).value["rows_inserted"] == 20_000
    assert_copied(copies)


def fail_late(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[0] > 60_000:
        raise ValueError("not yet")
    return row


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"postgres_conn_id": "no_login"}, "the login with the connection 'no_login' was rejected"),
        ({"where": "nothing > 0"}, "where: "),
        ({"max_parallelism": "{{ 'two' }}"}, "max_parallelism: must be an integer >= 1, got 'two'"),
        ({"burla_python": "/nowhere/python"}, "/nowhere/python"),
        ({"target_table": "gone"}, 'target_table: "gone" not found'),
    ],
)
def test_what_somebody_can_correct_does_not_end_the_retries_of_a_run_that_has_written(
    airflow: Airflow, copies: Any, options: dict[str, Any], message: str
) -> None:
    there = airflow.connections["orders_db"]
    airflow.add_connection(
        "no_login", "postgres", host=there.host, port=there.port, schema=there.schema, login="nobody_at_all"
    )
    assert airflow.run(operator(map_row=fail_late, retries=2), max_tries=2).state == "up_for_retry"
    second = airflow.run(operator(retries=2, **options), try_number=2, max_tries=2)
    assert second.state == "up_for_retry", second.log
    assert message in str(second.error)
    assert "correct this before the next retry, which continues behind them" in str(second.error)
    assert second.xcoms["burla_report"]["advice"] == [
        "The next try continues where the earlier tries ended, as far as that is stored."
    ]
    third = airflow.run(operator(retries=2), try_number=3, max_tries=2)
    assert third.value["rows_inserted"] == 20_000
    assert_copied(copies)


def test_credentials_that_are_refused_after_the_trial_has_written_do_not_end_the_retries(
    airflow: Airflow, copies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = BurlaHook.run

    def refuse_second_job(hook: BurlaHook, job: Any, **options: Any) -> Any:
        if len(job.items) > 1:
            raise ClusterUnauthorizedError("The cluster refused the credentials.")
        return start(hook, job, **options)

    with monkeypatch.context() as patch:
        patch.setattr(BurlaHook, "run", refuse_second_job)
        without_trial = airflow.run(operator(retries=1), run_id="without trial", max_tries=1)
        first = airflow.run(operator(retries=1, trial_ranges=1), max_tries=1)
    assert without_trial.state == "failed"
    assert first.state == "up_for_retry", first.log
    assert "This try may have written rows: correct this before the next retry" in str(first.error)
    assert "The next try processes only the 3 missing ranges" in first.xcoms["burla_report"]["advice"][0]
    assert airflow.run(operator(retries=1), try_number=2, max_tries=1).value["rows_inserted"] == 20_000
    assert_copied(copies)


def test_the_last_try_does_not_promise_another_one(airflow: Airflow, copies: Any) -> None:
    assert airflow.run(operator(map_row=fail_late, retries=1), max_tries=1).state == "up_for_retry"
    last = airflow.run(operator(where="nothing > 0", retries=1), try_number=2, max_tries=1)
    assert last.state == "failed"
    assert "An earlier try of this run may have written rows, and no retry is left. Clearing" in str(last.error)
    assert last.xcoms["burla_report"]["advice"] == ["No retry is left."]


@needs_state_stores
@pytest.mark.parametrize("retries", [1, 2, 5])
def test_retries_are_kept_if_their_number_has_changed_since_the_run_began(
    airflow: Airflow, copies: Any, retries: int
) -> None:
    """Airflow keeps the number of tries of a task instance. The DAG file has the new number of retries."""
    assert airflow.run(operator(map_row=fail_late, retries=3), max_tries=3).state == "up_for_retry"
    wrong = {"where": "nothing > 0", "retries": retries}
    for try_number in (2, 3):
        assert airflow.run(operator(**wrong), try_number=try_number, max_tries=3).state == "up_for_retry"
    assert airflow.run(operator(retries=retries), try_number=4, max_tries=3).value["rows_inserted"] == 20_000
    assert_copied(copies)


@needs_state_stores
@pytest.mark.parametrize("retries", [1, 2, 5])
def test_the_first_try_fails_at_once_if_the_number_of_retries_has_changed_since_the_dag_run_began(
    airflow: Airflow, copies: Any, retries: int
) -> None:
    wrong = {"where": "nothing > 0", "retries": retries}
    first = airflow.run(operator(**wrong), max_tries=2)
    assert first.state == "failed", first.log
    assert "An earlier try" not in str(first.error)
    # Cleared, with the number of retries of the DAG run's version of the DAG.
    assert airflow.run(operator(**wrong), try_number=2, max_tries=3).state == "failed"


@pytest.mark.parametrize(
    ("options", "try_number", "max_tries"),
    [({}, 1, 2), ({}, 2, 3), ({"write_mode": "overwrite", "overwrite_where": "TRUE", "ledger": "runs"}, 2, 2)],
    ids=["first try", "first try after clearing", "an overwrite writes at its end"],
)
def test_a_run_that_has_not_written_fails_at_once_with_a_wrong_parameter(
    airflow: Airflow, copies: Any, options: dict[str, Any], try_number: int, max_tries: int
) -> None:
    result = airflow.run(
        operator(where="nothing > 0", retries=2, **options), try_number=try_number, max_tries=max_tries
    )
    assert result.state == "failed", result.log
    assert "where: " in str(result.error)


class Broken:
    def __init__(self) -> None:
        raise TypeError("a mistake in the class")

    def __call__(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return row


def test_a_class_that_cannot_be_made_can_be_corrected_if_rows_are_written(airflow: Airflow, copies: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] > 60_000:
            raise ValueError("not yet")
        return row

    assert airflow.run(operator(map_row=Broken), run_id="nothing written", max_tries=2).state == "failed"
    assert airflow.run(operator(map_row=fail), max_tries=2).state == "up_for_retry"
    second = airflow.run(operator(map_row=Broken), try_number=2, max_tries=2)
    assert second.state == "up_for_retry", second.log
    assert "Rows of this run are written: correct this before the next retry" in str(second.error)
    assert airflow.run(operator(), try_number=3, max_tries=2).value["rows_inserted"] == 20_000
    assert_copied(copies)
