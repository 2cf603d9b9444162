"""A role that can do nothing but SELECT from one table: what works, and what the task says about what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
from psycopg import sql

from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task.config import Split
from tests.airflow.conftest import Orders, needs_state_stores
from tests.support.task_runner import Airflow

HIDDEN = ("pg_stats", "pg_stat_activity", "pg_stat_database", "pg_stat_all_tables", "pg_stat_bgwriter")
"""Views that an administrator may hide from everybody."""
REFUSED = {
    "histogram": "split: this role sees no statistics of id. ANALYZE the table, GRANT SELECT ON pg_stats, or ",
    "probed": "split: 'probed' is not supported for the key id. It requires statistics and an index",
}
"""Strategy that needs statistics -> the error without them."""


@pytest.fixture
def reader(airflow: Airflow, orders: Orders) -> Iterator[sql.Identifier]:
    """Return the role of ``orders_db``: it can connect and read ``orders``, and create nothing, not even in pg_temp."""
    connection = orders.connection
    known = airflow.connections["orders_db"]
    name = f"{known.schema}_reader"
    role, database = sql.Identifier(name), sql.Identifier(known.schema)
    connection.execute(
        sql.SQL("""
            CREATE ROLE {role} LOGIN PASSWORD 'reads';
            REVOKE ALL ON DATABASE {database} FROM PUBLIC;
            REVOKE ALL ON SCHEMA public FROM PUBLIC;
            GRANT CONNECT ON DATABASE {database} TO {role};
            GRANT USAGE ON SCHEMA public TO {role};
            GRANT SELECT ON orders TO {role};
        """).format(role=role, database=database)
    )
    known.login, known.password = name, "reads"
    yield role
    connection.execute(sql.SQL("DROP OWNED BY {role}; DROP ROLE {role}").format(role=role))


@pytest.fixture
def hidden(orders: Orders, reader: sql.Identifier) -> sql.Identifier:
    """Return the role, which cannot read the server's statistics either."""
    hide(orders, *HIDDEN)
    return reader


@pytest.fixture
def without_activity(orders: Orders, reader: sql.Identifier) -> sql.Identifier:
    """Return the role, which cannot see the sessions."""
    hide(orders, "pg_stat_activity")
    return reader


def hide(orders: Orders, *views: str) -> None:
    for view in views:
        orders.connection.execute(sql.SQL("REVOKE SELECT ON {} FROM PUBLIC").format(sql.Identifier(view)))


def operator(**options: Any) -> BurlaPostgresOperator:
    return BurlaPostgresOperator(**{"task_id": "t", "postgres_conn_id": "orders_db", "table": "orders", **options})


def transform(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {"task_id": "t", "postgres_conn_id": "orders_db", "table": "orders", "columns": ["id", "note"]}
    return BurlaPostgresTransformOperator(**{**usual, "map_row": copy, **options})


def totals(split: str) -> BurlaPostgresOperator:
    ranges = {} if split == "single" else {"ranges": 7}
    key = {} if split == "pages" else {"key": "id"}
    return operator(split=split, totals={"total": "sum(amount)"}, **ranges, **key)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("split", get_args(Split))
def test_the_totals_are_right_with_every_strategy(airflow: Airflow, orders: Orders, split: str) -> None:
    result = airflow.run(totals(split))
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)"))}, result.log


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize("split", [split for split in get_args(Split) if split not in REFUSED])
def test_the_totals_are_right_without_the_statistics_of_the_server(
    airflow: Airflow, orders: Orders, split: str
) -> None:
    result = airflow.run(totals(split))
    assert result.value == {"row_count": 20_000, "total": str(orders.ask("sum(amount)"))}, result.log


@pytest.mark.usefixtures("hidden")
@pytest.mark.parametrize(("split", "message"), REFUSED.items())
def test_a_split_by_statistics_that_are_hidden_is_refused(airflow: Airflow, split: str, message: str) -> None:
    result = airflow.run(totals(split), max_tries=3)
    assert result.state == "failed"
    assert message in str(result.error)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("consistency", ["snapshot", "none"])
def test_a_function_reads_all_rows(airflow: Airflow, orders: Orders, consistency: str) -> None:
    def count_letters(rows: Iterable[tuple[str | None]]) -> dict[str, int]:
        return {"letters": sum(len(note or "") for (note,) in rows)}

    options = {"process_rows": count_letters, "columns": ["note"], "ranges": 7, "consistency": consistency}
    result = airflow.run(operator(**options))
    assert result.value == {"row_count": 20_000, "letters": orders.ask("sum(length(note))")}, result.log


def write(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, int]:
    return {"row_count": connection.execute("SELECT 1").rowcount}


