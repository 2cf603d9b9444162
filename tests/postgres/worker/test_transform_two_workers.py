"""Several workers of a range write it once together, wherever their chunks end, and whenever they die."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg
import pytest
from psycopg import sql

from burla_provider.database.connect import connection_parameters
from burla_provider.database.settings import SessionSettings
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.exchange import Exchange, exchange_rows
from burla_provider.task.ledger_table import prepare_ledger, read_outcomes
from burla_provider.task.reject_table import open_reject_table
from burla_provider.task.staging import Staging
from burla_provider.worker.isolation import IsolateFailures
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import Outcome, decode
from burla_provider.worker.processors import ProcessRange, RangeProcessor, Transform, transform
from burla_provider.worker.range_task import RangeTask
from burla_provider.worker.rejects import RejectTable
from burla_provider.worker.row_functions import MapBatch, MapRow, RowFormat, RowFunction
from burla_provider.worker.sinks import Insert, Sink, Target, Update, UpdateInPlace, Upsert
from burla_provider.worker.source import Source
from burla_provider.worker.target_writer import TargetWriter
from burla_provider.worker.update_functions import EachRow, UpdateRows
from tests.postgres.worker.conftest import KEY, ranges
from tests.support.snapshots import open_snapshot
from tests.support.waiting import wait_for

SEEDS = range(int(os.environ.get("BURLA_TEST_SEEDS", "3")))
LEDGER = Ledger("public", "ledger", "dag/task/run")
ROWS = 400
RANGES = 3
WORKERS = 3
MAX_DEATHS = 4
"""Deaths of a worker, so that a test ends."""

GIVEN = Source("public", "given", ("id", "v"))
RESULTS = Target("public", "results", ("id", "v"))
FORMAT = RowFormat(GIVEN.columns, RESULTS.columns)
IN_PLACE = UpdateInPlace(Target("public", "given", ("v",)), ("id",))
STAGING = Staging("public", LEDGER.run_key)

DIED = "the worker has died"
EXPECTED_FAILURES = (DIED, "terminating connection", "connection")

PREPARE = {
    "upsert": "ALTER TABLE results ADD PRIMARY KEY (id)",
    "update": "ALTER TABLE results ADD PRIMARY KEY (id); INSERT INTO results SELECT id FROM given",
}
"""SQL before the first worker begins."""

Row = tuple[Any, ...]


def make_rows(row: Row) -> list[Row]:
    """Return none, one or two rows. The SQL of ``MADE`` does the same."""
    id_, v = row
    return [(id_, v + number) for number in range(id_ % 3)]


MADE = "SELECT id, v + number AS v FROM given, LATERAL generate_series(0, id % 3 - 1) AS number"
CHANGED = "SELECT id, v + 1 AS v FROM given"
IS_REJECTED = "(id % 7 = 0 OR id % 5 = 0)"
"""The function fails on every seventh row, and the target refuses every fifth one."""


def change(row: Row) -> Row:
    return row[0], row[1] + 1


def change_or_fail(row: Row) -> Row:
    if row[0] % 7 == 0:
        raise ValueError(row[0])
    return change(row)


@pytest.fixture
def tables(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    connection.execute("""
        CREATE TABLE given (id bigint PRIMARY KEY, v integer NOT NULL, others integer);
        CREATE TABLE results (id bigint, v integer);
    """)
    connection.execute("INSERT INTO given SELECT g, g * 10 FROM generate_series(1, %s) AS g", [ROWS])
    prepare_ledger(connection, LEDGER)
    return connection


def make_transform(
    connection: psycopg.Connection[Any],
    sink: Sink,
    function: RowFunction,
    chunk_rows: int = 10,
    rejects: RejectTable | None = None,
) -> Transform:
    writer = TargetWriter(connection_parameters(connection), SessionSettings(), sink, LEDGER, rejects=rejects)
    in_place = isinstance(sink, UpdateInPlace)
    if rejects is not None:
        function = IsolateFailures(function, is_recorded=True, key_offset=2 if in_place else 0)
    return Transform(function, writer, KEY, chunk_rows, in_place)


def run(connection: psycopg.Connection[Any], processor: RangeProcessor, key_range: KeyRange, **fields: Any) -> Outcome:
    """Process the range on a worker of its own."""
    task = make_task(connection, processor, **fields)
    try:
        return decode(task(key_range.index, key_range.to_item()))
    finally:
        task.close()


def make_task(connection: psycopg.Connection[Any], processor: RangeProcessor, **fields: Any) -> RangeTask:
    usual = {"source": GIVEN, "ledger": LEDGER if processor.writes else None}
    return RangeTask(parameters=connection_parameters(connection), key=KEY, processor=processor, **usual | fields)


def read(connection: psycopg.Connection[Any], query: str) -> list[Row]:
    return connection.execute(f"SELECT * FROM ({query}) AS rows ORDER BY 1, 2").fetchall()


SINKS = {
    "insert": Insert(RESULTS),
    "upsert": Upsert(RESULTS, ("id",), ("v",)),
    "update": Update(RESULTS, ("id",), ("v",)),
    "in place": IN_PLACE,
}


def function_of(sink: Sink, function: Callable[[Row], Any]) -> RowFunction:
    if isinstance(sink, UpdateInPlace):
        return UpdateRows(EachRow(lambda row: function(row)[1:]), RowFormat(GIVEN.columns, ("v",)), 2, 10)
    return MapRow(function, FORMAT, 10)


@pytest.mark.parametrize("mode", SINKS)
@pytest.mark.parametrize("is_changed", [False, True], ids=["same rows", "other rows"])
@pytest.mark.parametrize(("ours", "theirs"), [(10, 7), (7, 10), (10, 10), (1_000, 7)])
def test_a_worker_continues_behind_the_chunk_that_another_one_has_written(
    tables: psycopg.Connection[Any], mode: str, is_changed: bool, ours: int, theirs: int
) -> None:
    """Twice, another worker writes one chunk and dies. It may read another snapshot."""
    sink, one = SINKS[mode], ranges(1)[0]
    tables.execute(PREPARE.get(mode, ""))
    expected = read(tables, CHANGED)
    deleted: list[int] = []
    interrupted: list[int] = []

    def interrupt(row: Row) -> Row:
        if row[0] in (5, 3 * ours - 5) and row[0] not in interrupted:
            interrupted.append(row[0])
            if is_changed:
                deleted.append(row[0] - 2)
                tables.execute("DELETE FROM given WHERE id = %s", [row[0] - 2])
            other = make_transform(tables, sink, function_of(sink, die_after(theirs)), theirs)
            assert DIED in run(tables, other, one).failure.text
        return change(row)

    outcome = run(tables, make_transform(tables, sink, function_of(sink, interrupt), ours), one)
    assert outcome.failure is None
    assert interrupted
    found = read(tables, "SELECT id, v FROM given" if mode == "in place" else "TABLE results")
    # A row that was deleted meanwhile may be written, or not.
    assert [row for row in found if row[0] not in deleted] == [row for row in expected if row[0] not in deleted]
    [stored] = read_outcomes(tables, LEDGER)
    assert (outcome.value, outcome.row_count) == (stored.value, stored.row_count)
    assert outcome.row_count == sum(outcome.value.values())
    assert ROWS - len(deleted) <= outcome.row_count <= ROWS


def die_after(rows: int) -> Callable[[Row], Row]:
    """Return a function that fails after it was called on so many rows."""
    left = iter(range(rows))

    def change_some(row: Row) -> Row:
        if next(left, None) is None:
            raise ConnectionError(DIED)
        return change(row)

    return change_some


WIDE = Source("public", "given", {"id": "id", "v": "v", "pad": "repeat('x', 100000)"})


@pytest.mark.parametrize("is_held", [False, True], ids=["no snapshot", "held snapshot"])
@pytest.mark.parametrize("by", ["worker", "session"])
def test_rows_are_read_again_while_the_server_still_sends_them(
    tables: psycopg.Connection[Any], is_held: bool, by: str
) -> None:
    """The query is canceled, which aborts the transaction up to its savepoint."""
    expected, one = read(tables, CHANGED), ranges(1)[0]
    done: list[bool] = []

    def disturb(row: Row) -> Row:
        if row[0] == 5 and not done:
            done.append(True)
            if by == "session":
                tables.execute("UPDATE given SET others = 1 WHERE id = 5")
            else:
                run(tables, make_transform(tables, IN_PLACE, function_of(IN_PLACE, die_after(7)), 7), one)
        return (row[1] + 1,)

    function = UpdateRows(EachRow(disturb), RowFormat(tuple(WIDE.columns), ("v",)), 2, 10)
    with open_snapshot(connection_parameters(tables), "public", "given") as held:
        snapshot = held.snapshot if is_held else None
        outcome = run(tables, make_transform(tables, IN_PLACE, function), one, source=WIDE, snapshot=snapshot)
    assert outcome.failure is None
    assert done
    assert read(tables, "SELECT id, v FROM given") == expected
    assert outcome.value == {"rows_updated": ROWS, "rows_unchanged": 0, "rows_filtered": 0}


def test_rows_that_another_worker_left_pending_are_not_given_up(
    tables: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other worker is always faster by a row, which a session changes meanwhile."""
    monkeypatch.setattr(transform, "MAX_ROUNDS", 5)
    expected, one, calls = read(tables, CHANGED), ranges(1)[0], Counter[int]()

    def overtake(row: Row) -> Row:
        calls[row[0]] += 1
        if row[0] < 20:
            rows = iter([row[0], row[0] + 1])

            def change_two(other: Row) -> Row:
                if other[0] != next(rows, None):
                    raise ConnectionError(DIED)
                if other[0] > row[0]:
                    tables.execute("UPDATE given SET others = 1 WHERE id = %s", [other[0]])
                return change(other)

            run(tables, make_transform(tables, IN_PLACE, function_of(IN_PLACE, change_two), 1), one)
        return change(row)

    outcome = run(tables, make_transform(tables, IN_PLACE, function_of(IN_PLACE, overtake), 1), one)
    assert outcome.failure is None
    assert max(calls.values()) == 1
    assert read(tables, "SELECT id, v FROM given") == expected
    assert outcome.value["rows_updated"] == ROWS


