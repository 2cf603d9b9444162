"""BurlaPostgresOperator on partitioned tables and tables with children: as exact as on plain ones."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.airflow.conftest import add_database
from tests.airflow.test_postgres import operator
from tests.support.task_runner import Airflow

ROWS = 3_000
HASH = """
    CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, done int NOT NULL DEFAULT 0) PARTITION BY HASH (id);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 0);
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 1);
    CREATE TABLE orders_2 PARTITION OF orders FOR VALUES WITH (MODULUS 3, REMAINDER 2);
"""


@pytest.fixture
def database(database: str, airflow: Airflow) -> str:
    """Also the Airflow connection ``orders_db``."""
    with psycopg.connect(database) as connection:
        add_database(airflow, "orders_db", connection.info)
    return database


def fill(connection: psycopg.Connection[Any], tables: str) -> None:
    connection.execute(tables)
    connection.execute(f"INSERT INTO orders SELECT n, n / 7.0 FROM generate_series(1, {ROWS}) AS n")
    connection.execute("ANALYZE orders")


def add_one(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL("UPDATE orders SET done = done + 1 WHERE {}").format(key_range.where)
    return {"row_count": connection.execute(query).rowcount}


def count_between(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
    query = "SELECT count(*), sum(amount) FROM orders WHERE id BETWEEN %s AND %s"
    count, total = connection.execute(query, [key_range.start_id, key_range.end_id]).fetchone()  # type: ignore[misc]
    return {"row_count": count, "total": total}


def test_process_range_writes_every_row_of_a_partitioned_table_once(airflow: Airflow, connection) -> None:
    fill(connection, HASH)
    result = airflow.run(operator(process_range=add_one, ledger="public.ledger", key="id"))
    assert result.value == {"row_count": ROWS}, result.log
    assert connection.execute("SELECT min(done), max(done) FROM orders").fetchone() == (1, 1)


@pytest.mark.parametrize("consistency", ["snapshot", "none"])
def test_the_ids_of_a_range_select_its_rows_from_a_partitioned_table(airflow, connection, consistency: str) -> None:
    fill(connection, HASH)
    result = airflow.run(operator(process_range=count_between, key="id", consistency=consistency))
    [total] = connection.execute("SELECT sum(amount)::text FROM orders").fetchone()
    assert result.value == {"row_count": ROWS, "total": total}, result.log


def test_process_range_reads_a_partitioned_table_without_a_key_by_pages(airflow: Airflow, connection) -> None:
    def count(connection: psycopg.Connection[Any], key_range: Any) -> dict[str, Any]:
        from psycopg import sql

        query = sql.SQL("SELECT count(*) FROM orders WHERE {}").format(key_range.where)
        return {"row_count": connection.execute(query).fetchone()[0]}  # type: ignore[index]

    fill(connection, HASH.replace(" PRIMARY KEY", ""))
    result = airflow.run(operator(process_range=count, split="pages"))
    assert result.value == {"row_count": ROWS}, result.log


ATTACHED = """
    CREATE TABLE orders (
        id bigint PRIMARY KEY, amount numeric(18, 6), note text,
        twice numeric(18, 6) GENERATED ALWAYS AS (amount * 2) STORED
    ) PARTITION BY RANGE (id);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES FROM (0) TO (1001);
    CREATE TABLE orders_1 (
        note text, gone int, twice numeric(18, 6) GENERATED ALWAYS AS (amount * 2) STORED,
        amount numeric(18, 6), id bigint NOT NULL
    );
    ALTER TABLE orders_1 DROP gone;
    ALTER TABLE orders ATTACH PARTITION orders_1 DEFAULT;
