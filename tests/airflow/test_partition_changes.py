"""Partitions that change, and rows that change their partition, during a job and between its tries."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import add_database, needs_state_stores
from tests.support.marks import conninfo_of
from tests.support.postgres import report_writes
from tests.support.task_runner import Airflow, TaskResult, run_and_kill
from tests.support.waiting import wait_for

ATTACH = "ALTER TABLE parts ATTACH PARTITION late FOR VALUES IN ('late')"
DETACH = "ALTER TABLE parts DETACH PARTITION late"
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%'"

ENDINGS = ("finished", "failed", "killed")
"""How the first try ends: at its last check, by an error of its last range, or by SIGKILL in its last range."""


@pytest.fixture
def parts(airflow: Airflow, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A partition with 1,000 rows, and a table with 1,000 rows that can be attached. They are read as a whole."""
    connection.execute("""
        CREATE TABLE parts (id bigint NOT NULL, kind text, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
        CREATE TABLE first (kind text NOT NULL, id bigint NOT NULL);
        ALTER TABLE parts ATTACH PARTITION first FOR VALUES IN ('first');
        INSERT INTO parts SELECT n, 'first' FROM generate_series(1, 1000) AS n;
        CREATE TABLE late (id bigint NOT NULL, kind text NOT NULL, PRIMARY KEY (id, kind));
        INSERT INTO late SELECT n, 'late' FROM generate_series(1, 1000) AS n;
        CREATE TABLE target (id bigint, kind text);
        CREATE TABLE done (what text PRIMARY KEY);
    """)
    connection.execute("ANALYZE parts")
    connection.execute("ANALYZE late")
    report_writes(connection)
    add_database(airflow, "db", connection.info)
    return connection


def attach_once(connection: psycopg.Connection[Any], ending: str) -> Any:
    """A function of rows. In the first try, its first range attaches a partition, and its last one ends the try."""
    conninfo = conninfo_of(connection)

    def read(rows: Any, key_range: Any) -> list[Any]:
        import time

        found = list(rows)
        with psycopg.connect(conninfo, autocommit=True) as other:

            def is_first(what: str) -> bool:
                return bool(other.execute("INSERT INTO done VALUES (%s) ON CONFLICT DO NOTHING", [what]).rowcount)

            if key_range.index == 0 and is_first("attached"):
                other.execute(ATTACH)
            if key_range.index == 3 and ending != "finished" and is_first("ended"):
                if ending == "failed":
                    raise ValueError("no")
                time.sleep(60)
        return found

    return read


def count(connection: psycopg.Connection[Any], ending: str, **options: Any) -> BurlaPostgresOperator:
    read = attach_once(connection, ending)

    def process(rows: Any, key_range: Any) -> dict[str, Any]:
        return {"n": len(read(rows, key_range))}

    usual = {"table": "parts", "key": "id", "split": "width", "ranges": 4, "max_parallelism": 1, "retries": 1}
    return BurlaPostgresOperator(task_id="t", postgres_conn_id="db", process_rows=process, **usual | options)


def copy(connection: psycopg.Connection[Any], ending: str, **options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "table": "parts",
        "key": "id",
        "split": "width",
        "ranges": 4,
        "max_parallelism": 1,
        "target_table": "target",
        "columns": ["id", "kind"],
        "map_batch": attach_once(connection, ending),
        "retries": 1,
    }
    return BurlaPostgresTransformOperator(task_id="t", postgres_conn_id="db", **usual | options)


def end_first_try(airflow: Airflow, connection: psycopg.Connection[Any], task: Any, ending: str) -> TaskResult | None:
    """Run the first try. It attaches the partition after the first of four ranges was read."""
    if ending != "killed":
        return airflow.run(task, max_tries=1)
    is_in_last_range = "SELECT FROM done WHERE what = 'ended'"

    def is_stored() -> bool:
        is_store = isinstance(task, BurlaPostgresTransformOperator)
        return is_store or "burla_checkpoint_outcomes_00000" in airflow.state_store

    when = lambda: is_stored() and connection.execute(is_in_last_range).fetchone() is not None  # noqa: E731
    run_and_kill(airflow, task, signal.SIGKILL, when=when)
    wait_for(lambda: connection.execute(SESSIONS).fetchone() == (0,))
    return None


def table(connection: psycopg.Connection[Any], name: str) -> list[Any]:
    return connection.execute(f"SELECT kind, count(*), count(DISTINCT id) FROM {name} GROUP BY 1 ORDER BY 1").fetchall()