@dataclass
class Mode:
    """What the workers do, and what SQL says about it.

    :param sink: None: a function writes itself.
    :param function: of a row.
    :param found: query of what was written.
    :param expected: query of what is to be written, run before the workers start.
    :param counted: name of a count -> query of it, run before the workers start.
    :param prepare: SQL.
    :param disturb: what other sessions do meanwhile with a random row.
    """

    sink: Sink | None
    function: Callable[[Row], Any]
    found: str
    expected: str
    counted: dict[str, str] = field(default_factory=dict)
    prepare: str = ""
    disturb: tuple[str, ...] = ()
    batches: bool = False
    rejects: bool = False


TOUCH = ("UPDATE given SET others = 1 WHERE id = %(id)s",)
REJECTS = "ALTER TABLE {} ADD CHECK (id % 5 <> 0 OR v % 10 = 0)"
ACCEPTED = f"SELECT id, v + 1 FROM given WHERE NOT {IS_REJECTED}"
REJECTED_COUNTS = {"rows_rejected": f"SELECT count(*) FROM given WHERE {IS_REJECTED}"}
MODES = {
    "insert": Mode(
        SINKS["insert"],
        make_rows,
        "TABLE results",
        MADE,
        {
            "rows_inserted": f"SELECT count(*) FROM ({MADE}) AS made",
            "rows_filtered": "SELECT count(*) FROM given WHERE id % 3 = 0",
        },
    ),
    "insert batches": Mode(
        SINKS["insert"],
        make_rows,
        "TABLE results",
        MADE,
        {"rows_inserted": f"SELECT count(*) FROM ({MADE}) AS made"},
        batches=True,
    ),
    "insert or reject": Mode(
        SINKS["insert"],
        change_or_fail,
        "TABLE results",
        ACCEPTED,
        REJECTED_COUNTS,
        REJECTS.format("results"),
        rejects=True,
    ),
    "insert or reject batches": Mode(
        SINKS["insert"],
        change_or_fail,
        "TABLE results",
        ACCEPTED,
        REJECTED_COUNTS,
        REJECTS.format("results"),
        batches=True,
        rejects=True,
    ),
    "upsert": Mode(
        SINKS["upsert"],
        change,
        "TABLE results",
        CHANGED,
        {"rows_written": "SELECT count(*) FROM given"},
        PREPARE["upsert"],
    ),
    "update": Mode(
        SINKS["update"],
        change,
        "TABLE results",
        CHANGED,
        {"rows_updated": "SELECT count(*) FROM given"},
        PREPARE["update"],
    ),
    "update in place": Mode(
        IN_PLACE,
        change,
        "SELECT id, v FROM given",
        CHANGED,
        {"rows_updated": "SELECT count(*) FROM given"},
        disturb=TOUCH,
    ),
    "update in place or reject": Mode(
        IN_PLACE,
        change_or_fail,
        "SELECT id, v FROM given",
        f"SELECT id, CASE WHEN {IS_REJECTED} THEN v ELSE v + 1 END FROM given",
        REJECTED_COUNTS,
        REJECTS.format("given"),
        TOUCH,
        rejects=True,
    ),
    "process_range": Mode(
        None,
        change,
        "SELECT id, v FROM given",
        CHANGED,
        {"updated": "SELECT count(*) FROM given"},
        disturb=TOUCH,
    ),
}


