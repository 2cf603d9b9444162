"""What a function makes of rows is written to the target, each row once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.ledger_table import prepare_ledger, read_outcomes
from burla_provider.worker.chunk_ledger import Progress, claim_chunk, store_progress
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import Transform
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat
from burla_provider.worker.sinks import Insert, Target, Update, UpdateInPlace, Upsert
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ORDERS, ROWS, ranges
from tests.support.marks import conninfo_of
from tests.support.postgres import report_writes
from tests.support.waiting import wait_for

TARGET = Target("public", "results", ("id", "cents"))
FORMAT = RowFormat(("id", "amount"), ("id", "cents"))
LEDGER = Ledger("public", "ledger", "dag/task/run")
INSERT = Insert(TARGET)
UPSERT = Upsert(TARGET, ("id",), ("cents",))
UPDATE = Update(TARGET, ("id",), ("cents",))


def cents(row):
    return row[0], int(row[1] * 100)


@pytest.fixture
def results(orders: psycopg.Connection) -> psycopg.Connection:
    orders.execute("CREATE TABLE results (id bigint PRIMARY KEY, cents integer)")
    prepare_ledger(orders, LEDGER)
    return orders


@pytest.fixture
def transform(worker, results):
    """``transform(sink)``: a worker that writes to ``sink`` with the ledger."""

    def make(sink, function=cents, ledger=LEDGER, unique_key=KEY, **fields):
        function = MapRow(function, FORMAT, 10) if callable(function) and not isinstance(function, MapRow) else function
        writer = TargetWriter(connection_parameters(results), SessionSettings(), sink, ledger)
        return worker(Transform(function, writer, unique_key, chunk_rows=10), **fields)

    return make


def written(connection: psycopg.Connection, table: str = "results") -> list[tuple]:
    return connection.execute(f"SELECT id, cents FROM {table} ORDER BY id").fetchall()


EXPECTED = [(number, number) for number in range(1, ROWS + 1)]


def test_the_end_of_a_worker_closes_its_connection_to_the_target(transform, results):
    worker = transform(INSERT)
    assert worker(ranges()[0]).ok
    sessions = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'burla%'"
    )
    assert results.execute(sessions).fetchone() == (2,)
    worker.close()
    wait_for(lambda: results.execute(sessions).fetchone() == (0,))


@pytest.mark.parametrize(
    ("sink", "count"), [(INSERT, "rows_inserted"), (UPSERT, "rows_written")], ids=["insert", "upsert"]
)
def test_every_row_is_written_once(transform, results, sink, count):
    outcomes = [transform(sink)(one) for one in ranges()]
    assert [outcome.failure for outcome in outcomes] == [None] * 10
    assert written(results) == EXPECTED
    assert sum(outcome.row_count for outcome in outcomes) == ROWS
    assert sum(outcome.value[count] for outcome in outcomes) == ROWS


@pytest.mark.parametrize("sink", [INSERT, UPSERT], ids=["insert", "upsert"])
def test_a_finished_range_is_not_written_again(transform, results, sink):
    one = ranges(1)[0]
    first = transform(sink)(one)
    results.execute("UPDATE results SET cents = -1")
    second = transform(sink)(one)
    assert (second.value, second.row_count) == (first.value, first.row_count)
    assert results.execute("SELECT DISTINCT cents FROM results").fetchall() == [(-1,)]
    assert [outcome.value for outcome in read_outcomes(results, LEDGER)] == [first.value]


def test_a_range_continues_behind_the_last_chunk_that_was_written(transform, results):
    def fail_at_55(row):
        if row[0] == 55:
            raise ValueError("no")
        return row[0], 1

    one = ranges(2)[0]
    failed = transform(INSERT, fail_at_55)(one)
    assert (failed.failure.message, failed.failure.rows) == ("no", "id = 55")
    assert written(results) == [(number, 1) for number in range(1, 51)]
    assert not list(read_outcomes(results, LEDGER))
    # The source has changed since. Rows that were computed are not computed again.
    results.execute("UPDATE orders SET amount = -1 WHERE id IN (10, 60); DELETE FROM orders WHERE id IN (20, 70)")
    outcome = transform(INSERT, lambda row: (row[0], 2 if row[1] > 0 else 3))(one)
    expected = [(n, 1 if n <= 50 else 3 if n == 60 else 2) for n in range(1, 501) if n != 70]
    assert written(results) == expected
    assert outcome.row_count == len(expected) == outcome.value["rows_inserted"]


def test_two_workers_of_a_range_write_it_once(transform, results):
    one = ranges(1)[0]
    second = transform(INSERT)

    def overtaken(row):
        if row[0] == 35:
            second(one)
        return row[0], -1

    task = transform(INSERT).task
    processor = Transform(MapRow(overtaken, FORMAT, 10), task.processor.writer, KEY, chunk_rows=10)
    with psycopg.connect(conninfo_of(results)) as connection:  # not pickled, because of ``second``
        result = processor(connection, ORDERS, one)
    processor.writer.close()
    assert written(results) == [(n, -1 if n <= 30 else n) for n in range(1, ROWS + 1)]
    assert result.row_count == result.value["rows_inserted"] == ROWS


def test_a_new_range_is_claimed_in_one_statement(results, monkeypatch):
    one, statements = ranges(1)[0], []
    execute = psycopg.Connection.execute
    monkeypatch.setattr(psycopg.Connection, "execute", lambda *given: statements.append(given) or execute(*given))
    assert claim_chunk(results, LEDGER, one, Progress(), "worker") == Progress()
    assert len(statements) == 1
    store_progress(results, LEDGER, one, Progress(1, ("7",), 7), "worker")
    for before in (Progress(), Progress(1)):
        assert claim_chunk(results, LEDGER, one, before, "another").position == ("7",)


def test_a_range_does_not_begin_again_if_its_row_in_the_ledger_is_gone(transform, results):
    conninfo = conninfo_of(results)

    def meddle(row):
        import psycopg

        if row[0] == 25:
            with psycopg.connect(conninfo) as other:
                other.execute("DELETE FROM ledger")
        return row[0], 1

    failure = transform(INSERT, meddle)(ranges(1)[0]).failure
    assert failure.type.endswith("UserFunctionError")
    assert "The ledger public.ledger has no row any more for range 0" in failure.message
    assert "of which 20 rows are written" in failure.message
    assert written(results) == [(number, 1) for number in range(1, 21)]


def test_the_row_of_a_range_that_another_session_removes_while_it_is_claimed_is_missed(results):
    one = ranges(1)[0]
    claim_chunk(results, LEDGER, one, Progress(), "worker")
    with psycopg.connect(conninfo_of(results)) as other, ThreadPoolExecutor(1) as threads:
        other.execute("DELETE FROM ledger")
        with psycopg.connect(conninfo_of(results), autocommit=True) as waiting:
            claim = threads.submit(claim_chunk, waiting, LEDGER, one, Progress(1), "another")
            query = "SELECT wait_event_type FROM pg_stat_activity WHERE pid = %s"
            pid = waiting.info.backend_pid
            wait_for(lambda: results.execute(query, [pid]).fetchone() == ("Lock",))
            other.commit()
            with pytest.raises(UserFunctionError, match="has no row any more"):
                claim.result()


def test_progress_is_not_stored_without_a_row(results):
    with pytest.raises(UserFunctionError, match="has no row any more"):
        store_progress(results, LEDGER, ranges(1)[0], Progress(1, ("7",), 7), "worker")


def test_a_range_without_a_unique_key_is_one_chunk(transform, results):
    def fail_at_55(row):
        assert row[0] != 55
        return row

    assert transform(INSERT, fail_at_55, unique_key=Key())(ranges(2)[0]).failure
    assert written(results) == []


def test_rows_with_a_null_key_are_read_by_the_unique_key(transform, results):
    results.execute("ALTER TABLE orders ADD day date; UPDATE orders SET day = '2026-01-01' WHERE id % 2 = 0")
    key = Key((KeyColumn("day", "date", nullable=True),))
    for part in (KeyRange(key, 0, ("2026-01-01",), None), KeyRange(key, 1, nulls=True)):
        assert transform(INSERT, key=key)(part).failure is None
    assert written(results) == EXPECTED


def test_the_range_of_a_whole_table_includes_rows_with_a_null_key(transform, results):
    results.execute("ALTER TABLE orders ADD day date; UPDATE orders SET day = '2026-01-01' WHERE id % 2 = 0")
    key = Key((KeyColumn("day", "date", nullable=True),))
    assert transform(INSERT, key=key)(KeyRange(key, 0)).failure is None
    assert written(results) == EXPECTED


def test_upsert_without_a_ledger_writes_only_what_differs(transform, results):
    results.execute("INSERT INTO results SELECT g, CASE WHEN g > 100 THEN g END FROM generate_series(51, 150) AS g")
    before = results.execute("SELECT id, xmin FROM results WHERE id > 100 ORDER BY id").fetchall()
    outcome = transform(UPSERT, ledger=None)(ranges(1)[0])
    assert written(results) == EXPECTED
    assert outcome.value == {"rows_written": ROWS - 50, "rows_unchanged": 50, "rows_filtered": 0}
    assert results.execute("SELECT id, xmin FROM results WHERE id BETWEEN 101 AND 150 ORDER BY id").fetchall() == before


def test_values_that_only_seem_equal_are_written(transform, results):
    results.execute("DROP TABLE results; CREATE TABLE results (id bigint PRIMARY KEY, cents json, p point)")
    target = Target("public", "results", ("id", "cents", "p"), json_columns=("cents",))
    form = RowFormat(("id", "amount"), target.columns)

    def run(text):
        sink = Upsert(target, ("id",), ("cents", "p"))
        return transform(sink, MapRow(lambda row: (row[0], {"a": [text]}, "(1,2)"), form), ledger=None)(ranges(1)[0])

    assert run("x").value["rows_written"] == ROWS
    assert run("x").value["rows_written"] == 0
    assert run("y").value["rows_written"] == ROWS


@pytest.mark.parametrize("ascending", [True, False])
def test_the_greater_version_wins(transform, results, ascending):
    results.execute(
        "ALTER TABLE results ADD v integer; INSERT INTO results VALUES (1, -1, 500), (2, -1, 5000), (3, -1, NULL)"
    )
    target = Target("public", "results", ("id", "cents", "v"))
    sink = Upsert(target, ("id",), ("cents", "v"), version="v")
    function = MapRow(
        lambda row: (row[0] % 4, row[0], row[0] if ascending else ROWS - row[0]), RowFormat((), target.columns)
    )
    for one in ranges(3):
        assert transform(sink, function, ledger=None)(one).failure is None
    rows = results.execute("SELECT id, cents, v FROM results ORDER BY id").fetchall()
    if ascending:
        assert rows == [(0, 1000, 1000), (1, 997, 997), (2, -1, 5000), (3, 999, 999)]
    else:
        assert rows == [(0, 4, 996), (1, 1, 999), (2, -1, 5000), (3, 3, 997)]


def test_an_upsert_that_updates_no_column_leaves_the_rows_that_are_there(transform, results):
    results.execute("INSERT INTO results VALUES (1, -1)")
    assert transform(Upsert(TARGET, ("id",), ()))(ranges(1)[0]).value["rows_unchanged"] == 1
    assert written(results) == [(1, -1), *EXPECTED[1:]]


def test_an_update_changes_only_rows_that_are_there_and_differ(transform, results):
    results.execute("INSERT INTO results SELECT g, CASE WHEN g > 100 THEN g END FROM generate_series(51, 150) AS g")
    outcome = transform(UPDATE)(ranges(1)[0])
    assert written(results) == EXPECTED[50:150]
    assert outcome.value == {"rows_updated": 50, "rows_unchanged": ROWS - 50, "rows_filtered": 0}


def test_an_update_of_a_large_target_reads_only_its_rows(transform, results):
    results.execute("INSERT INTO results SELECT g, 0 FROM generate_series(1, 200000) AS g; ANALYZE results")
    with scans_of(results, "results") as scans:
        assert transform(UPDATE)(ranges(1)[0]).value["rows_updated"] == ROWS
    assert scans == [0]


def test_an_update_in_place_of_a_large_table_reads_only_its_rows(update, results):
    results.execute("INSERT INTO orders SELECT g, 0 FROM generate_series(1001, 200000) AS g; ANALYZE orders")
    part = KeyRange(KEY, 0, None, ("20001",))
    with scans_of(results, "orders") as scans:
        worker = update(lambda row: (1,), chunk_rows=10_000)
        assert worker(part).value["rows_updated"] == 20_000
    assert scans == [0]
    # Each row of the target is read by its key: to find the range, to update it, and to look for changes.
    query = "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'orders'"
    assert results.execute(query).fetchone()[0] < 200_000


@contextmanager
def scans_of(connection, table):
    """Yield a list that gets the number of scans of the whole table."""
    report_writes(connection)  # the creation of the index is a scan too
    connection.execute("SELECT pg_stat_reset()")
    scans = []
    yield scans
    report_writes(connection)
    query = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = %s"
    scans += connection.execute(query, [table]).fetchone()


def test_no_transaction_is_open_on_the_target_while_the_function_runs(transform, results):
    conninfo = conninfo_of(results)

    def look(row):
        import psycopg

        if row[0] == 25:
            with psycopg.connect(conninfo) as other:
                query = "SELECT count(*) FROM pg_locks WHERE relation = 'results'::regclass"
                return row[0], other.execute(query).fetchone()[0]
        return row[0], 0

    assert transform(INSERT, look)(ranges(1)[0]).failure is None
    assert results.execute("SELECT sum(cents) FROM results").fetchone() == (0,)


def test_rows_of_functions():
    function = MapRow(
        {1: (1, 2), 2: {"cents": 4, "id": 3}, 3: None, 4: [(5, 6), {"id": 7, "cents": 8}], 5: []}.get, FORMAT
    )
    produced = function([1, 2, 3, 4, 5])
    assert (produced.rows, produced.filtered) == ([(1, 2), (3, 4), (5, 6), (7, 8)], 2)


def test_generators_and_dicts():
    form = RowFormat(("id", "amount"), ("id", "cents"), as_dicts=True)

    def function(row):
        yield row["id"], row["amount"]
        yield row["id"] + 1, None

    assert MapRow(function, form)([(1, 2)]).rows == [(1, 2), (2, None)]
    assert MapBatch(lambda rows: [tuple(row.values()) for row in rows], form, 10)([(1, 2), (3, 4)]).rows == [
        (1, 2),
        (3, 4),
    ]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ((1,), "The function returned a row of 1 values: (1,). Return 2, in the order of target_columns: id, cents."),
        ({"id": 1}, "The function returned a dict with the keys id. Return those of target_columns: id, cents."),
        (
            "text",
            "The function returned str 'text' as a row. Return a tuple or a dict, also for a single column: (value,).",
        ),
        ([1], "The function returned int 1 as a row."),
    ],
)
def test_what_is_not_a_row_is_refused(transform, returned, message):
    outcome = transform(INSERT, lambda row: returned)(ranges(1)[0])
    assert outcome.failure.message.startswith(message)


IN_PLACE = UpdateInPlace(Target("public", "orders", ("n",)), ("id",))


@pytest.fixture
def update(worker, results):
    """``update(function)``: a worker that stores what the function makes of each order in its column n."""

    def make(function, ledger=LEDGER, chunk_rows=10, **fields):
        writer = TargetWriter(connection_parameters(results), SessionSettings(), IN_PLACE, ledger)
        rows = UpdateRows(EachRow(function), RowFormat(("id", "amount"), ("n",)), 2, 10)
        processor = Transform(rows, writer, KEY, chunk_rows=chunk_rows, reads_xmin=True)
        return worker(processor, **fields)

    return make


@pytest.mark.parametrize("ledger", [LEDGER, None], ids=["ledger", "none"])
def test_a_column_is_filled_in_place(update, results, ledger):
    worker = update(lambda row: (row[0] * 2,) if row[0] % 2 else None, ledger)
    outcomes = [worker(one) for one in ranges(3)]
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    rows = results.execute("SELECT id, n FROM orders ORDER BY id").fetchall()
    assert rows == [(n, n * 2 if n % 2 else 0) for n in range(1, ROWS + 1)]
    assert sum(outcome.value["rows_updated"] for outcome in outcomes) == ROWS / 2
    assert sum(outcome.value["rows_filtered"] for outcome in outcomes) == ROWS / 2
    assert sum(outcome.row_count for outcome in outcomes) == ROWS


@pytest.mark.parametrize("ledger", [LEDGER, None], ids=["ledger", "none"])
def test_rows_that_others_change_while_they_are_computed_are_computed_again(update, results, ledger):
    conninfo = conninfo_of(results)

    def disturbed(row):
        import psycopg

        if row[0] % 100 == 5 and row[1] < 100:
            with psycopg.connect(conninfo) as other:
                other.execute("UPDATE orders SET amount = amount + 1000 WHERE id IN (%s, %s)", [row[0], row[0] + 2])
                other.execute("DELETE FROM orders WHERE id = %s", [row[0] + 3])
        return (int(row[1] * 100),)

    outcome = update(disturbed, ledger)(ranges(1)[0])
    assert outcome.failure is None
    assert results.execute("SELECT count(*) FROM orders WHERE n <> amount * 100").fetchone() == (0,)
    assert results.execute("SELECT count(*) FROM orders WHERE amount > 1000").fetchone() == (20,)
    assert outcome.value == {"rows_updated": ROWS - 10, "rows_unchanged": 10, "rows_filtered": 0}
    assert outcome.row_count == ROWS


def test_pending_rows_are_written_by_the_next_attempt(update, results):
    conninfo = conninfo_of(results)
    results.execute("CREATE TABLE tries (id bigint)")

    def disturbed(row):
        import psycopg

        if row[0] in (5, 6):
            with psycopg.connect(conninfo) as other:
                if other.execute("SELECT count(*) FROM tries").fetchone()[0] == 2:
                    raise ValueError("no")
                other.execute("UPDATE orders SET amount = amount + 1 WHERE id = %s", [row[0]])
                other.execute("INSERT INTO tries VALUES (1)")
        return (1,)

    one = ranges(1)[0]
    assert "no" in update(disturbed)(one).failure.text
    assert results.execute("SELECT id FROM orders WHERE n <> 0 ORDER BY id").fetchall() == [
        (n,) for n in (1, 2, 3, 4, 7, 8, 9, 10)
    ]
    outcome = update(lambda row: (2,))(one)
    assert results.execute("SELECT id FROM orders WHERE n = 1 ORDER BY id").fetchall() == [
        (n,) for n in (1, 2, 3, 4, 7, 8, 9, 10)
    ]
    assert results.execute("SELECT count(*) FROM orders WHERE n = 2").fetchone() == (ROWS - 8,)
    assert outcome.value["rows_updated"] == ROWS


def test_the_row_that_cannot_be_updated_is_named(update, results):
    failure = update(lambda row: (1 // (row[0] - 17),))(ranges(1)[0]).failure
    assert failure.rows == "id = 17"


def test_rows_that_change_all_the_time_fail_the_range(update, results):
    conninfo = conninfo_of(results)

    def disturbed(row):
        import psycopg

        if row[0] == 5:
            with psycopg.connect(conninfo) as other:
                other.execute("UPDATE orders SET amount = amount + 1 WHERE id = 5")
        return (1,)

    failure = update(disturbed)(ranges(100)[0]).failure
    assert failure.type.endswith("RowsChangedError")
    assert "such as id = 5." in failure.text


def test_a_row_that_a_trigger_writes_again_is_computed_once(worker, results):
    # A block with EXCEPTION is a subtransaction, whose id is the xmin of what it writes.
    results.execute("""
        CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE orders SET n = n + 1 WHERE id = new.id; RETURN new;
        EXCEPTION WHEN division_by_zero THEN RETURN new; END $$;
        CREATE TRIGGER see AFTER UPDATE OF amount ON orders FOR EACH ROW EXECUTE FUNCTION see();
        UPDATE orders SET amount = 0;
        UPDATE orders SET n = 0;
    """)
    sink = UpdateInPlace(Target("public", "orders", ("amount",)), ("id",))
    rows = UpdateRows(EachRow(lambda row: (row[1] + 1,)), RowFormat(("id", "amount"), ("amount",)), 2, 10)
    writer = TargetWriter(connection_parameters(results), SessionSettings(), sink, LEDGER)
    outcome = worker(Transform(rows, writer, KEY, chunk_rows=10, reads_xmin=True))(ranges(1)[0])
    assert outcome.failure is None
    query = "SELECT min(amount), max(amount), min(n), max(n), count(*) FROM orders"
    assert results.execute(query).fetchone() == (1, 1, 1, 1, ROWS)
    assert outcome.value == {"rows_updated": ROWS, "rows_unchanged": 0, "rows_filtered": 0}


def test_advice_about_the_target_is_not_about_the_source(transform, worker, results):
    parameters = connection_parameters(results) | {"host": "localhost", "port": "1"}
    writer = TargetWriter(parameters, SessionSettings(), INSERT, LEDGER)
    failure = worker(Transform(MapRow(cents, FORMAT), writer, KEY), range_retries=0)(ranges(1)[0]).failure
    assert "On a worker, localhost is the worker's machine" in failure.text
    results.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '25006'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON results EXECUTE FUNCTION refuse();
    """)
    failure = transform(INSERT)(ranges(1)[0]).failure
    assert failure.text.endswith("The server of the target does not accept writes now: it may have become a standby.")