@needs_state_stores
@pytest.mark.parametrize("after", ["attached", "detached"])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("resume", ["auto", True])
def test_a_retry_starts_from_the_beginning_if_partitions_have_changed(
    airflow: Airflow, parts: Any, resume: Any, ending: str, after: str
) -> None:
    first = end_first_try(airflow, parts, count(parts, ending, resume=resume), ending)
    if first:
        assert first.state == "up_for_retry"
        text = "Partitions or children changed while the ranges were read: public.late."
        assert text in (str(first.error) if ending == "finished" else first.log)
        assert "The next try processes all 4 ranges again, because partitions" in str(first.xcoms["burla_report"])
    if after == "detached":
        parts.execute(DETACH)
    result = airflow.run(count(parts, ending, resume=resume), try_number=2, max_tries=1)
    rows = 1_000 if after == "detached" else 2_000
    if (resume, ending, after) == (True, "killed", "detached"):
        # No trace is left in the table. The result says that it is not of one snapshot.
        assert result.value["snapshots"] == 2, result.log
    else:
        assert result.value == {"row_count": rows, "n": rows}, result.log


@pytest.mark.parametrize("ledger", [None, "runs"])
@pytest.mark.parametrize("after", ["attached", "detached"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_overwrite_starts_from_the_beginning_if_partitions_have_changed(
    airflow: Airflow, parts: Any, ending: str, after: str, ledger: Any
) -> None:
    options = {"write_mode": "overwrite", "overwrite_where": "TRUE", "ledger": ledger}
    first = end_first_try(airflow, parts, copy(parts, ending, **options), ending)
    assert table(parts, "target") == []
    if first:
        assert first.state == "up_for_retry"
        assert "The next try processes all 4 ranges again, because partitions" in str(first.xcoms["burla_report"])
    if after == "detached":
        parts.execute(DETACH)
    result = airflow.run(copy(parts, ending, **options), try_number=2, max_tries=1)
    assert result.state == "success", result.log
    if (ending, after) == ("killed", "detached"):
        assert result.value["snapshots"] == 2
    else:
        assert "snapshots" not in result.value
        assert table(parts, "target") == table(parts, "parts")
    left = "SELECT relname FROM pg_class WHERE relname LIKE 'burla_staging%' AND relkind = 'r'"
    assert parts.execute(left).fetchall() == []


@pytest.mark.parametrize("write_mode", ["insert", "upsert"])
@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_rows_that_are_written_are_not_undone_and_the_error_says_so(
    airflow: Airflow, parts: Any, ending: str, write_mode: str
) -> None:
    parts.execute("ALTER TABLE target ADD PRIMARY KEY (id, kind)")
    first = end_first_try(airflow, parts, copy(parts, ending, write_mode=write_mode, ledger="runs"), ending)
    assert first is not None
    assert first.state == "failed"
    assert "Partitions or children changed while the ranges were read: public.late." in str(first.error)
    assert "the ledger public.runs has what is written" in str(first.error)
    assert 0 < table(parts, "target")[1][1] < 1_000


def test_a_retry_that_continues_to_write_warns_of_other_partitions(airflow: Airflow, parts: Any) -> None:
    options = {"write_mode": "insert", "ledger": "runs"}
    end_first_try(airflow, parts, copy(parts, "killed", **options), "killed")
    result = airflow.run(copy(parts, "killed", **options), try_number=2, max_tries=1)
    assert result.value["snapshots"] == 2, result.log
    assert "Partitions or children of the table were attached, detached, renamed" in result.log
    assert table(parts, "target") == [("first", 1_000, 1_000), ("late", 750, 750)]


MOVING = """
    CREATE TABLE moving (id bigint NOT NULL, st text NOT NULL, w int, PRIMARY KEY (id, st)) PARTITION BY LIST (st);
    CREATE TABLE moving_a PARTITION OF moving FOR VALUES IN ('a');
    CREATE TABLE moving_b PARTITION OF moving FOR VALUES IN ('b');
    CREATE TABLE moving_rest PARTITION OF moving DEFAULT;
    INSERT INTO moving SELECT n, chr(97 + n % 3) FROM generate_series(1, 3000) AS n;
    CREATE TABLE target (id bigint);
    CREATE TABLE done (what text PRIMARY KEY);
"""
MOVE_ALL = "UPDATE moving SET st = chr(97 + (ascii(st) - 96) % 3)"
MOVE = f"{MOVE_ALL} WHERE id % 7 = 0"
CREATE_C = """
    CREATE TABLE moving_c (LIKE moving INCLUDING ALL);
    WITH moved AS (DELETE FROM moving_rest WHERE id % 2 = 0 RETURNING *) INSERT INTO moving_c SELECT * FROM moved;
    UPDATE moving_rest SET st = 'd';
    ALTER TABLE moving ATTACH PARTITION moving_c FOR VALUES IN ('c')
"""
"""Rows get a partition of their own, as pg_partman does it. No key changes."""


@pytest.fixture
def moving(airflow: Airflow, connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """A table of three partitions, and the target of its ids."""
    connection.execute(MOVING)
    connection.execute("ANALYZE moving")
    report_writes(connection)
    add_database(airflow, "db", connection.info)
    return connection


def move_once(connection: psycopg.Connection[Any], *, fails: bool = False) -> Any:
    """A function of a range. Of six, the fourth moves rows of the others, or the last three fail in the first try."""
    conninfo = conninfo_of(connection)

    def look(key_range: Any) -> None:
        if key_range.index < 3 or (key_range.index > 3 and not fails):
            return
        with psycopg.connect(conninfo, autocommit=True) as other:
            values = [f"range {key_range.index}"]
            if not other.execute("INSERT INTO done VALUES (%s) ON CONFLICT DO NOTHING", values).rowcount:
                return
            if fails:
                raise ValueError("no")
            other.execute(f"{MOVE} AND id NOT BETWEEN 1501 AND 2000")

    return look


def transform(look: Any, map_rows: Any, **options: Any) -> BurlaPostgresTransformOperator:
    def work(rows: Any, key_range: Any) -> Any:
        look(key_range)
        return map_rows(rows)

    usual = {"table": "moving", "key": "id", "columns": ["id"], "split": "width", "ranges": 6, "max_parallelism": 1}
    return BurlaPostgresTransformOperator(
        task_id="t", postgres_conn_id="db", map_batch=work, retries=1, **usual | options
    )


def test_a_row_that_moves_to_another_partition_is_updated_in_place(airflow: Airflow, moving: Any) -> None:
    options: dict[str, Any] = {"write_mode": "update", "update_columns": ["w"], "batch_size": 100}
    result = airflow.run(transform(move_once(moving), lambda rows: [(1,) for _ in rows], **options))
    assert result.value["rows_updated"] == 3_000, result.log
    assert moving.execute("SELECT * FROM moving WHERE w IS NULL").fetchall() == []


@pytest.mark.parametrize("ledger", [None, "runs"])
@pytest.mark.parametrize("function", ["map_batch", "map_row"])
def test_a_row_that_moves_while_it_is_computed_is_updated(
    airflow: Airflow, moving: Any, ledger: Any, function: str
) -> None:
    conninfo = conninfo_of(moving)

    def move(row: Any) -> Any:
        if row[0] % 100 == 50:
            with psycopg.connect(conninfo, autocommit=True) as other:
                other.execute(f"{MOVE_ALL} WHERE id BETWEEN {row[0] - 40} AND {row[0] - 30} AND w IS NULL")
                other.execute("DELETE FROM moving WHERE id = %s", [row[0] - 1])
        return (1,)

    functions = {"map_row": move, "map_batch": lambda rows: list(map(move, rows))}
    task = BurlaPostgresTransformOperator(
        task_id="t",
        postgres_conn_id="db",
        table="moving",
        key="id",
        columns=["id"],
        write_mode="update",
        update_columns=["w"],
        ranges=3,
        max_parallelism=2,
        ledger=ledger,
        **{function: functions[function]},
    )
    result = airflow.run(task)
    assert result.state == "success", result.log
    assert result.value["row_count"] == 3_000
    assert moving.execute("SELECT * FROM moving WHERE w IS NULL").fetchall() == []
    assert moving.execute("SELECT count(*) FROM moving").fetchone() == (2_970,)
    assert result.value["rows_updated"] == 2_970
    assert result.value["rows_unchanged"] == 30


@pytest.mark.parametrize("change", [MOVE, CREATE_C], ids=["update", "new partition"])
@pytest.mark.parametrize("consistency", ["snapshot", "none"])
@pytest.mark.parametrize("write_mode", ["insert", "overwrite"])
def test_rows_that_move_between_two_tries_are_written_once(
    airflow: Airflow, moving: Any, write_mode: str, consistency: str, change: str
) -> None:
    options: dict[str, Any] = {"target_table": "target", "write_mode": write_mode, "consistency": consistency}
    options["ledger"] = "runs" if write_mode == "insert" else None
    options["overwrite_where"] = "TRUE" if write_mode == "overwrite" else None
    task = transform(move_once(moving, fails=True), lambda rows: [row[:1] for row in rows], **options)
    assert airflow.run(task, max_tries=1).state == "up_for_retry"
    moving.execute(change)
    result = airflow.run(task, try_number=2, max_tries=1)
    assert result.state == "success", result.log
    assert moving.execute("SELECT count(*), count(DISTINCT id) FROM target").fetchone() == (3_000, 3_000)


@needs_state_stores
@pytest.mark.parametrize("options", [{"resume": True}, {"consistency": "none"}])
@pytest.mark.parametrize("fails", [True, False])
def test_rows_that_move_are_counted_once(airflow: Airflow, moving: Any, options: Any, fails: bool) -> None:
    look = move_once(moving, fails=fails)

    def process(rows: Any, key_range: Any) -> dict[str, Any]:
        look(key_range)
        return {"total": sum(row[0] for row in rows)}

    usual = {"table": "moving", "key": "id", "split": "width", "ranges": 6, "max_parallelism": 1, "retries": 1}
    task = BurlaPostgresOperator(task_id="t", postgres_conn_id="db", process_rows=process, **usual | options)
    result = airflow.run(task, max_tries=1)
    if fails:
        assert result.state == "up_for_retry"
        moving.execute(MOVE)
        result = airflow.run(task, try_number=2, max_tries=1)
    assert result.value["row_count"] == 3_000, result.log
    assert result.value["total"] == 3_000 * 3_001 // 2


def test_a_plan_by_partition_that_is_in_a_ledger_is_refused(airflow: Airflow, moving: Any) -> None:
    options: dict[str, Any] = {"target_table": "target", "write_mode": "insert", "ledger": "runs"}
    task = transform(move_once(moving, fails=True), lambda rows: [row[:1] for row in rows], **options)
    assert airflow.run(task, max_tries=1).state == "up_for_retry"
    # As an earlier version planned it.
    moving.execute("""
        UPDATE runs SET result = jsonb_set(result, '{1,items,0,3}', '["public", "moving_a"]') WHERE range_index = -1
    """)
    result = airflow.run(task, try_number=2, max_tries=1)
    assert result.state == "failed"
    assert "has planned this run partition by partition" in str(result.error)


@pytest.mark.parametrize(
    ("options", "partitions"),
    [
        ({"write_mode": "upsert", "conflict_columns": ["id"]}, 3),
        ({"write_mode": "upsert", "conflict_columns": ["id"], "consistency": "none"}, 0),
        ({"write_mode": "upsert", "conflict_columns": ["id"], "ledger": "runs"}, 0),
        ({"write_mode": "upsert", "conflict_columns": ["id"], "resume": True}, 0),
        ({"write_mode": "overwrite", "overwrite_where": "TRUE"}, 0),
        ({"write_mode": "overwrite", "overwrite_where": "TRUE", "resume": False}, 3),
    ],
)
def test_partitions_are_read_separately_if_no_later_snapshot_reads_the_rest(
    airflow: Airflow, moving: Any, options: Any, partitions: int
) -> None:
    moving.execute("ALTER TABLE target ADD PRIMARY KEY (id)")
    result = airflow.run(transform(lambda _: None, list, target_table="target", plan_only=True, **options))
    assert result.value["partitions"] == partitions, result.log


@needs_state_stores
def test_a_retry_starts_from_the_beginning_if_partitions_were_renamed(
    airflow: Airflow, connection: psycopg.Connection[Any], tmp_path: Path
) -> None:
    connection.execute("""
        CREATE TABLE parts (id bigint, kind text) PARTITION BY LIST (kind);
        CREATE TABLE old PARTITION OF parts FOR VALUES IN ('old');
        CREATE TABLE new PARTITION OF parts FOR VALUES IN ('new');
        INSERT INTO parts SELECT n, CASE WHEN n > 1000 THEN 'new' ELSE 'old' END FROM generate_series(1, 3000) AS n;
        ANALYZE parts;
    """)
    report_writes(connection)
    add_database(airflow, "db", connection.info)
    stop = tmp_path / "stop"
    stop.touch()
    path = str(stop)

    def add_up(rows: Any, key_range: Any) -> dict[str, Any]:
        import os

        if key_range.relation[1] == "old" and os.path.exists(path):
            raise ValueError("not yet")
        return {"total": sum(row[0] for row in rows)}

    options = {"table": "parts", "split": "pages", "ranges": 2, "process_rows": add_up, "retries": 1}
    task = BurlaPostgresOperator(task_id="t", postgres_conn_id="db", **options)
    assert airflow.run(task, max_tries=1).state == "up_for_retry"
    stop.unlink()
    for name, other in (("old", "was_old"), ("new", "old"), ("was_old", "new")):
        connection.execute(f"ALTER TABLE {name} RENAME TO {other}")
    result = airflow.run(task, try_number=2, max_tries=1)
    assert result.value == {"row_count": 3000, "total": 3000 * 3001 // 2}