class Worker:
    """A worker process that dies at random, and is started again, until all of its ranges are finished."""

    def __init__(self, connection: psycopg.Connection[Any], mode: Mode, seed: int, rejects: RejectTable | None) -> None:
        self.connection, self.mode, self.random, self.rejects = connection, mode, Random(seed), rejects
        self.deaths = 0

    def __call__(self) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        while len(outcomes) < RANGES:
            task = make_task(self.connection, self.make_processor())
            try:
                # A call processes several ranges.
                for one in self.random.sample(ranges(RANGES, ROWS), RANGES):
                    outcome = decode(task.process(one.index, one.to_item()))
                    if outcome.failure is None:
                        outcomes[one.index] = outcome
                    else:
                        assert any(text in outcome.failure.text for text in EXPECTED_FAILURES), outcome.failure
            finally:
                task.close()
        return outcomes

    def make_processor(self) -> RangeProcessor:
        random, sink = self.random, self.mode.sink
        if sink is None:
            return ProcessRange(self.process_range)
        chunk_rows, batch_size = random.choice([1, 7, 30, 10_000]), random.randint(1, 40)
        if self.mode.batches:
            function: RowFunction = MapBatch(self.of_batch, FORMAT, batch_size)
        else:
            function = function_of(sink, self.of_row)
        return make_transform(self.connection, sink, function, chunk_rows, self.rejects)

    def of_row(self, row: Row) -> Any:
        self.live()
        return self.mode.function(row)

    def of_batch(self, rows: list[Row]) -> list[Row]:
        made = [self.of_row(row) for row in rows]
        return [one for several in made for one in (several if isinstance(several, list) else [several])]

    def process_range(self, connection: psycopg.Connection[Any], key_range: KeyRange) -> dict[str, int]:
        query = sql.SQL("UPDATE given SET v = v + 1 WHERE {}").format(key_range.where)
        self.live(30)
        updated = connection.execute(query).rowcount
        self.live(30)
        return {"updated": updated, "row_count": updated}

    def live(self, times: int = 1) -> None:
        """Take some time, and die sometimes."""
        if self.random.random() < 0.1:
            threading.Event().wait(self.random.random() * 0.003 * times)
        if self.deaths < MAX_DEATHS and self.random.random() < 0.005 * times:
            self.deaths += 1
            raise ConnectionError(DIED)