KEYS = {
    "numeric": "(g % 7 - 3)::numeric / 3",
    "double precision": "CASE g % 7 WHEN 1 THEN 'NaN' WHEN 2 THEN 'infinity' WHEN 3 THEN '-0' ELSE g / 3.0 END::float8",
    "bpchar": "CASE WHEN g % 2 = 0 THEN 'a ' ELSE 'B%' END::bpchar",
    "text": "(ARRAY['', 'é', 'É', 'e', '-a', 'a', 'A', ' a', '%', chr(92), chr(39)])[g % 11 + 1]",
    "timestamp with time zone": "CASE g % 5 WHEN 0 THEN 'infinity' WHEN 1 THEN '0044-03-15 BC'"
    " ELSE timestamptz '1890-01-01' + g % 5 * interval '1 us' END::timestamptz",
    "interval": "(ARRAY['1 month', '30 days', '720:00', '-1 mon +1 day'])[g % 4 + 1]::interval",
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_range_continues_behind_equal_keys_of_each_type(transform, results, kind):
    results.execute(f"""
        DROP TABLE orders;
        CREATE TABLE orders AS SELECT g::bigint AS id, 1::numeric AS amount, {KEYS[kind]} AS k
        FROM generate_series(1, {ROWS}) AS g;
        ALTER TABLE orders ADD PRIMARY KEY (id), ALTER k SET NOT NULL;
    """)
    seen = 0

    def fail(row):
        nonlocal seen
        seen += 1
        if seen == 405:
            seen = 0
            raise ValueError("again")
        return row[0], 1

    key = Key((KeyColumn("k", kind),))
    for _ in range(5):
        outcome = transform(INSERT, fail, key=key)(KeyRange(key, 0))
        if outcome.failure is None:
            break
        assert outcome.failure.message.startswith("again")
    assert outcome.row_count == outcome.value["rows_inserted"] == ROWS
    assert written(results) == [(number, 1) for number in range(1, ROWS + 1)]
