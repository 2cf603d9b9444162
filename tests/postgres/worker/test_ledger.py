import dataclasses
import datetime
import threading

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.ledger_table import (
    COLUMNS,
    prepare_ledger,
    read_outcomes,
    remove_old_runs,
    store_plan,
)
from burla_provider.worker.chunk_ledger import Progress, claim_chunk, read_progress, store_progress
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.processors import ProcessRange
from tests.postgres.worker.conftest import KEY, ROWS, ranges

LEDGER = Ledger("public", "burla_ledger", "dag/task/run-1")
FIRST, LAST = ranges(2)


def increment(connection, key_range):
    cursor = connection.execute(
        "UPDATE orders SET n = n + 1 WHERE id BETWEEN %s AND %s", [key_range.start_id, key_range.end_id]
    )
    return {"row_count": cursor.rowcount, "note": "a\0b"}


@pytest.fixture
def with_ledger(orders):
    prepare_ledger(orders, LEDGER)
    return orders


@pytest.fixture
def writer(worker, with_ledger):
    return lambda function=increment, **fields: worker(ProcessRange(function), **{"ledger": LEDGER} | fields)


def counts(with_ledger):
    return with_ledger.execute("SELECT min(n), max(n) FROM orders").fetchone()


def test_a_repeated_range_writes_once_and_returns_the_same(writer, with_ledger):
    first = [writer()(key_range) for key_range in (FIRST, LAST)]
    again = [writer()(key_range) for key_range in (FIRST, LAST)]
    assert first == again
    assert counts(with_ledger) == (1, 1)


def test_another_run_writes_again(writer, with_ledger):
    for run in ("one", "two"):
        assert writer(ledger=Ledger("public", "burla_ledger", run))(FIRST).ok
    assert with_ledger.execute("SELECT max(n) FROM orders").fetchone() == (2,)


def test_the_ledger_has_readable_columns(writer, with_ledger):
    writer()(FIRST)
    row = with_ledger.execute(
        "SELECT range, row_count, result, attempt, finished_at > started_at FROM burla_ledger"
    ).fetchone()
    assert row == ("(None, ('501',))", 500, {"row_count": 500, "note": "a\ufffdb"}, 1, True)


def test_a_failed_range_leaves_no_row_and_can_be_retried(writer, with_ledger):
    def fail(connection, key_range):
        increment(connection, key_range)
        raise ValueError("no")

    assert not writer(fail)(FIRST).ok
    assert with_ledger.execute("SELECT count(*) FROM burla_ledger").fetchone() == (0,)
    assert writer()(FIRST).ok


def test_two_executions_at_once_write_once(writer, with_ledger):
    started, finish = threading.Event(), threading.Event()
    outcomes = []

    def slow(connection, key_range):
        value = increment(connection, key_range)
        started.set()
        finish.wait(30)
        return value

    # Not pickled, so that the function uses the same events.
    work = writer().task
    slow_work = dataclasses.replace(work, processor=ProcessRange(slow))
    threads = [threading.Thread(target=lambda: outcomes.append(slow_work(0, FIRST.to_item())))]
    threads[0].start()
    assert started.wait(30)
    threads.append(threading.Thread(target=lambda: outcomes.append(work(0, FIRST.to_item()))))
    threads[1].start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO%%'"
    while not with_ledger.execute(waiting).fetchone()[0]:
        pass
    finish.set()
    for thread in threads:
        thread.join()
    assert len(set(outcomes)) == 1
    assert with_ledger.execute("SELECT max(n) FROM orders").fetchone() == (1,)


def test_a_range_of_a_dead_worker_is_processed_by_the_next(writer, with_ledger):
    def die(connection, key_range):
        increment(connection, key_range)
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    assert not writer(die, range_retries=0)(FIRST).ok
    assert writer()(FIRST).ok
    assert with_ledger.execute("SELECT max(n) FROM orders").fetchone() == (1,)