"""
"""The second partition has its columns in another order, and had one that the table never had."""


@pytest.mark.parametrize(("batch_format", "split"), [(None, "auto"), ("arrow", "pages")])
def test_rows_have_the_columns_of_the_table_in_its_order(airflow: Airflow, connection, batch_format, split) -> None:
    def look(rows: Any) -> dict[str, Any]:
        total = twice = 0
        for row in rows:
            if batch_format == "arrow":
                ids, amounts, _, doubles = row.to_pydict().values()
            else:
                ids, amounts, _, doubles = ([value] for value in row)
            total += sum(id_ * amount for id_, amount in zip(ids, amounts, strict=True))
            twice += sum(doubles)
        return {"total": total, "twice": twice}

    fill(connection, ATTACHED)
    result = airflow.run(operator(process_rows=look, batch_format=batch_format, split=split))
    total, twice = connection.execute("SELECT sum(id * amount)::text, sum(twice)::text FROM orders").fetchone()
    assert result.value == {"row_count": ROWS, "total": total, "twice": twice}, result.log


@pytest.mark.parametrize("tables", [HASH, ATTACHED])
def test_the_table_s_name_qualifies_columns_in_every_range(airflow: Airflow, connection, tables: str) -> None:
    fill(connection, tables)
    connection.execute("CREATE TABLE paid AS SELECT id FROM orders WHERE id % 3 > 0")
    totals = {
        "total": "sum(orders.amount)",
        "rows": "count(orders.*)",
        "checksum": "sum(hashtextextended(orders::text, 0))",
        "some": "count(*) FILTER (WHERE orders.id < 100)",
    }
    where = "EXISTS (SELECT FROM paid WHERE paid.id = orders.id) AND orders.amount > 1"
    result = airflow.run(operator(totals=totals, where=where))
    row = connection.execute(f"SELECT {', '.join(totals.values())} FROM orders WHERE {where}").fetchone()
    assert result.value, result.log
    assert [str(result.value[name]) for name in totals] == [str(value) for value in row], result.log


@pytest.mark.parametrize(
    "options",
    [{"where": "public.orders.id > 10"}, {"totals": {"n": "count(public.orders.id)"}}],
)
def test_a_name_with_the_schema_is_refused_before_a_range_starts(airflow: Airflow, connection, options) -> None:
    fill(connection, HASH)
    result = airflow.run(operator(**options))
    assert "invalid reference to FROM-clause entry" in str(result.error)
    assert "without a schema" in str(result.error)


def test_a_name_with_the_schema_is_right_for_a_plain_table(airflow: Airflow, connection) -> None:
    fill(connection, "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric)")
    result = airflow.run(operator(where="public.orders.id > 10", totals={"n": "count(public.orders.id)"}))
    assert result.value["n"] == ROWS - 10, result.log


@pytest.mark.parametrize("kind", ["totals", "process_rows", "columns", "view"])
def test_the_right_to_read_some_columns_is_enough_for_those(airflow: Airflow, connection, kind: str) -> None:
    role = f"reader_{connection.info.backend_pid}"
    fill(connection, HASH)
    connection.execute("CREATE VIEW seen AS SELECT amount, id FROM orders")
    connection.execute(f"CREATE ROLE {role}; GRANT SELECT (id, amount) ON orders TO {role}")
    connection.execute(f"GRANT SELECT ON seen TO {role}")
    info = connection.info
    options = {"options": f"-c role={role}"}
    server = {"host": info.host, "port": info.port, "login": info.user, "password": info.password}
    airflow.add_connection("orders_db", "postgres", **server, schema=info.dbname, extra=options)

    def add(rows: Any) -> dict[str, Any]:
        return {"total": sum(row[-1] for row in rows)}

    work: dict[str, Any] = {
        "totals": {"totals": {"total": "sum(id)"}},
        "process_rows": {"process_rows": add},
        "columns": {"process_rows": add, "columns": ["amount", "id"]},
        "view": {"process_rows": add, "table": "seen", "key": "id"},
    }[kind]
    result = airflow.run(operator(consistency="none", **work))
    if kind == "process_rows":
        assert "columns: " in str(result.error)
        assert "permission denied" in str(result.error)
    else:
        assert result.value, result.log
        assert int(result.value["total"]) == ROWS * (ROWS + 1) // 2
    connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


PARTITIONED = """
    CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric) PARTITION BY RANGE (id);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES FROM (0) TO (1001);
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (1001) TO (2001);
    CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (2001) TO (3001);
"""
VIEW = """
    CREATE TABLE base (id bigint PRIMARY KEY, amount numeric) PARTITION BY RANGE (id);
    CREATE TABLE base_0 PARTITION OF base FOR VALUES FROM (0) TO (3001);
    CREATE VIEW nested AS SELECT id, amount FROM base;
    CREATE VIEW orders AS SELECT id, amount FROM nested;
"""
INHERITED = """
    CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric);
    CREATE TABLE orders_0 () INHERITS (orders);
