"""BurlaPostgresTransformOperator: from the parameters to the rows of the target and the result."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from burla_provider.operators.transform import BurlaPostgresTransformOperator
from tests.airflow.conftest import Orders, add_database
from tests.support import drawn_keys
from tests.support.marks import conninfo_of
from tests.support.task_runner import Airflow

WANTED = "SELECT id, upper(status) AS label, amount * 2 AS doubled FROM orders"


def label(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[0], row[1].upper(), row[2] * 2


def label_dict(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "label": row["status"].upper(), "doubled": row["amount"] * 2}


def label_all(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [label(row) for row in rows]


@pytest.fixture
def labels(orders: Orders) -> psycopg.Connection[Any]:
    """The table that rows are written to."""
    orders.connection.execute("CREATE TABLE labels (id bigint PRIMARY KEY, label text, doubled numeric NOT NULL)")
    return orders.connection


def operator(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {
        "postgres_conn_id": "orders_db",
        "table": "orders",
        "columns": ["id", "status", "amount"],
        "target_table": "labels",
        "write_mode": "upsert",
        "max_parallelism": 2,
        "ranges": 6,
    }
    if not {"map_batch", "map_row"} & set(options):
        usual["map_row"] = label
    return BurlaPostgresTransformOperator(task_id="t", **usual | options)


def assert_written(connection: psycopg.Connection[Any], wanted: str = WANTED) -> None:
    for one, other in ((wanted, "TABLE labels"), ("TABLE labels", wanted)):
        assert connection.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []


@pytest.mark.parametrize("ledger", [None, "ledger"])
@pytest.mark.parametrize(
    ("write_mode", "counts"),
    [("insert", {"rows_inserted": 20_000}), ("upsert", {"rows_written": 20_000, "rows_unchanged": 0})],
)
def test_every_row_is_written(airflow: Airflow, labels: Any, write_mode: str, ledger: Any, counts: Any) -> None:
    result = airflow.run(operator(write_mode=write_mode, ledger=ledger or "runs"))
    assert result.state == "success", result.error
    assert result.value == {"row_count": 20_000, **counts, "rows_filtered": 0}
    assert_written(labels)


@pytest.mark.parametrize(
    "function", [{"map_row": label_dict, "row_format": "dict"}, {"map_batch": label_all, "batch_size": 300}]
)
def test_functions_get_rows_in_the_requested_format(airflow: Airflow, labels: Any, function: Any) -> None:
    assert airflow.run(operator(**function)).state == "success"
    assert_written(labels)


def test_an_update_changes_what_is_there(airflow: Airflow, labels: Any) -> None:
    labels.execute("INSERT INTO labels SELECT id, 'old', -1 FROM orders WHERE id < 30000")
    [(there,)] = labels.execute("SELECT count(*) FROM labels").fetchall()
    result = airflow.run(operator(write_mode="update", update_columns=["label"]))
    assert result.value["rows_updated"] == there
    assert_written(labels, "SELECT id, upper(status), -1 FROM orders WHERE id < 30000")


def test_another_run_of_an_upsert_writes_nothing(airflow: Airflow, labels: Any) -> None:
    airflow.run(operator())
    result = airflow.run(operator(), run_id="another")
    assert result.value == {"row_count": 20_000, "rows_written": 0, "rows_unchanged": 20_000, "rows_filtered": 0}


def test_a_retry_continues_although_the_source_has_changed(airflow: Airflow, labels: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if row[0] > 40_000:
            raise ValueError("no more")
        return label(row)

    first = airflow.run(operator(write_mode="insert", ledger="runs", map_row=fail, retries=1), max_tries=1)
    assert first.state == "up_for_retry"
    [(written,)] = labels.execute("SELECT count(*) FROM labels").fetchall()
    assert 0 < written < 20_000
    labels.execute("UPDATE orders SET status = 'new'")
    second = airflow.run(operator(write_mode="insert", ledger="runs", retries=1), try_number=2, max_tries=1)
    assert second.value == {"row_count": 20_000, "rows_inserted": 20_000, "rows_filtered": 0, "snapshots": 2}
    assert labels.execute("SELECT count(*), count(*) FILTER (WHERE label = 'NEW') FROM labels").fetchone() == (
        20_000,
        20_000 - written,
    )


def test_a_retry_does_not_continue_in_another_order(airflow: Airflow, labels: Any) -> None:
    def fail(row: tuple[Any, ...]) -> tuple[Any, ...]:
        if fail.calls == 15_000:  # type: ignore[attr-defined]
            raise ValueError("no")
        fail.calls += 1  # type: ignore[attr-defined]
        return label(row)

    fail.calls = 0  # type: ignore[attr-defined]
    options = {"key": "status", "ranges": 1, "write_mode": "insert", "ledger": "ledger"}
    assert airflow.run(operator(**options, map_row=fail)).state == "failed"
    [(written,)] = labels.execute("SELECT count(*) FROM labels").fetchall()
    assert 0 < written < 20_000
    labels.execute("""
        ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD k bigint;
        UPDATE orders SET k = -id; ALTER TABLE orders ADD PRIMARY KEY (k);
    """)
    result = airflow.run(operator(**options), try_number=2)
    assert "changed since this run's first try" in str(result.error)
    assert labels.execute("SELECT count(*) FROM labels").fetchone() == (written,)


def test_the_target_may_be_in_another_database(airflow: Airflow, orders: Orders, postgres_server: Any) -> None:
    with postgres_server.database() as conninfo, psycopg.connect(conninfo, autocommit=True) as target:
        add_database(airflow, "dwh", target.info)
        target.execute("CREATE SCHEMA s; CREATE TABLE s.labels (id bigint PRIMARY KEY, label text, doubled numeric)")
        options = {"target_conn_id": "dwh", "target_table": "s.labels", "ledger": "s.runs", "write_mode": "insert"}
        assert airflow.run(operator(**options)).state == "success"
        wanted = orders.connection.execute(WANTED + " ORDER BY id").fetchall()
        assert target.execute("SELECT * FROM s.labels ORDER BY id").fetchall() == wanted
        assert target.execute("SELECT count(*) FROM s.runs WHERE range_index >= 0").fetchone() == (6,)


def test_a_row_may_become_several_or_none(airflow: Airflow, labels: Any) -> None:
    def several(row: tuple[Any, ...]) -> Iterator[tuple[Any, ...]] | None:
        return None if row[1] == "open" else ((row[0] + shift, row[1], 0) for shift in (0, 1))

    value = airflow.run(operator(map_row=several)).value
    [(open_rows,)] = labels.execute("SELECT count(*) FROM orders WHERE status = 'open'").fetchall()
    assert value["rows_filtered"] == open_rows
    assert value["rows_written"] == 2 * (20_000 - open_rows)


@pytest.mark.parametrize("options", [{"where": "FALSE"}, {"map_row": lambda row: None}, {"lower": 10**9, "key": "id"}])
@pytest.mark.parametrize("mode", ["insert", "upsert", "update"])
def test_counts_are_there_if_nothing_is_written(
    airflow: Airflow, labels: Any, options: dict[str, Any], mode: str
) -> None:
    counts = {"insert": {"rows_inserted"}, "upsert": {"rows_written", "rows_unchanged"}}
    names = counts.get(mode, {"rows_updated", "rows_unchanged"})
    value = airflow.run(operator(**options, write_mode=mode, ledger="runs")).value
    assert value.keys() == {"row_count", "rows_filtered"} | names
    assert [value[name] for name in names] == [0] * len(names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_mode": "insert"}, 'ledger: is required with write_mode="insert"'),
        ({"write_mode": "append"}, "write_mode: 'append' is unknown."),
        ({"map_batch": label_all, "map_row": label}, "map_row, map_batch: exactly one must be given"),
        ({"split": "pages"}, "split: 'pages' cannot be used by a job that writes"),
        ({"write_mode": "update", "version_column": "v"}, 'version_column: is for write_mode="upsert".'),
        ({"row_format": "arrow"}, "row_format: 'arrow' is unknown."),
        ({"target_columns": ["id", "id"]}, "target_columns: has a column twice: id, id."),
        ({"update_columns": ["label", "label"]}, "update_columns: has a column twice: label, label."),
    ],
)
def test_what_cannot_be_used_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        operator(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_table": "nothing"}, 'target_table: "nothing" not found in database '),
        ({"target_table": "a_view"}, "target_table: public.a_view is a view. Name a table."),
        (
            {"target_columns": ["id", "lable"]},
            "target_columns: lable is not a column of public.labels. Did",
        ),
        (
            {"target_columns": ["id", "label"]},
            "target_columns: doubled of public.labels is NOT NULL and has no",
        ),
        ({"target_columns": ["label", "doubled"]}, "target_columns: id of public.labels is NOT NULL and has no"),
        (
            {"target_columns": ["label"], "write_mode": "update"},
            "target_columns: the key column id of public.labels is not among them.",
        ),
        ({"target_columns": ["id"], "write_mode": "update"}, "update_columns: public.labels has only key columns."),
        ({"conflict_columns": ["label"]}, "conflict_columns: public.labels has no unique index on label"),
        (
            {"update_columns": ["lable"]},
            "update_columns: lable is not a column of public.labels that is written",
        ),
        ({"version_column": "v"}, "version_column: v is not a column of public.labels that is written"),
        ({"version_column": "doubled", "update_columns": ["label"]}, "version_column: doubled is not one of update_"),
        ({"version_column": "doubled", "update_columns": []}, "version_column: doubled is not one of update_columns"),
        ({"version_column": "id"}, "version_column: id is one of conflict_columns"),
        (
            {"target_table": "documents", "version_column": "doc"},
            "version_column: doc of public.documents has no greater value: could not identify an ordering operator",
        ),
        ({"target_table": "ruled"}, "target_table: public.ruled has the rule other, which COPY ignores."),
        ({"target_table": "keyless"}, "conflict_columns: public.keyless has no primary key."),
        ({"target_table": "computed", "target_columns": ["id", "g"]}, "target_columns: g of public.computed is a gen"),
        (
            {"target_table": "computed", "target_columns": ["id", "i"]},
            "target_columns: i of public.computed is GENER",
        ),
        (
            {"target_table": "computed", "conflict_columns": ["i"]},
            "conflict_columns: i of public.computed is GENERATED",
        ),
        (
            {"target_table": "computed", "write_mode": "update", "conflict_columns": ["i"], "update_columns": ["i"]},
            "update_columns: i of public.computed is GENERATED",
        ),
        ({"target_table": "nullable", "conflict_columns": ["a"]}, "conflict_columns: a of public.nullable can be NULL"),
        ({"target_table": "orders"}, "target_table: public.orders is the table that is read."),
        ({"target_table": "child"}, "target_table: public.child is a partition or a child of public.orders, which is"),
        ({"table": "grandchild"}, "target_table: public.labels is the parent of public.grandchild, which is read"),
        ({}, "target_table: public.labels has the child a_child, in which the keys of public.labels may occur again."),
        ({"write_mode": "update"}, "target_table: public.labels has the child a_child, in which the keys"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused_before_a_worker_starts(
    airflow: Airflow, labels: Any, options: dict[str, Any], message: str
) -> None:
    labels.execute("""
        CREATE VIEW a_view AS TABLE labels;
        CREATE TABLE keyless (id bigint);
        CREATE TABLE documents (id bigint PRIMARY KEY, doc json);
        CREATE TABLE ruled (id bigint PRIMARY KEY, label text);
        CREATE RULE other AS ON INSERT TO ruled DO INSTEAD NOTHING;
        CREATE TABLE nullable (a bigint UNIQUE);
        CREATE TABLE child (PRIMARY KEY (id)) INHERITS (orders);
        CREATE TABLE a_child () INHERITS (labels);
        CREATE TABLE grandchild (status text, amount numeric) INHERITS (a_child);
        CREATE TABLE computed (
            id bigint PRIMARY KEY, g bigint GENERATED ALWAYS AS (id) STORED,
            i bigint GENERATED ALWAYS AS IDENTITY UNIQUE);
    """)
    result = airflow.run(operator(**options, retries=3), max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith(message)


def test_an_update_finds_rows_by_a_key_that_the_server_sets(airflow: Airflow, labels: Any) -> None:
    labels.execute("""
        DROP TABLE labels;
        CREATE TABLE labels (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, label text, doubled numeric,
            g bigint GENERATED ALWAYS AS (1) STORED);
        INSERT INTO labels OVERRIDING SYSTEM VALUE SELECT id FROM orders;
    """)
    assert airflow.run(operator(write_mode="update")).value["rows_updated"] == 20_000
    assert_written(labels, WANTED.replace(" FROM", ", 1::bigint FROM"))


def test_a_trigger_or_a_domain_may_set_a_column(airflow: Airflow, labels: Any) -> None:
    labels.execute("""
        CREATE DOMAIN zero AS integer DEFAULT 0;
        CREATE TABLE stamped (id bigint PRIMARY KEY, label text, doubled numeric, zero zero NOT NULL);
        CREATE TABLE triggered (id bigint PRIMARY KEY, label text, doubled numeric, zero integer NOT NULL);
        CREATE FUNCTION zero() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.zero = 0; RETURN new; END $$;
        CREATE TRIGGER zero BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION zero();
    """)
    for table in ("stamped", "triggered"):
        result = airflow.run(operator(target_table=table, target_columns=["id", "label", "doubled"]))
        assert result.state == "success", result.error
        assert labels.execute(f"SELECT sum(zero), count(*) FROM {table}").fetchone() == (0, 20_000)


def upper_words(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return f"W{row[0]}", row[0], "B" if row[0] % 2 else "b"


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"write_mode": "update", "update_columns": ["id"]}, "rows_updated"),
        ({"write_mode": "upsert", "version_column": "version"}, "rows_unchanged"),
        ({"write_mode": "overwrite", "overwrite_where": "id <> 0"}, "rows_updated"),
    ],
)
def test_keys_and_versions_are_compared_by_the_operators_of_their_types(
    airflow: Airflow, orders: Orders, options: dict[str, Any], count: str
) -> None:
    # ext.word ignores case, like citext. Its operators are not on the search path, where those of text are found.
    drawn_keys.prepare(orders.connection)
    orders.connection.execute("""
        CREATE TABLE numbers AS SELECT generate_series(1, 300) AS id;
        ALTER TABLE numbers ADD PRIMARY KEY (id);
        CREATE TABLE words (k ext.word PRIMARY KEY, id bigint, version ext.word);
        INSERT INTO words SELECT 'w' || id, -id, CASE WHEN id % 2 = 0 THEN 'B' ELSE 'b' END FROM numbers
    """)
    usual = {"table": "numbers", "columns": ["id"], "target_table": "words", "map_row": upper_words}
    result = airflow.run(operator(**usual | options))
    assert result.state == "success", result.error
    assert result.value[count] == 300
    assert orders.connection.execute("SELECT count(*) FROM words").fetchone() == (300,)


def test_a_row_whose_key_is_written_otherwise_is_computed_again(airflow: Airflow, orders: Orders) -> None:
    connection, conninfo = orders.connection, conninfo_of(orders.connection)
    drawn_keys.prepare(connection)
    connection.execute("""
        CREATE TABLE words (k ext.word PRIMARY KEY, n integer);
        INSERT INTO words SELECT 'w' || g, 0 FROM generate_series(1, 500) AS g;
    """)

    def disturbed(row: tuple[Any, ...]) -> tuple[Any, ...]:
        import psycopg

        if row == ("w77", 0):
            with psycopg.connect(conninfo) as other:
                other.execute("UPDATE words SET k = 'W77', n = 5 WHERE k::text = 'w77'")
        return (row[1] + 1,)

    options = {"table": "words", "columns": ["k", "n"], "upper": "x", "target_table": None, "write_mode": "update"}
    result = airflow.run(operator(map_row=disturbed, update_columns=["n"], ledger="runs", **options))
    assert result.state == "success", result.error
    assert result.value["rows_updated"] == 500
    assert connection.execute("SELECT k::text FROM words WHERE n = 6").fetchall() == [("W77",)]
    assert connection.execute("SELECT count(*) FROM words WHERE n = 1").fetchone() == (499,)


def test_the_target_is_the_source_also_by_another_host_name(airflow: Airflow, labels: Any) -> None:
    add_database(airflow, "same", labels.info)
    same = airflow.connections["same"]
    same.host = "localhost" if same.host == "127.0.0.1" else "127.0.0.1"
    result = airflow.run(operator(target_conn_id="same", target_table="orders", target_columns=["id", "status"]))
    assert str(result.error).startswith("target_table: public.orders is the table that is read.")
    limits = operator(target_conn_id="same", max_parallelism=None)
    assert airflow.run(limits).state == "success"
    assert_written(labels)


def test_the_error_for_a_role_that_cannot_write_names_the_grant(airflow: Airflow, labels: Any, orders: Orders) -> None:
    labels.execute("CREATE ROLE reader LOGIN PASSWORD 'pw'; GRANT SELECT ON orders TO reader")
    try:
        add_database(airflow, "dwh", labels.info)
        airflow.connections["dwh"].login, airflow.connections["dwh"].password = "reader", "pw"
        error = str(airflow.run(operator(target_conn_id="dwh")).error)
        assert error.startswith("target_table: the role reader cannot ")
        assert 'Run: GRANT SELECT, INSERT, UPDATE ON "public"."labels" TO reader;' in error
        error = str(airflow.run(in_place(postgres_conn_id="dwh")).error)
        assert error.startswith("table: the role reader cannot UPDATE in public.orders.")
    finally:
        labels.execute("DROP OWNED BY reader; DROP ROLE reader")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"password": "wrong"}, "target_conn_id: the login with the connection 'dwh' was rejected: "),
        ({"extra": '{"options": "-c default_transaction_read_only=on"}'}, "target_conn_id: the server is read-only"),
    ],
)
def test_a_target_connection_that_cannot_be_used_is_refused_by_name(
    airflow: Airflow, labels: Any, options: dict[str, str], message: str
) -> None:
    labels.execute("CREATE ROLE writer LOGIN PASSWORD 'pw'; GRANT ALL ON labels TO writer")
    try:
        add_database(airflow, "dwh", labels.info)
        for name, value in ({"login": "writer", "password": "pw"} | options).items():
            setattr(airflow.connections["dwh"], name, value)
        assert str(airflow.run(operator(target_conn_id="dwh")).error).startswith(message)
    finally:
        labels.execute("DROP OWNED BY writer; DROP ROLE writer")


def in_place(**options: Any) -> BurlaPostgresTransformOperator:
    usual = {"columns": ["id", "status"], "map_row": label_only, "write_mode": "update", "update_columns": ["note"]}
    return operator(**{"target_table": None, **usual, **options})


def label_only(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (f"{row[1]} {row[0]}",)


@pytest.mark.parametrize("ledger", [None, "ledger"])
def test_a_column_is_filled_in_place(airflow: Airflow, orders: Orders, ledger: Any) -> None:
    result = airflow.run(in_place(ledger=ledger, where="note IS NULL"))
    assert result.value == {"row_count": 4_000, "rows_updated": 4_000, "rows_unchanged": 0, "rows_filtered": 0}
    query = "SELECT count(*) FROM orders WHERE note IS DISTINCT FROM status || ' ' || id AND note NOT LIKE 'note %'"
    assert orders.connection.execute(query).fetchone() == (0,)


def test_a_batch_is_updated_in_place(airflow: Airflow, orders: Orders) -> None:
    def label_batch(rows: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        return [{"note": row["status"]} if row["id"] % 2 else None for row in rows]

    options = {"map_row": None, "map_batch": label_batch, "row_format": "dict"}
    value = airflow.run(in_place(**options)).value
    query = "SELECT count(*) FROM orders WHERE note = status AND id % 2 = 1"
    assert orders.connection.execute(query).fetchone() == (value["rows_updated"],)
    assert value["rows_updated"] + value["rows_filtered"] == 20_000


def test_a_longer_name_is_another_column(airflow: Airflow, orders: Orders) -> None:
    orders.connection.execute("ALTER TABLE orders ADD note_id bigint, ADD orders integer")
    assert airflow.run(in_place(columns=["note_id", "orders"], where="id < 100")).state == "success"


def test_a_qualified_column_is_no_whole_row(airflow: Airflow, orders: Orders) -> None:
    columns = {"id": 'orders.id + "orders" . id', "status": "orders.status"}
    result = airflow.run(in_place(columns=columns, where="id < 100"))
    assert result.state == "success", result.log


@pytest.mark.parametrize("returned", [None, {"note": 1}, "text", 5])
def test_what_an_update_in_place_needs_of_map_batch(airflow: Airflow, orders: Orders, returned: Any) -> None:
    result = airflow.run(in_place(map_row=None, map_batch=lambda rows: returned, ranges=1))
    assert f"map_batch returned {type(returned).__name__}" in str(result.error)
    assert "Return a list" in str(result.error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"write_mode": "insert", "ledger": "l"}, 'target_table: is required with write_mode="insert".'),
        ({"update_columns": None}, "update_columns: is required without a target_table."),
        ({"target_columns": ["note"]}, "target_columns: is for writing to a target_table."),
        ({"consistency": "snapshot"}, 'consistency: must be "none" without a target_table'),
    ],
)
def test_what_an_update_in_place_cannot_use_is_refused_at_parse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message):
        in_place(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["id", "status", "note"]}, "ledger: is required, because note is read and written"),
        ({"columns": {"id": "id", "status": "coalesce(NOTE, '')"}}, "ledger: is required, because note is read"),
        ({"columns": None}, "ledger: is required, because note is read and written"),
        ({"columns": ["id", "with_note"]}, "ledger: is required, because note is read and written"),
        ({"columns": {"id": "id", "status": "to_jsonb(Orders)"}}, "ledger: is required, because note is read"),
        ({"columns": {"id": "id", "status": 'row("orders".*)'}}, "ledger: is required, because note is read"),
        ({"update_columns": ["id"]}, "update_columns: id is a column of the key"),
        ({"update_columns": ["nota"]}, "update_columns: nota is not a column of public.orders. Did you mean note?"),
        ({"table": "a_view", "key": "id"}, "table: public.a_view is a view. Name a table."),
        ({"table": "keyless", "key": "id"}, "table: public.keyless has no primary key"),
        ({"table": "parent"}, "table: public.parent has children, in which its primary key is not unique."),
    ],
)
def test_a_table_that_cannot_be_updated_in_place_is_refused(
    airflow: Airflow, orders: Orders, options: dict[str, Any], message: str
) -> None:
    orders.connection.execute("""
        CREATE VIEW a_view AS TABLE orders; CREATE TABLE keyless AS TABLE orders;
        CREATE TABLE parent (LIKE orders INCLUDING ALL); CREATE TABLE child () INHERITS (parent);
        ALTER TABLE orders ADD with_note text GENERATED ALWAYS AS (note) STORED;
    """)
    result = airflow.run(in_place(**options, retries=3), max_tries=3)
    assert result.state == "failed"
    assert str(result.error).startswith(message)