def test_a_lost_answer_to_commit_does_not_write_twice(writer, with_ledger):
    # The server commits; the connection breaks before the answer arrives.
    one = writer()
    original = psycopg.Transaction._commit_gen

    def commit_and_lose(self):
        yield from original(self)
        psycopg.Transaction._commit_gen = original
        self._conn.pgconn.finish()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    psycopg.Transaction._commit_gen = commit_and_lose
    try:
        outcome = one(FIRST)
    finally:
        psycopg.Transaction._commit_gen = original
    assert outcome.ok
    assert with_ledger.execute("SELECT max(n) FROM orders").fetchone() == (1,)


@pytest.mark.parametrize("statement", ["COMMIT", "SELECT 1; COMMIT", "COMMIT AND CHAIN"])
def test_the_server_itself_refuses_an_early_commit(writer, with_ledger, statement):
    def commit(connection, key_range):
        increment(connection, key_range)
        psycopg.Cursor(connection).execute(statement)
        return {}

    failure = writer(commit)(FIRST).failure
    assert "tried to COMMIT" in failure.text
    assert counts(with_ledger) == (0, 0)


def test_constraints_of_the_user_can_be_checked_early(writer, with_ledger):
    with_ledger.execute(
        "CREATE TABLE notes (id bigint REFERENCES orders DEFERRABLE INITIALLY DEFERRED, UNIQUE (id) DEFERRABLE)"
    )

    def check_early(connection, key_range, id=1):
        increment(connection, key_range)
        connection.execute("INSERT INTO notes VALUES (%s)", [id])
        connection.execute("DO 'BEGIN SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; END'")
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return {}

    assert writer(check_early)(FIRST).ok
    failure = writer(lambda connection, key_range: check_early(connection, key_range, id=-1))(LAST).failure
    assert failure.sqlstate == "23503"
    assert with_ledger.execute("SELECT count(*), max(finished_at) IS NOT NULL FROM burla_ledger").fetchone() == (
        1,
        True,
    )
    assert with_ledger.execute("SELECT sum(n) FROM orders").fetchone() == (500,)


def test_close_all_is_reported(writer, with_ledger):
    def close_all(connection, key_range):
        increment(connection, key_range)
        connection.execute("CLOSE ALL")
        return {}

    assert "CLOSE ALL" in writer(close_all)(FIRST).failure.text
    assert counts(with_ledger) == (0, 0)


def test_code_that_rolls_back_and_retries_writes_nothing(writer, with_ledger):
    def stubborn(connection, key_range):
        cursor = psycopg.Cursor(connection)
        try:
            increment(connection, key_range)
            cursor.execute("COMMIT")
        except psycopg.Error:
            cursor.execute("ROLLBACK")
            increment(connection, key_range)
        return {}

    failure = writer(stubborn)(FIRST).failure
    assert "ended the transaction" in failure.text
    assert counts(with_ledger) == (0, 0)


def test_a_changed_plan_is_refused(writer):
    assert writer()(FIRST).ok
    failure = writer()(ranges(3)[0]).failure
    assert "The plan has changed since the first try" in failure.text


def test_a_function_that_changes_the_ledger_is_reported(writer, with_ledger):
    def meddle(connection, key_range):
        connection.execute("DELETE FROM burla_ledger")
        return {}

    message = writer(meddle)(FIRST).failure.message
    assert message.startswith("The ledger public.burla_ledger has no row any more for range 0")


def test_the_first_plan_of_a_run_stays(with_ledger):
    assert store_plan(with_ledger, LEDGER, [[["1"], None, False, None, 5]]) == [[["1"], None, False, None, 5]]
    assert store_plan(with_ledger, LEDGER, [["another"]]) == [[["1"], None, False, None, 5]]


def test_finished_ranges_can_be_read(writer, with_ledger):
    store_plan(with_ledger, LEDGER, [])
    outcome = writer()(LAST)
    assert list(read_outcomes(with_ledger, LEDGER)) == [outcome]


def test_old_runs_are_removed_and_this_one_is_not(writer, with_ledger):
    store_plan(with_ledger, LEDGER, [])
    for run in ("old", "new", LEDGER.run_key):
        writer(ledger=Ledger("public", "burla_ledger", run))(FIRST)
    with_ledger.execute("UPDATE burla_ledger SET finished_at = now() - interval '40 days' WHERE run_key <> 'new'")
    assert remove_old_runs(with_ledger, LEDGER, datetime.timedelta(days=30)) == 1
    assert {key for (key,) in with_ledger.execute("SELECT run_key FROM burla_ledger")} == {"new", LEDGER.run_key}