"""
LATE = """
    CREATE TABLE late AS SELECT n::bigint AS id, n::numeric AS amount FROM generate_series(3001, 6000) AS n;
    ALTER TABLE late ALTER id SET NOT NULL;
"""
FROM_3001 = "PARTITION late FOR VALUES FROM (3001) TO (6001)"
ATTACH = {
    "partitions": (PARTITIONED, f"ALTER TABLE orders ATTACH {FROM_3001}"),
    "partitions and verify": (PARTITIONED, f"ALTER TABLE orders ATTACH {FROM_3001}"),
    "view": (VIEW, f"ALTER TABLE base ATTACH {FROM_3001}"),
    "children": (INHERITED, "ALTER TABLE late INHERIT orders"),
    "first child": ("CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric);", "ALTER TABLE late INHERIT orders"),
}


def altering(database: str, statement: str) -> Any:
    """A function for ``process_rows`` that counts rows and adds amounts; the first call runs the statement before."""

    def count(rows: Any) -> dict[str, Any]:
        import contextlib

        with psycopg.connect(database, autocommit=True) as other, contextlib.suppress(psycopg.Error):
            other.execute("CREATE TABLE first_call ()")
            other.execute("SET lock_timeout = '2s'; SET statement_timeout = '2s'")
            for one in statement.split("; "):
                other.execute(one)
        return {"total": sum(row[1] or 0 for row in rows)}

    return count


@pytest.mark.parametrize("kind", ATTACH)
def test_a_leaf_that_comes_during_the_job_fails_it(airflow: Airflow, connection, database, kind: str) -> None:
    tables, statement = ATTACH[kind]
    fill(connection, tables)
    connection.execute(LATE)
    options: dict[str, Any] = {"verify": "count"} if "verify" in kind else {}
    task = operator(process_rows=altering(database, statement), key="id", ranges=2, max_parallelism=1, **options)
    result = airflow.run(task)
    assert connection.execute("SELECT max(id) FROM orders").fetchone() == (6000,)
    assert "Partitions or children changed while the ranges were read: public.late." in str(result.error)
    if kind == "children":  # the outcomes of the first try are of no use, whatever resume says
        task.resume = True
        again = airflow.run(task, try_number=2)
        assert again.value["row_count"] == 6_000, again.log


MADE = f"CREATE TABLE late (LIKE orders INCLUDING ALL); ALTER TABLE orders ATTACH {FROM_3001}"
UNCHANGED = {
    "a new partition": (PARTITIONED, f"{MADE}; INSERT INTO orders VALUES (3002, 1)", 2),
    "a new child": (INHERITED, "CREATE TABLE late () INHERITS (orders); INSERT INTO late VALUES (3002, 1)", 2),
    "attached, cut by partition": (PARTITIONED, f"{LATE.strip()} ALTER TABLE orders ATTACH {FROM_3001}", 9),
    "detached, cut as a whole": (PARTITIONED, "ALTER TABLE orders DETACH PARTITION orders_1 CONCURRENTLY", 2),
    "detached, cut by partition": (PARTITIONED, "ALTER TABLE orders DETACH PARTITION orders_1 CONCURRENTLY", 9),
}


@pytest.mark.parametrize("kind", UNCHANGED)
def test_other_changes_of_partitions_leave_the_snapshot_s_rows(airflow, connection, database, kind: str) -> None:
    tables, statement, ranges = UNCHANGED[kind]
    fill(connection, tables)
    [before] = connection.execute("SELECT sum(amount)::text FROM orders").fetchone()
    work = altering(database, statement)
    result = airflow.run(operator(process_rows=work, key="id", ranges=ranges, max_parallelism=1))
    assert result.value == {"row_count": ROWS, "total": before}, result.log
    assert connection.execute("SELECT sum(amount)::text FROM orders").fetchone() != (before,)


def test_rows_of_a_new_partition_that_are_frozen_fail_the_job(airflow: Airflow, connection, database) -> None:
    fill(connection, PARTITIONED)
    load = (
        "BEGIN; CREATE TABLE late (LIKE orders INCLUDING ALL); COPY late (id) FROM PROGRAM 'seq 3001 3005' (FREEZE); "
        "COMMIT; "
        f"ALTER TABLE orders ATTACH {FROM_3001}"
    )
    result = airflow.run(operator(process_rows=altering(database, load), key="id", ranges=2, max_parallelism=1))
    assert "Partitions or children changed while the ranges were read: public.late." in str(result.error)
