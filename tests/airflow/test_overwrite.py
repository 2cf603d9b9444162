"""write_mode="overwrite": when all ranges are done, the rows of the target are replaced."""

from __future__ import annotations

import datetime
from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task.lineage import TableLineage
from tests.airflow.conftest import Orders, add_database
from tests.support.task_runner import Airflow

LEFT = "SELECT count(*) FROM pg_class WHERE relname LIKE 'burla%' AND relkind = 'r'"
DAY = datetime.date(2026, 11, 20)


def score(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[0], DAY, row[1].upper()


@pytest.fixture
def scores(orders: Orders) -> psycopg.Connection[Any]:
    """The target. It has rows of this day and of the day before."""
    orders.connection.execute("""
        CREATE TABLE scores (id bigint, day date, label text, note text DEFAULT 'new', PRIMARY KEY (id, day));
        INSERT INTO scores SELECT id, '2026-11-19', 'before', 'old' FROM orders;
        INSERT INTO scores SELECT id, '2026-11-20', upper(status), 'old' FROM orders WHERE id < 30000;
        INSERT INTO scores SELECT -n, '2026-11-20', 'gone', 'old' FROM generate_series(1, 5) AS n;
        UPDATE scores SET label = 'differs' WHERE day = '2026-11-20' AND id BETWEEN 3 AND 30;
    """)
    return orders.connection


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "status"],
        "map_row": score,
        "target_table": "scores",
        "target_columns": ["id", "day", "label"],
        "write_mode": "overwrite",
        "overwrite_where": "day = '{{ ds }}'",
        "max_parallelism": 2,
        "ranges": 6,
    }
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


def ask(connection: psycopg.Connection[Any], query: str) -> Any:
    [(value,)] = connection.execute(query).fetchall()
    return value


def assert_replaced(connection: psycopg.Connection[Any]) -> None:
    wanted = """
        SELECT id, date '2026-11-20', upper(status) FROM orders
        UNION ALL SELECT id, '2026-11-19', 'before' FROM orders
    """
    for one, other in ((wanted, "SELECT id, day, label FROM scores"), ("SELECT id, day, label FROM scores", wanted)):
        assert connection.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_the_rows_of_a_day_are_replaced(airflow: Airflow, scores: Any, ledger: Any) -> None:
    [(equal, differ)] = scores.execute("""
        SELECT count(*) FILTER (WHERE label <> 'differs'), count(*) FILTER (WHERE label = 'differs')
        FROM scores WHERE day = '2026-11-20' AND id > 0
    """).fetchall()
    result = airflow.run(operator(ledger=ledger))
    assert result.state == "success", result.log
    assert result.value == {
        "row_count": 20_000,
        "rows_inserted": 20_000 - equal - differ,
        "rows_updated": differ,
        "rows_unchanged": equal,
        "rows_deleted": 5,
        "rows_filtered": 0,
    }
    assert_replaced(scores)
    assert ask(scores, "SELECT count(*) FROM scores WHERE note = 'old'") == 20_000 + equal + differ
    assert ask(scores, LEFT) == 0


def test_the_lineage_has_the_target_and_no_staging_table(airflow: Airflow, scores: Any, monkeypatch: Any) -> None:
    written: list[Any] = []
    monkeypatch.setattr(TableLineage, "add_output", lambda _, *arguments: written.append(arguments[:2]))
    assert airflow.run(operator()).state == "success"
    assert written == [("public", "scores")]


@pytest.mark.parametrize("tolerated", [9, 10])
def test_rows_of_rejected_rows_are_deleted_unless_there_are_too_many(
    airflow: Airflow, scores: Any, tolerated: int
) -> None:
    first = scores.execute("SELECT id FROM orders ORDER BY id LIMIT 10").fetchall()

    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        return score(row) if (row[0],) not in first else row[:0]

    before = scores.execute("TABLE scores ORDER BY id, day").fetchall()
    options = {"ledger": "runs", "reject_table": "rejects", "tolerated_rejects": tolerated}
    result = airflow.run(operator(map_row=fail, **options))
    if tolerated < 10:
        assert result.state == "failed"
        assert scores.execute("TABLE scores ORDER BY id, day").fetchall() == before
    else:
        assert (result.value["rows_rejected"], result.value["rows_deleted"]) == (10, 15)


def test_a_task_that_is_cleared_changes_nothing(airflow: Airflow, scores: Any) -> None:
    assert airflow.run(operator()).state == "success"
    before = scores.execute("SELECT xmin::text, * FROM scores").fetchall()
    value = airflow.run(operator(), max_tries=1, try_number=2).value
    assert (value["rows_unchanged"], value["rows_inserted"], value["rows_deleted"]) == (20_000, 0, 0)
    assert scores.execute("SELECT xmin::text, * FROM scores").fetchall() == before