DAYS_AGO = st.floats(0, 20).filter(lambda days: abs(days - 1) > 0.01 and abs(days - 7) > 0.01)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(planned=st.integers(0, 4), plan=DAYS_AGO, kinds=st.lists(st.tuples(st.booleans(), DAYS_AGO), max_size=4))
def test_a_run_that_may_continue_is_removed_only_if_it_has_written_nothing_for_a_week(
    with_ledger, planned, plan, kinds
):
    other = Ledger("public", "burla_ledger", "other")
    with_ledger.execute("TRUNCATE burla_ledger")
    store_plan(with_ledger, other, ["the parameters", {"items": [[]] * planned}])
    store_plan(with_ledger, LEDGER, [])
    kinds = kinds[:planned]
    for index, (is_finished, _) in enumerate(kinds):
        key_range = KeyRange(KEY, index)
        claim_chunk(with_ledger, other, key_range, Progress(), "worker")
        store_progress(with_ledger, other, key_range, Progress(1, ("1",), 1, is_finished=is_finished), "worker")
    for index, days in enumerate([plan, *(days for _, days in kinds)], -1):
        with_ledger.execute(
            "UPDATE burla_ledger SET started_at = '-infinity', finished_at = finished_at - %(age)s,"
            " result = CASE WHEN result ? 'written_at' THEN result || jsonb_build_object('written_at', now() - %(age)s)"
            " ELSE result END WHERE run_key = 'other' AND range_index = %(index)s",
            {"age": datetime.timedelta(days=days), "index": index},
        )
    is_complete = sum(is_finished for is_finished, _ in kinds) == planned
    idle = datetime.timedelta(days=min([plan, *(days for _, days in kinds)]))
    removed = remove_old_runs(with_ledger, LEDGER, datetime.timedelta(days=1))
    assert removed == (1 + len(kinds) if idle > datetime.timedelta(days=1 if is_complete else 7) else 0)


def test_a_run_that_commits_a_chunk_is_alive(with_ledger):
    other, key_range = Ledger("public", "burla_ledger", "other"), ranges(1)[0]
    store_plan(with_ledger, other, ["the parameters", {"items": [key_range.to_item()]}])
    claim_chunk(with_ledger, other, key_range, Progress(), "worker")
    with_ledger.execute("UPDATE burla_ledger SET started_at = '-infinity', finished_at = finished_at - '1 y'::interval")
    store_progress(with_ledger, other, key_range, Progress(1, ("1",), 1), "worker")
    assert remove_old_runs(with_ledger, LEDGER, datetime.timedelta(days=30)) == 0
    assert read_progress(with_ledger, other, key_range) == Progress(1, ("1",), 1)


def test_the_ledger_is_created_once(with_ledger):
    prepare_ledger(with_ledger, LEDGER)


def test_first_runs_at_the_same_time_do_not_disturb_each_other(orders, database):
    errors = []

    def prepare():
        try:
            with psycopg.connect(database, autocommit=True) as connection:
                prepare_ledger(connection, LEDGER)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=prepare) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("is_there", [False, True])
def test_the_error_for_a_read_only_session_names_the_parameter(orders, is_there):
    if is_there:
        prepare_ledger(orders, LEDGER)
    orders.execute("SET default_transaction_read_only = on")
    with pytest.raises(InvalidParameterError, match="ledger: the server is read-only"):
        prepare_ledger(orders, LEDGER)


def test_a_table_of_another_shape_is_refused(orders):
    with pytest.raises(InvalidParameterError, match=r"is not a ledger.*run_key text") as error:
        prepare_ledger(orders, Ledger("public", "orders", "x"))
    assert error.value.parameter == "ledger"


def test_a_temporary_ledger_is_refused(orders):
    with pytest.raises(InvalidParameterError, match="ledger: a temporary table exists in one session only"):
        prepare_ledger(orders, Ledger("pg_temp", "burla_ledger", "x"))