class Disturber:
    """A session that ends sessions of workers, and changes rows of the source, until it is stopped."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int, statements: tuple[str, ...]) -> None:
        self.parameters = connection_parameters(connection)
        self.pid = connection.info.backend_pid
        self.random = Random(seed)
        self.statements = statements
        self.stop = threading.Event()

    def __call__(self) -> None:
        query = (
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)"
            " AND backend_type = 'client backend' ORDER BY pid OFFSET %s LIMIT 1) AS workers"
        )
        ended = 0
        with psycopg.connect(**self.parameters, autocommit=True) as connection:
            while not self.stop.wait(self.random.random() * 0.02):
                if self.random.random() < 0.3 and ended < 2 * MAX_DEATHS:
                    ended += connection.execute(query, [self.pid, self.random.randrange(2 * WORKERS)]).rowcount
                if self.statements:
                    connection.execute(self.random.choice(self.statements), {"id": self.random.randint(1, ROWS)})


@pytest.fixture
def run_workers(tables) -> Callable[..., list[dict[int, Outcome]]]:
    """``run_workers(mode, seed)`` returns the outcomes that each worker has returned."""

    def start(mode: Mode, seed: int, while_running: Callable[[], Any] = lambda: None) -> list[dict[int, Outcome]]:
        rejects = None
        if mode.rejects:
            rejects = open_reject_table(tables, "rejects", LEDGER.run_key, 1, GIVEN.columns, {})
        workers = [Worker(tables, mode, seed * WORKERS + number, rejects) for number in range(WORKERS)]
        disturber = Disturber(tables, seed, mode.disturb)
        with ThreadPoolExecutor(WORKERS + 1) as threads:
            disturbing = threads.submit(disturber)
            try:
                results = [threads.submit(worker) for worker in workers]
                while_running()
                return [result.result() for result in results]
            finally:
                disturber.stop.set()
                disturbing.result()

    return start


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MODES)
def test_workers_that_die_write_each_row_once_together(tables, run_workers, name, seed):
    mode = MODES[name]
    tables.execute(mode.prepare)
    expected = read(tables, mode.expected)
    counted = {name: tables.execute(query).fetchone()[0] for name, query in mode.counted.items()}
    rejected = tables.execute(f"SELECT id FROM given WHERE {IS_REJECTED} ORDER BY id").fetchall()
    outcomes = run_workers(mode, seed)
    assert read(tables, mode.found) == expected
    stored = {one.index: one for one in read_outcomes(tables, LEDGER)}
    for returned in outcomes:
        assert {index: (one.value, one.row_count) for index, one in returned.items()} == {
            index: (one.value, one.row_count) for index, one in stored.items()
        }
    totals = Counter[str]()
    for one in stored.values():
        totals.update(one.value)
    assert {name: totals[name] for name in counted} == counted
    assert sum(one.row_count for one in stored.values()) == ROWS
    if mode.rejects:
        query = "SELECT (source_key ->> 'id')::bigint FROM rejects ORDER BY 1"
        assert tables.execute(query).fetchall() == rejected


CHANGE_EVERY_TENTH = (
    "DELETE FROM given WHERE id = %(id)s / 10 * 10",
    "INSERT INTO given VALUES (%(id)s / 10 * 10, 0) ON CONFLICT DO NOTHING",
    "INSERT INTO given VALUES (%(id)s / 10 * 10, 0) ON CONFLICT DO NOTHING",
)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("batches", [False, True], ids=["rows", "batches"])
def test_workers_that_read_other_snapshots_write_no_row_twice(tables, run_workers, batches, seed):
    unchanged = "SELECT id, v FROM ({}) AS rows WHERE id % 10 <> 0"
    expected = read(tables, unchanged.format(CHANGED))
    run_workers(Mode(SINKS["insert"], change, "", "", disturb=CHANGE_EVERY_TENTH, batches=batches), seed)
    assert read(tables, unchanged.format("TABLE results")) == expected
    assert tables.execute("SELECT id FROM results GROUP BY id HAVING count(*) > 1").fetchall() == []
    counts = [(one.row_count, one.value["rows_inserted"]) for one in read_outcomes(tables, LEDGER)]
    [(written,)] = tables.execute("SELECT count(*) FROM results").fetchall()
    assert [sum(each) for each in zip(*counts, strict=True)] == [written, written]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_exchange_of_an_overwrite_has_the_rows_of_all_workers(tables, run_workers, seed):
    """Some of the workers are still alive when the rows of the target are replaced."""
    staged = Target("public", STAGING.table, RESULTS.columns)
    exchange = Exchange(Target("public", "target", RESULTS.columns), ("id",), "TRUE")
    tables.execute("""
        CREATE TABLE target (id bigint PRIMARY KEY, v integer);
        INSERT INTO target SELECT id + 100, 0 FROM given;
    """)
    tables.execute(exchange.create_staging(STAGING.relation))
    expected, counts = read(tables, CHANGED), []

    def replace_rows() -> None:
        wait_for(lambda: len(list(read_outcomes(tables, LEDGER))) == RANGES, 60)
        row_count = sum(one.value["rows_inserted"] for one in read_outcomes(tables, LEDGER))
        counts.append(exchange_rows(tables, exchange, STAGING.relation, LEDGER, SessionSettings(), row_count, {}))

    run_workers(Mode(Insert(staged), change, "", ""), seed, replace_rows)
    assert read(tables, "TABLE target") == expected
    assert counts == [{"rows_inserted": 100, "rows_updated": ROWS - 100, "rows_unchanged": 0, "rows_deleted": 100}]