def test_the_target_may_be_in_another_database(airflow: Airflow, orders: Orders, postgres_server: Any) -> None:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as target:
        add_database(airflow, "dwh", target.info)
        target.execute('CREATE SCHEMA "S%"; CREATE TABLE "S%".scores (id bigint PRIMARY KEY, day date, label text)')
        target.execute("""INSERT INTO "S%".scores VALUES (-1, '2026-11-20', 'gone'), (-2, '2026-11-19', 'stays')""")
        value = airflow.run(operator(target_conn_id="dwh", target_table='"S%".scores')).value
        assert (value["rows_inserted"], value["rows_deleted"]) == (20_000, 1)
        assert ask(target, 'SELECT count(*) FROM "S%".scores') == 20_001
        assert ask(target, LEFT) == 0


def test_a_partitioned_target_without_a_key(airflow: Airflow, scores: Any) -> None:
    scores.execute("""
        ALTER TABLE scores DROP CONSTRAINT scores_pkey;
        ALTER TABLE scores RENAME TO old;
        CREATE TABLE scores (LIKE old INCLUDING DEFAULTS) PARTITION BY RANGE (day);
        CREATE TABLE scores_19 PARTITION OF scores FOR VALUES FROM ('2026-11-19') TO ('2026-11-20');
        CREATE TABLE scores_20 PARTITION OF scores DEFAULT;
        INSERT INTO scores TABLE old;
    """)
    there = ask(scores, "SELECT count(*) FROM scores WHERE day = '2026-11-20'")
    value = airflow.run(operator()).value
    assert (value["rows_inserted"], value["rows_deleted"]) == (20_000, there)
    assert_replaced(scores)


def test_a_partitioned_target_with_a_key(airflow: Airflow, scores: Any) -> None:
    scores.execute("""
        ALTER TABLE scores RENAME TO old;
        CREATE TABLE scores (LIKE old INCLUDING DEFAULTS, PRIMARY KEY (id, day)) PARTITION BY HASH (id);
        CREATE TABLE scores_0 PARTITION OF scores FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE scores_1 PARTITION OF scores FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        INSERT INTO scores TABLE old;
    """)
    value = airflow.run(operator()).value
    assert value["rows_deleted"] == 5
    assert value["rows_updated"] > 0
    assert_replaced(scores)


def test_a_trigger_sets_a_column_and_corrects_rows(airflow: Airflow, scores: Any) -> None:
    scores.execute("""
        TRUNCATE scores;
        ALTER TABLE scores ADD made text NOT NULL, ADD CHECK (label = lower(label));
        CREATE FUNCTION correct() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN new.made = 'trigger'; new.label = lower(new.label); RETURN new; END $$;
        CREATE TRIGGER correct BEFORE INSERT OR UPDATE ON scores FOR EACH ROW EXECUTE FUNCTION correct();
    """)
    result = airflow.run(operator())
    assert result.state == "success", result.log
    assert ask(scores, "SELECT count(*) FROM scores WHERE made = 'trigger' AND label = lower(label)") == 20_000


def test_a_condition_may_use_columns_that_the_server_sets(airflow: Airflow, scores: Any) -> None:
    scores.execute("""
        ALTER TABLE scores ADD month integer GENERATED ALWAYS AS (extract(month FROM day)) STORED,
            ADD region text NOT NULL DEFAULT 'here'
    """)
    where = "month = 11 AND region = 'here' AND day > '2026-11-19'"
    assert airflow.run(operator(overwrite_where=where)).state == "success"
    assert_replaced(scores)
    scores.execute("ALTER TABLE scores ALTER region SET DEFAULT 'there'; DELETE FROM scores WHERE id = 3")
    error = str(airflow.run(operator(overwrite_where=where), run_id="another").error)
    assert "outside of overwrite_where" in error
    assert "(3,2026-11-20)" in error