@pytest.mark.parametrize(
    ("hindrance", "name"),
    [
        ("CREATE TRIGGER t BEFORE INSERT ON burla_ledger FOR EACH ROW EXECUTE FUNCTION nothing()", "the trigger t"),
        ("CREATE TRIGGER t BEFORE UPDATE ON burla_ledger FOR EACH ROW EXECUTE FUNCTION nothing()", "the trigger t"),
        ("CREATE RULE r AS ON INSERT TO burla_ledger DO INSTEAD NOTHING", "the rule r"),
    ],
)
def test_a_ledger_whose_rows_may_be_suppressed_is_refused(with_ledger, hindrance, name):
    with_ledger.execute("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    with_ledger.execute(hindrance)
    with pytest.raises(InvalidParameterError, match=f"ledger: .* has {name}, which may change or hide its rows"):
        prepare_ledger(with_ledger, LEDGER)


def test_a_ledger_that_is_audited_works(writer, with_ledger):
    with_ledger.execute("CREATE TABLE audit (index int)")
    body = "BEGIN INSERT INTO audit VALUES (NEW.range_index); RETURN NEW; END"
    with_ledger.execute(f"CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    with_ledger.execute("CREATE TRIGGER t AFTER UPDATE ON burla_ledger FOR EACH ROW EXECUTE FUNCTION note()")
    prepare_ledger(with_ledger, LEDGER)
    assert writer()(FIRST).ok
    assert with_ledger.execute("SELECT count(*) FROM audit").fetchone() == (1,)


def test_a_ledger_under_row_security_is_refused(poor, with_ledger):
    with_ledger.execute("GRANT ALL ON burla_ledger TO poor; ALTER TABLE burla_ledger ENABLE ROW LEVEL SECURITY")
    with pytest.raises(InvalidParameterError, match="has row security for this role"):
        prepare_ledger(poor, LEDGER)


def test_quoted_identifiers_do_not_hide_the_shape(with_ledger):
    with_ledger.execute("SET quote_all_identifiers = on")
    prepare_ledger(with_ledger, LEDGER)


def test_a_ledger_without_its_guard_is_refused(orders):
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    orders.execute(f"CREATE TABLE burla_ledger ({columns})")
    with pytest.raises(InvalidParameterError, match="it does not have PRIMARY KEY"):
        prepare_ledger(orders, LEDGER)


@pytest.fixture
def poor(with_ledger, database):
    """A connection of a role with few privileges."""
    with_ledger.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET ROLE poor")
        yield connection
    with_ledger.execute("DROP OWNED BY poor; DROP ROLE poor")


def test_a_role_that_cannot_write_the_ledger_is_refused(poor):
    with pytest.raises(InvalidParameterError, match=r"Run: GRANT .*, DELETE ON .*burla_ledger.* TO poor;"):
        prepare_ledger(poor, LEDGER)


def test_a_role_that_cannot_create_the_ledger_is_refused(poor, with_ledger):
    with_ledger.execute("REVOKE CREATE ON SCHEMA public FROM public")
    with pytest.raises(
        InvalidParameterError, match=r'cannot be found or created .*Run: GRANT CREATE, USAGE ON SCHEMA "public" TO'
    ):
        prepare_ledger(poor, Ledger("public", "other", "x"))


def test_a_missing_schema_is_named(orders):
    with pytest.raises(InvalidParameterError, match="there is no schema nowhere"):
        prepare_ledger(orders, Ledger("nowhere", "burla_ledger", "x"))


def test_every_row_is_written_once_whatever_happens_how_often(writer, with_ledger):
    for attempt in range(3):
        for key_range in ranges(20):
            writer_of_attempt = writer() if key_range.index % 7 == attempt else None
            if writer_of_attempt:
                writer_of_attempt(key_range)
    one = writer()
    assert all(one(key_range).ok for key_range in ranges(20))
    assert counts(with_ledger) == (1, 1)
    assert with_ledger.execute("SELECT sum(row_count) FROM burla_ledger").fetchone() == (ROWS,)