def copy(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row


@needs_state_stores
@pytest.mark.parametrize(
    ("role", "reason"),
    [
        ("reader", "this role cannot see when other sessions last wrote: grant it pg_read_all_stats"),
        ("hidden", "the server does not count all writes to what the job reads, or this role cannot see the counters"),
        ("without_activity", "this role cannot see when other sessions last wrote: grant it pg_read_all_stats"),
    ],
)
def test_a_retry_says_why_it_cannot_resume(
    airflow: Airflow, request: pytest.FixtureRequest, tmp_path: Path, role: str, reason: str
) -> None:
    request.getfixturevalue(role)
    stop = tmp_path / "stop"
    stop.touch()
    path = str(stop)

    def count(rows: Iterable[Any]) -> dict[str, int]:
        import os

        ids = [number for (number,) in rows]
        if ids[-1] > 150_000 and os.path.exists(path):
            raise RuntimeError("not yet")
        return {"rows": len(ids)}

    task = operator(process_rows=count, columns=["id"], key="id", ranges=7, range_retries=0)
    assert airflow.run(task, max_tries=1).state == "up_for_retry"
    stop.unlink()
    result = airflow.run(task, try_number=2, max_tries=1)
    assert result.value == {"row_count": 20_000, "rows": 20_000}, result.log
    assert f"this try starts from the beginning: the table may have changed since ({reason})" in result.log


WRITES: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "ledger": (
        operator,
        {"process_range": write, "ledger": "public.runs"},
        "ledger: the table public.runs cannot be found or created (permission denied for schema public)."
        " Run: GRANT CREATE, USAGE ON SCHEMA",
    ),
    "ledger in a hidden schema": (
        operator,
        {"process_range": write, "ledger": "other.runs"},
        "ledger: the table other.runs cannot be found or created (permission denied for schema other)."
        " Run: GRANT CREATE, USAGE ON SCHEMA",
    ),
    "results": (
        operator,
        {"totals": {"total": "sum(amount)"}, "results_table": "public.results"},
        'results_table: "public"."results" cannot be used: permission denied for schema public. Name a table',
    ),
    "upsert": (
        transform,
        {"write_mode": "upsert", "target_table": "copies"},
        "cannot SELECT and INSERT and UPDATE in public.copies. Run: GRANT",
    ),
    "upsert in a hidden schema": (
        transform,
        {"write_mode": "upsert", "target_table": "other.copies"},
        "target_table: the table other.copies cannot be found (permission denied for schema other)."
        ' Run: GRANT USAGE ON SCHEMA "other" TO ',
    ),
    "update": (
        transform,
        {"write_mode": "update", "columns": ["id", "status"], "update_columns": ["note"], "map_row": str},
        "cannot UPDATE in public.orders. Run: GRANT",
    ),
    "overwrite": (
        transform,
        {"write_mode": "overwrite", "target_table": "copies", "overwrite_where": "id < 7"},
        "in public.copies. Run: GRANT",
    ),
    "reject": (
        transform,
        {"write_mode": "upsert", "target_table": "copies", "ledger": "public.runs", "reject_table": "public.no"},
        "Run: GRANT",
    ),
}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(("kind", "options", "message"), WRITES.values(), ids=WRITES)
def test_a_job_that_writes_fails_at_once_and_says_what_to_grant(
    airflow: Airflow, orders: Orders, kind: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    orders.connection.execute("CREATE TABLE copies (id bigint PRIMARY KEY, note text); CREATE SCHEMA other")
    orders.connection.execute("CREATE TABLE other.copies (id bigint PRIMARY KEY, note text)")
    result = airflow.run(kind(**options), max_tries=3)
    assert result.state == "failed"
    assert message in str(result.error)


NUMBERED: dict[str, dict[str, Any]] = {
    "insert": {"write_mode": "insert", "ledger": "public.runs"},
    "upsert": {"write_mode": "upsert", "conflict_columns": ["id"]},
    "overwrite": {"write_mode": "overwrite", "conflict_columns": ["id"], "overwrite_where": "TRUE"},
}


@pytest.mark.parametrize("kind", ["serial", "bigint DEFAULT 7 * nextval('numbers')", "number"])
@pytest.mark.parametrize("options", NUMBERED.values(), ids=NUMBERED)
def test_the_sequence_of_a_column_that_gets_no_value_is_a_privilege_too(
    airflow: Airflow, orders: Orders, reader: sql.Identifier, options: dict[str, Any], kind: str
) -> None:
    connection = orders.connection
    connection.execute(f"""
        CREATE SEQUENCE numbers; CREATE DOMAIN number AS bigint DEFAULT nextval('numbers');
        CREATE TABLE copies (n {kind} NOT NULL, id bigint UNIQUE NOT NULL, note text);
    """)
    connection.execute(
        sql.SQL("""
            GRANT ALL ON copies TO {role}; GRANT CREATE ON SCHEMA public TO {role};
            GRANT TEMPORARY ON DATABASE {database} TO {role};
        """).format(role=reader, database=sql.Identifier(connection.info.dbname))
    )
    task = transform(target_table="copies", target_columns=["id", "note"], **options)
    result = airflow.run(task, max_tries=3)
    assert result.state == "failed", result.log
    assert "burla_last_job" not in airflow.state_store
    error = str(result.error)
    assert error.startswith("target_table: the role ")
    assert ", of a default of public.copies. Run: GRANT USAGE ON SEQUENCE " in error
    connection.execute(error.partition("Run: ")[2].encode())
    assert airflow.run(task, run_id="again").state == "success"
    assert connection.execute("SELECT count(*), count(DISTINCT n) FROM copies").fetchone() == (20_000, 20_000)