def test_nothing_produced_deletes_all_rows(airflow: Airflow, scores: Any) -> None:
    there = ask(scores, "SELECT count(*) FROM scores")
    value = airflow.run(operator(map_row=lambda row: None, overwrite_where="TRUE")).value
    assert (value["rows_filtered"], value["rows_deleted"]) == (20_000, there)
    assert ask(scores, "SELECT count(*) FROM scores") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overwrite_where": None}, 'overwrite_where: is required with write_mode="overwrite"'),
        ({"overwrite_where": True}, "overwrite_where: must be a condition in SQL, got True."),
        ({"write_mode": "upsert"}, 'overwrite_where: is for write_mode="overwrite".'),
        ({"update_columns": ["label"]}, 'update_columns: is not used with write_mode="overwrite"'),
        ({"version_column": "label"}, 'version_column: is for write_mode="upsert".'),
        ({"tolerated_failures": "5%"}, 'tolerated_failures: must be 0 with write_mode="overwrite", got'),
        ({"incremental": True, "key": "id"}, 'incremental: cannot be used with write_mode="overwrite"'),
        ({"target_table": None}, 'target_table: is required with write_mode="overwrite"'),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        operator(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overwrite_where": "{{ '' }}"}, "overwrite_where: is required"),
        ({"overwrite_where": "dya = '{{ ds }}'"}, "overwrite_where: the server rejects \"dya = '2026-11-20'\": column"),
        ({"overwrite_where": "day = 'x"}, 'overwrite_where: in "day = \'x" a bracket or a quote is not closed.'),
        ({"overwrite_where": "TRUE) OR (TRUE"}, "overwrite_where: in 'TRUE) OR (TRUE' a bracket"),
        ({"overwrite_where": "day = (SELECT max(day) FROM scores)"}, "overwrite_where: 'day = (SELECT max(day) FROM"),
        ({"overwrite_where": "day IN (table days)"}, "overwrite_where: 'day IN (table days)' has a subquery"),
        ({"overwrite_where": "day = now()::date"}, "overwrite_where: 'day = now()::date' has now()"),
        ({"overwrite_where": "day = 'today'"}, "overwrite_where: \"day = 'today'\" has 'today'"),
        ({"overwrite_where": "id"}, "overwrite_where: the server rejects 'id'"),
        ({"conflict_columns": ["id"]}, "conflict_columns: public.scores has no unique index on id"),
        ({"target_columns": ["id", "label"]}, "target_columns: day of public.scores is NOT NULL"),
        (
            {"target_table": "keyless"},
            "conflict_columns: public.keyless has no primary key, and a foreign key of child",
        ),
        ({"target_table": "parent"}, "target_table: public.parent has the child heir"),
        ({"target_table": "ruled"}, "target_table: public.ruled has the rule keep"),
        ({"target_table": "a_view"}, "target_table: public.a_view is a view."),
    ],
)
def test_what_cannot_be_replaced_is_refused_before_a_worker_starts(
    airflow: Airflow, scores: Any, options: dict[str, Any], message: str
) -> None:
    columns = "(id bigint, day date, label text)"
    scores.execute(f"""
        CREATE VIEW a_view AS TABLE scores;
        CREATE TABLE keyless {columns};
        CREATE UNIQUE INDEX ON keyless (id);
        CREATE TABLE child (id bigint REFERENCES keyless (id));
        CREATE TABLE parent {columns};
        CREATE TABLE heir () INHERITS (parent);
        CREATE TABLE ruled {columns};
        CREATE RULE keep AS ON DELETE TO ruled DO INSTEAD NOTHING;
    """)
    result = airflow.run(operator(**options, retries=3), max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith(message)
    assert ask(scores, LEFT) == 0


def test_the_error_for_a_role_that_cannot_write_names_the_grant(airflow: Airflow, scores: Any) -> None:
    scores.execute("CREATE ROLE writer LOGIN PASSWORD 'pw'; GRANT SELECT, INSERT, UPDATE ON scores TO writer")
    try:
        add_database(airflow, "dwh", scores.info)
        airflow.connections["dwh"].login, airflow.connections["dwh"].password = "writer", "pw"

        def error() -> str:
            return str(airflow.run(operator(target_conn_id="dwh")).error)

        assert 'Run: GRANT SELECT, INSERT, DELETE, UPDATE ON "public"."scores" TO writer;' in error()
        scores.execute("GRANT DELETE ON scores TO writer; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        assert 'schema public. Run: GRANT CREATE ON SCHEMA "public" TO writer;' in error()
        scores.execute("GRANT CREATE ON SCHEMA public TO writer; ALTER TABLE scores ENABLE ROW LEVEL SECURITY")
        assert "has row security for this role" in error()
        scores.execute("ALTER TABLE scores DISABLE ROW LEVEL SECURITY")
        assert airflow.run(operator(target_conn_id="dwh")).state == "success"
        assert_replaced(scores)
    finally:
        scores.execute("DROP OWNED BY writer; DROP ROLE writer")


def test_a_plan_leaves_nothing(airflow: Airflow, scores: Any) -> None:
    assert airflow.run(operator(plan_only=True)).value["ranges"] == 6
    assert ask(scores, LEFT) == 0
