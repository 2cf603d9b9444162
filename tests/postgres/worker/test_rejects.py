"""Rows that fail are rejected, each once, and the others are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

import psycopg
import pytest

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.task.reject_table import open_reject_table
from burla_provider.worker.batch_rows import BatchRows
from burla_provider.worker.errors import to_failure
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import Transform
from burla_provider.worker.rejects import RejectLimit
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat
from burla_provider.worker.sinks import Insert, Target, Update, UpdateInPlace, Upsert
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ranges
from tests.support.marks import conninfo_of

ROWS = 60
LEDGER = Ledger("public", "ledger", "dag/task/run")
SOURCE = Source("public", "given", ("id", "v"))
TARGET = Target("public", "results", ("id", "v", "mood"))
FORMAT = RowFormat(("id", "v"), TARGET.columns)

FAULTS = ("function", "shape", "check", "null", "overflow", "enum", "nul", "type", "deferred", "parent")


def compute(row):
    """Return the row of the target. The text after the number says how it fails."""
    id_, text = row
    number, _, fault = text.partition(" ")
    if fault == "function":
        raise ValueError(f"no {id_}")
    if fault == "shape":
        return (id_,)
    value = {
        "check": -1,
        "null": None,
        "overflow": 10**12,
        "nul": "1\0",
        "type": object(),
        "deferred": 1,
        "parent": 10**6,
    }.get(fault, int(number))
    return id_, value, "mad" if fault == "enum" else "sad"


def compute_generator(row):
    """Yield the row, and fail after it if the function fails."""
    id_, text = row
    if text.endswith("function"):
        yield id_, 5, "sad"
    yield compute(row)


def compute_batch(rows):
    return [compute(row) for row in rows]


def compute_value(row):
    made = compute(row)
    return made[1:] if len(made) > 1 else made


@pytest.fixture
def tables(connection: psycopg.Connection) -> psycopg.Connection:
    """The source ``given``, and the target ``results`` with constraints."""
    connection.execute("""
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE TABLE given (id bigint PRIMARY KEY, v text, mood mood);
        CREATE TABLE parents (v integer PRIMARY KEY);
        INSERT INTO parents SELECT g FROM generate_series(-1, 1000) AS g;
        CREATE TABLE results (
            id bigint PRIMARY KEY, v integer NOT NULL CHECK (v >= 0) REFERENCES parents, mood mood,
            CONSTRAINT once UNIQUE (v) DEFERRABLE INITIALLY DEFERRED);
    """)
    prepare_ledger(connection, LEDGER)
    return connection


def fill(connection: psycopg.Connection, random: Random, faults: tuple[str, ...] = FAULTS) -> set[int]:
    """Fill the source, and return the ids of the rows that fail."""
    share = random.choice([0.02, 0.1, 0.5, 1])
    failing = {id_: random.choice(faults) for id_ in range(2, ROWS + 1) if random.random() < share}
    for id_ in range(1, ROWS + 1):
        connection.execute("INSERT INTO given VALUES (%s, %s)", [id_, f"{id_} {failing.get(id_, '')}".strip()])
    return set(failing)


def transform(
    connection: psycopg.Connection,
    sink,
    function,
    *,
    recorded: bool = True,
    chunk_rows: int = 10,
    limit: RejectLimit | None = None,
) -> Transform:
    parameters = connection_parameters(connection)
    rejects = None
    if recorded:
        rejects = open_reject_table(connection, "rejects", LEDGER.run_key, 1, SOURCE.columns, parameters)
    writer = TargetWriter(parameters, SessionSettings(), sink, LEDGER, rejects=rejects)
    in_place = isinstance(sink, UpdateInPlace)
    isolated = IsolateFailures(function, recorded, 2 if in_place else 0)
    return Transform(isolated, writer, KEY, chunk_rows, in_place, limit)


def run(connection: psycopg.Connection, processor: Transform, count: int = 1):
    """Process the table in ``count`` ranges, and return the sums of the counts."""
    sums: dict[str, int] = {"row_count": 0}
    try:
        for one in ranges(count, ROWS):
            with psycopg.connect(conninfo_of(connection)) as reader:
                result = processor(reader, SOURCE, one)
            sums["row_count"] += result.row_count or 0
            for name, number in result.value.items():
                sums[name] = sums.get(name, 0) + number
    finally:
        processor.writer.close()
    return sums


def rejected_ids(connection: psycopg.Connection) -> list[int]:
    query = "SELECT (source_key ->> 'id')::bigint FROM rejects ORDER BY 1"
    return [id_ for (id_,) in connection.execute(query).fetchall()]


def each_mode(random: Random) -> tuple[str, Callable[..., Transform]]:
    """Return the mode, and a function that makes its processor."""
    size = random.choice([1, 3, 7, 25, 100])
    functions = {
        "row": (MapRow(compute, FORMAT, size), True),
        "generator": (MapRow(compute_generator, FORMAT, size), True),
        "batch": (MapBatch(compute_batch, FORMAT, size), False),
    }
    function, per_row = functions[random.choice(list(functions))]
    mode = random.choice(["insert", "upsert", "update", "in place"])
    sink = {
        "insert": Insert(TARGET),
        "upsert": Upsert(TARGET, ("id",), ("v", "mood")),
        "update": Update(TARGET, ("id",), ("v", "mood")),
        "in place": UpdateInPlace(Target("public", "given", ("n", "mood")), ("id",)),
    }[mode]
    if mode == "in place":
        form = RowFormat(("id", "v"), ("n", "mood"))
        if per_row:
            function = UpdateRows(EachRow(compute_value), form, 2, size)
        else:
            function = UpdateRows(lambda rows: [compute_value(row) for row in rows], form, 2, size)
    chunk_rows = random.randint(1, ROWS)
    return mode, lambda connection: transform(connection, sink, function, chunk_rows=chunk_rows)


@pytest.mark.parametrize("seed", range(40))
def test_good_rows_are_written_and_the_others_rejected(tables, seed):
    random = Random(seed)
    mode, make = each_mode(random)
    failing = fill(tables, random)
    if mode == "in place":
        tables.execute("""
            ALTER TABLE given ADD n integer NOT NULL DEFAULT 0 CHECK (n >= 0) REFERENCES parents;
            INSERT INTO parents VALUES (1000000) ON CONFLICT DO NOTHING;
            DELETE FROM parents WHERE v = 1000000;
            CREATE UNIQUE INDEX ON given (n) WHERE n > 0;
        """)
    if mode == "update":
        tables.execute("INSERT INTO parents SELECT g + 2000 FROM generate_series(1, 60) AS g")
        tables.execute("INSERT INTO results SELECT id, id + 2000 FROM given")
    counts = run(tables, make(tables), random.choice([1, 4]))
    table, column = ("given", "n") if mode == "in place" else ("results", "v")
    written = f"SELECT id, {column}, mood::text FROM {table} WHERE mood IS NOT NULL"
    wanted = "SELECT id, split_part(v, ' ', 1)::integer, 'sad' FROM given WHERE v !~ ' '"
    for one, other in ((written, wanted), (wanted, written)):
        assert tables.execute(f"({one}) EXCEPT ALL ({other})").fetchall() == []
    assert rejected_ids(tables) == sorted(failing)
    assert counts["rows_rejected"] == len(failing)
    assert counts["row_count"] == ROWS == sum(counts.values()) - ROWS


def test_a_reject_says_which_row_failed_and_why(tables):
    tables.execute("INSERT INTO given VALUES (1, '1'), (2, '2 function'), (3, '3 check')")
    run(tables, transform(tables, Insert(TARGET), MapRow(compute, FORMAT)))
    rows = tables.execute(
        "SELECT run_key, range_index, source_key, source_row, error_class, sqlstate, try_number FROM rejects ORDER BY 4"
    ).fetchall()
    run_key = LEDGER.run_key
    assert rows == [
        (run_key, 0, {"id": "2"}, {"id": 2, "v": "2 function"}, "ValueError", None, 1),
        (run_key, 0, {"id": "3"}, {"id": 3, "v": "3 check"}, "psycopg.errors.CheckViolation", "23514", 1),
    ]
    [first, second] = tables.execute("SELECT message FROM rejects ORDER BY source_row").fetchall()
    assert first == ("no 2",)
    assert 'violates check constraint "results_v_check"' in second[0]


def test_rows_may_refer_to_rows_of_the_same_chunk(tables):
    tables.execute("""
        CREATE TABLE tree (id bigint PRIMARY KEY, up bigint REFERENCES tree);
        INSERT INTO given SELECT g, CASE WHEN g % 10 = 0 THEN 'none' ELSE 'next' END FROM generate_series(1, 59) AS g;
        INSERT INTO given VALUES (60, 'fail');
    """)
    # Each row refers to the next one, up to the next multiple of ten, and 51 to 59 refer to 60, which fails.
    target = Target("public", "tree", ("id", "up"))

    def parent(row):
        if row[1] == "fail":
            raise ValueError("no")
        return row[0], row[0] + 1 if row[1] == "next" else None

    processor = transform(tables, Insert(target), MapRow(parent, RowFormat(("id", "v"), target.columns)), chunk_rows=99)
    run(tables, processor)
    assert tables.execute("SELECT count(*), max(id) FROM tree").fetchone() == (50, 50)
    assert rejected_ids(tables) == list(range(51, 61))


def test_a_row_is_tried_although_an_earlier_part_has_its_key(tables):
    tables.execute("INSERT INTO given VALUES (1, '1'), (2, '2'), (3, '3 check'), (4, '4')")

    def to_one_key(row):
        return 1 if row[0] in (2, 3) else row[0] + 10, *compute(row)[1:]

    sink = Upsert(TARGET, ("id",), ("v", "mood"))
    counts = run(tables, transform(tables, sink, MapRow(to_one_key, FORMAT)))
    assert rejected_ids(tables) == [3]
    assert tables.execute("SELECT id, v FROM results ORDER BY id").fetchall() == [(1, 2), (11, 1), (14, 4)]
    assert (counts["rows_written"], counts["rows_unchanged"], counts["rows_rejected"]) == (3, 0, 1)


def test_rows_of_one_source_row_are_written_together_or_not(tables):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")

    def several(row):
        return [(row[0] * 10 + n, -1 if row[0] == 7 and n == 3 else row[0] * 5 + n, "sad") for n in range(5)]

    counts = run(tables, transform(tables, Insert(TARGET), MapRow(several, FORMAT)))
    assert counts["rows_inserted"] == tables.execute("SELECT count(*) FROM results").fetchone()[0] == 295
    assert tables.execute("SELECT count(*) FROM results WHERE id / 10 = 7").fetchone() == (0,)
    assert rejected_ids(tables) == [7]


def test_a_batch_function_is_called_about_three_times_per_row(tables):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")
    for fault in ("check", "function"):
        tables.execute("UPDATE given SET v = %s WHERE id = 17", [f"17 {fault}"])
        tables.execute("TRUNCATE results, ledger")
        called = []

        def count(rows, called=called):
            called.extend(rows)
            return compute_batch(rows)

        function = MapBatch(count, FORMAT, 60)
        counts = run(tables, transform(tables, Insert(TARGET), function, chunk_rows=99))
        assert counts["rows_rejected"] == 1
        assert len(called) <= 3 * 60


@pytest.mark.parametrize("per_row", [True, False])
def test_a_function_may_change_its_rows(tables, per_row):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")
    tables.execute("UPDATE given SET v = '17 function' WHERE id = 17; UPDATE given SET v = '40 check' WHERE id = 40")

    def take(row):
        return compute((row[0], row[1].pop("text")))

    form = RowFormat(("id", "doc"), TARGET.columns)
    function = MapRow(take, form) if per_row else MapBatch(lambda rows: [take(row) for row in rows], form, 20)
    processor = transform(tables, Insert(TARGET), function)
    rejects = replace(processor.writer.rejects, columns=form.read)
    processor = replace(processor, writer=replace(processor.writer, rejects=rejects))
    source = Source("public", "given", {"id": "id", "doc": "jsonb_build_object('text', v)"})
    with psycopg.connect(conninfo_of(tables)) as reader:
        result = processor(reader, source, ranges(1, ROWS)[0])
    processor.writer.close()
    assert result.value["rows_rejected"] == 2
    rows = tables.execute("SELECT source_row FROM rejects ORDER BY source_row").fetchall()
    assert rows == [({"id": 17, "doc": {"text": "17 function"}},), ({"id": 40, "doc": {"text": "40 check"}},)]


@pytest.mark.parametrize(
    "error", [TimeoutError, MemoryError, NameError, ConnectionResetError, psycopg.OperationalError]
)
def test_an_error_that_no_row_causes_fails_the_range(tables, error):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")

    def fail(row):
        if row[0] == 17:
            raise error("no")
        return compute(row)

    with pytest.raises(error):
        run(tables, transform(tables, Insert(TARGET), MapRow(fail, FORMAT)))
    assert rejected_ids(tables) == []


def test_another_error_of_the_server_fails_the_range(tables):
    tables.execute("""
        INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON results FOR EACH ROW WHEN (new.id = 17) EXECUTE FUNCTION refuse();
    """)
    with pytest.raises(psycopg.errors.RaiseException):
        run(tables, transform(tables, Insert(TARGET), MapRow(compute, FORMAT)))
    assert rejected_ids(tables) == []


@pytest.mark.parametrize("per_row", [True, False])
@pytest.mark.parametrize("fault", ["function", "check", "deferred"])
def test_without_a_reject_table_the_error_names_the_rows(tables, fault, per_row):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")
    tables.execute("UPDATE given SET v = v || ' ' || %s WHERE id IN (12, 14)", [fault])
    function = MapRow(compute, FORMAT) if per_row else MapBatch(compute_batch, FORMAT, 20)
    processor = transform(tables, Insert(TARGET), function, recorded=False, chunk_rows=20)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run(tables, processor)
    assert to_failure(caught.value, {}).rows == "id = 12; id = 14"


def test_a_range_ends_when_too_many_rows_are_rejected(tables):
    tables.execute("INSERT INTO given SELECT g, g || ' function' FROM generate_series(1, 60) AS g")
    for limit, rejected in ((RejectLimit(14), 20), (RejectLimit(60, is_percentage=True, expected_rows=30), 40)):
        processor = transform(tables, Insert(TARGET), MapRow(compute, FORMAT, 10), limit=limit)
        with pytest.raises(Exception, match=rf"^{rejected} rows were rejected \(tolerated: {limit}\)\."):
            run(tables, processor)
        assert len(rejected_ids(tables)) == rejected


def test_a_row_that_changes_all_the_time_is_rejected(tables):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g; ALTER TABLE given ADD n integer")
    conninfo = conninfo_of(tables)

    def disturbed(row):
        with psycopg.connect(conninfo) as other:
            if row[0] == 5:
                other.execute("UPDATE given SET v = v::integer + 1 WHERE id = 5")
        return (row[0],)

    sink = UpdateInPlace(Target("public", "given", ("n",)), ("id",))
    function = UpdateRows(EachRow(disturbed), RowFormat(("id", "v"), ("n",)), 2)
    counts = run(tables, transform(tables, sink, function, chunk_rows=99))
    assert counts == {
        "row_count": ROWS,
        "rows_updated": ROWS - 1,
        "rows_unchanged": 0,
        "rows_filtered": 0,
        "rows_rejected": 1,
    }
    assert tables.execute("SELECT id FROM given WHERE n IS NULL").fetchall() == [(5,)]
    [(key, message)] = tables.execute("SELECT source_key, message FROM rejects").fetchall()
    assert key == {"id": "5"}
    assert message == "Other sessions changed the row each of the 100 times that it was computed."


def test_rows_of_record_batches_are_rejected(tables):
    pytest.importorskip("pyarrow")
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 60) AS g")
    tables.execute("UPDATE given SET v = '12 function' WHERE id = 12; UPDATE given SET v = '14 check' WHERE id = 14")
    form = BatchRows(FORMAT.read, FORMAT.written)
    function = MapBatch(lambda batch: [compute(tuple(row.values())) for row in batch.to_pylist()], form, 20)
    counts = run(tables, transform(tables, Upsert(TARGET, ("id",), ("v", "mood")), function))
    assert (counts["rows_written"], counts["rows_rejected"]) == (58, 2)
    rows = tables.execute("SELECT source_key, source_row FROM rejects ORDER BY 1").fetchall()
    assert rows == [({"id": "12"}, {"id": 12, "v": "12 function"}), ({"id": "14"}, {"id": 14, "v": "14 check"})]


def test_a_value_that_json_cannot_hold_is_recorded_exactly(tables):
    tables.execute("INSERT INTO given SELECT g, g FROM generate_series(1, 1) AS g")
    values = {
        "numeric": "12345678901234567890.10",
        "float8": "NaN",
        "int4range": "[1,5)",
        "bytea": "\\x00ff",
        "jsonb": '{"a": [1.50, "é"]}',
        "inet": "10.0.0.1",
        "bigint": "9223372036854775807",
    }
    columns = {name: f"'{value}'::{name}" for name, value in values.items()}
    source = Source("public", "given", columns)

    def fail(row):
        raise ValueError("\ud800 \0 secret-of-mine")

    processor = transform(tables, Insert(TARGET), MapRow(fail, RowFormat(tuple(columns), TARGET.columns)))
    rejects = replace(processor.writer.rejects, columns=tuple(columns), secrets={"password": "secret-of-mine"})
    processor = replace(processor, writer=replace(processor.writer, rejects=rejects))
    with psycopg.connect(conninfo_of(tables)) as reader:
        processor(reader, source, ranges(1, ROWS)[0])
    processor.writer.close()
    [(row, message)] = tables.execute("SELECT source_row::text, message FROM rejects").fetchall()
    assert json.loads(row) == {
        "numeric": "12345678901234567890.10",
        "float8": "NaN",
        "int4range": "[1, 5)",
        "bytea": "00ff",
        "jsonb": {"a": ["1.50", "é"]},
        "inet": "10.0.0.1",
        "bigint": 9223372036854775807,
    }
    assert message == "\\ud800 \ufffd ***"


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_rejected_once_although_sessions_are_ended(tables, seed):
    random = Random(seed)
    mode, make = each_mode(random)
    while mode in ("in place", "update"):
        mode, make = each_mode(random)
    failing = fill(tables, random)
    conninfo = conninfo_of(tables)
    processor = make(tables)
    kill = random.sample(range(1, 200), 6)
    writes = 0
    inner = type(processor.writer.sink).write

    class Killing(type(processor.writer.sink)):  # a fault that the server shows rarely: it ends at any statement
        def write(self, connection, rows):
            nonlocal writes
            writes += 1
            written = inner(self, connection, rows)
            if writes in kill:
                with psycopg.connect(conninfo, autocommit=True) as other:
                    # It waits until the session has ended.
                    other.execute("SELECT pg_terminate_backend(%s, 60000)", [connection.info.backend_pid])
            return written

    sink = Killing(**vars(processor.writer.sink))
    processor = replace(processor, writer=replace(processor.writer, sink=sink))
    for _ in range(len(kill) + 1):
        try:
            run(tables, processor)
            break
        except psycopg.OperationalError:
            continue
    assert rejected_ids(tables) == sorted(failing)
    assert tables.execute("SELECT count(*), sum(id) FROM results").fetchone() == (
        ROWS - len(failing),
        sum(set(range(1, ROWS + 1)) - failing) or None,
    )
