"""Overwrites together with retries, kills, readers, and other runs."""

# ruff: noqa: F811 (the fixture is imported)

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from burla_provider.task import exchange, overwrite_job, pause
from burla_provider.task.staging import PREFIX
from tests.airflow.test_overwrite import LEFT, ask, assert_replaced, operator, score, scores  # noqa: F401 (a fixture)
from tests.support.marks import conninfo_of
from tests.support.task_runner import START, Airflow, run_and_kill
from tests.support.waiting import wait_for

STAGING = (
    f"SELECT relname FROM pg_class WHERE relname LIKE '{PREFIX}%' AND relkind = 'r' AND relname NOT LIKE '%_ledger'"
)


def fail_late(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[0] > 60_000:
        raise ValueError("no more")
    return score(row)


def reject_some(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return score(row) if row[0] % 100 else (1 / 0,)


def reject_some_and_stop(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[0] > 60_000:
        raise TimeoutError("no more")
    return reject_some(row)


def hang_late(row: tuple[Any, ...]) -> tuple[Any, ...]:
    if row[0] > 155_000:  # in the last range
        time.sleep(300)
    return score(row)


def staged(connection: psycopg.Connection[Any]) -> int:
    """How many rows are staged."""
    try:
        return sum(
            ask(connection, f'SELECT count(*) FROM "{name}"') for (name,) in connection.execute(STAGING).fetchall()
        )
    except psycopg.errors.UndefinedTable:
        return 0


def contents(connection: psycopg.Connection[Any]) -> list[Any]:
    return connection.execute("SELECT xmin::text, * FROM scores ORDER BY 2, 3").fetchall()


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_a_retry_with_other_parameters_stages_all_rows_again(airflow: Airflow, scores: Any, ledger: Any) -> None:
    options = {"ledger": ledger, "retries": 2}
    assert airflow.run(operator(map_row=fail_late, **options), max_tries=2).state == "up_for_retry"
    changed = {**options, "where": "id > 0"}
    second = airflow.run(operator(**changed), try_number=2, max_tries=2)
    assert second.state == "up_for_retry", second.log
    assert "The next try starts from the beginning" in str(second.error)
    assert airflow.run(operator(**changed), try_number=3, max_tries=2).state == "success"
    assert_replaced(scores)
    assert scores.execute(STAGING).fetchall() == []


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_a_retry_continues_with_the_rows_that_are_staged(airflow: Airflow, scores: Any, ledger: Any) -> None:
    before = contents(scores)
    options = {"ledger": ledger, "retries": 1}
    first = airflow.run(operator(map_row=fail_late, **options), max_tries=1)
    assert first.state == "up_for_retry"
    assert first.xcoms["burla_report"]["advice"][0].endswith(": the rows of the others are staged.")
    assert contents(scores) == before
    assert 0 < staged(scores) < 20_000
    second = airflow.run(operator(**options), max_tries=1, try_number=2)
    assert second.value["row_count"] == 20_000
    assert second.value["snapshots"] == 2
    assert "finished ranges of this run: processing only what is missing" in second.log
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


def test_with_resume_false_a_retry_starts_from_the_beginning(airflow: Airflow, scores: Any) -> None:
    first = airflow.run(operator(map_row=fail_late, retries=1, resume=False), max_tries=1)
    assert first.xcoms["burla_report"]["advice"][0].endswith(" again, because of resume=False.")
    [(name,)] = scores.execute(STAGING).fetchall()
    scores.execute("UPDATE orders SET status = 'other'")
    second = airflow.run(operator(retries=1, resume=False), max_tries=1, try_number=2)
    assert "snapshots" not in second.value
    assert f'Dropped "public"."{name}"' in second.log
    assert ask(scores, "SELECT count(*) FROM scores WHERE label = 'OTHER'") == 20_000
    assert ask(scores, LEFT) == 0


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_the_last_try_leaves_nothing(airflow: Airflow, scores: Any, ledger: Any) -> None:
    before = contents(scores)
    assert airflow.run(operator(map_row=fail_late, ledger=ledger)).state == "failed"
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0
    assert ledger is None or ask(scores, "SELECT count(*) FROM runs") == 0


def test_a_row_outside_of_the_condition_fails_without_a_retry(airflow: Airflow, scores: Any) -> None:
    before = contents(scores)

    def move(row: tuple[Any, ...]) -> tuple[Any, ...]:
        number, day, label = score(row)
        return number, day if number != 33 else day.replace(day=21), label

    result = airflow.run(operator(map_row=move, retries=3), max_tries=3)
    assert result.state == "failed"
    assert "\"day = '2026-11-20'\": (id, day) = (33,2026-11-21)" in str(result.error)
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_a_staging_table_that_was_dropped_is_filled_again(airflow: Airflow, scores: Any, ledger: Any) -> None:
    options = {"ledger": ledger, "retries": 1}
    airflow.run(operator(map_row=fail_late, **options), max_tries=1)
    [(name,)] = scores.execute(STAGING).fetchall()
    scores.execute(f'DROP TABLE "{name}"')
    result = airflow.run(operator(**options), max_tries=1, try_number=2)
    assert result.state == "success", result.log
    assert_replaced(scores)


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_a_run_that_starts_again_rejects_no_row_twice(airflow: Airflow, scores: Any, ledger: Any) -> None:
    options = {"ledger": ledger, "reject_table": "rejects", "retries": 1}
    airflow.run(operator(map_row=reject_some_and_stop, **options), max_tries=1)
    assert ask(scores, "SELECT count(*) FROM rejects") > 10
    [(name,)] = scores.execute(STAGING).fetchall()
    scores.execute(f'DROP TABLE "{name}"')
    result = airflow.run(operator(map_row=reject_some, **options), max_tries=1, try_number=2)
    assert result.state == "success", result.log
    rejected = ask(scores, "SELECT count(*) FROM orders WHERE id % 100 = 0")
    assert result.value["rows_rejected"] == rejected
    query = "SELECT count(*) || ' ' || count(DISTINCT source_key) FROM rejects"
    assert ask(scores, query) == f"{rejected} {rejected}"
    # No row was made of a rejected row, so its old row is deleted like the other ones that are gone.
    assert ask(scores, "SELECT count(*) FROM scores WHERE day = '2026-11-20' AND id % 100 = 0") == 0
    assert ask(scores, "SELECT count(*) FROM scores WHERE day = '2026-11-20'") == 20_000 - rejected
    assert ask(scores, LEFT) == 0


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_with_resume_false_each_row_is_rejected_once(airflow: Airflow, scores: Any, ledger: Any) -> None:
    options = {"ledger": ledger, "reject_table": "rejects", "retries": 2, "resume": False}
    # Runs whose keys are similar, and contain the wildcards of LIKE.
    others = ["scheduled__2026-11-2_", "scheduled__2026-11-20x", "%"]
    for run_id in others:
        airflow.run(operator(map_row=reject_some_and_stop, **options), max_tries=2, run_id=run_id)
    before = ask(scores, "SELECT count(*) FROM rejects")
    for try_number in (1, 2):
        airflow.run(operator(map_row=reject_some_and_stop, **options), max_tries=2, try_number=try_number)
    result = airflow.run(operator(map_row=reject_some, **options), max_tries=2, try_number=3)
    assert result.state == "success", result.log
    rejected = ask(scores, "SELECT count(*) FROM orders WHERE id % 100 = 0")
    assert result.value["rows_rejected"] == rejected
    assert ask(scores, "SELECT count(*) FROM rejects") == before + rejected
    [(tries,)] = scores.execute("SELECT array_agg(DISTINCT try_number) FROM rejects WHERE try_number > 1").fetchall()
    assert tries == [3]
    if ledger:
        runs = "SELECT count(DISTINCT run_key) FROM runs"
        assert ask(scores, runs) == 1 + len(others)


def test_too_many_rejected_rows_leave_the_target_as_it_is(airflow: Airflow, scores: Any) -> None:
    before = contents(scores)
    options = {"map_row": reject_some, "reject_table": "rejects", "tolerated_rejects": "0.1%"}
    result = airflow.run(operator(**options))
    assert result.state == "failed"
    assert "rows were rejected (tolerated: 0.1%)" in str(result.error)
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0


def test_a_ledger_that_forgot_the_run_stages_no_row_twice(airflow: Airflow, scores: Any) -> None:
    scores.execute("ALTER TABLE scores DROP CONSTRAINT scores_pkey")
    airflow.run(operator(map_row=fail_late, ledger="runs", retries=1), max_tries=1)
    scores.execute("TRUNCATE runs")
    assert airflow.run(operator(ledger="runs", retries=1), max_tries=1, try_number=2).state == "success"
    assert_replaced(scores)


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_a_task_that_is_killed_after_the_exchange_changes_nothing_more(
    airflow: Airflow,
    scores: Any,
    monkeypatch: pytest.MonkeyPatch,
    ledger: Any,
) -> None:
    exchange_rows = overwrite_job.exchange_rows

    def hang(*arguments: Any) -> Any:  # a fault that cannot be caused in time otherwise
        exchange_rows(*arguments)
        time.sleep(300)

    with monkeypatch.context() as patch:
        patch.setattr(overwrite_job, "exchange_rows", hang)
        is_done = "SELECT count(*) FROM scores WHERE label = 'gone'"
        run_and_kill(airflow, operator(ledger=ledger, retries=1), signal.SIGKILL, when=lambda: not ask(scores, is_done))
    assert_replaced(scores)
    assert staged(scores) == 0
    before = contents(scores)
    scores.execute("UPDATE orders SET status = 'later'")
    result = airflow.run(operator(ledger=ledger, retries=1), max_tries=1, try_number=2)
    assert result.value["rows_deleted"] == 5
    assert result.value["row_count"] == 20_000
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_is_killed_while_rows_are_staged(airflow: Airflow, scores: Any, number: int) -> None:
    before = contents(scores)
    options: dict[str, Any] = {"retries": 1, "ranges": 20}
    run_and_kill(airflow, operator(map_row=hang_late, **options), number, when=lambda: staged(scores) > 2_000)
    assert contents(scores) == before
    result = airflow.run(operator(**options), max_tries=1, try_number=2)
    assert result.value["snapshots"] == 2
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_is_killed_during_the_exchange(airflow: Airflow, scores: Any, number: int) -> None:
    scores.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(300); RETURN NULL; END $$;
        CREATE TRIGGER wait AFTER DELETE ON scores FOR EACH STATEMENT EXECUTE FUNCTION wait();
    """)
    before = contents(scores)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    run_and_kill(airflow, operator(retries=1), number, when=lambda: ask(scores, waits))
    assert contents(scores) == before
    # The server notices within seconds that the client is gone, and ends the transaction, which locks the table.
    wait_for(lambda: not ask(scores, waits), 60)
    scores.execute("DROP TRIGGER wait ON scores")
    result = airflow.run(operator(retries=1), max_tries=1, try_number=2)
    assert result.state == "success", result.log
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


def test_the_exchange_is_repeated_if_its_session_ends(airflow: Airflow, scores: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(overwrite_job, "_WAIT_SECONDS", 0.5)
    scores.execute("""
        CREATE SEQUENCE exchanges;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('exchanges') = 1 THEN PERFORM pg_sleep(300); END IF; RETURN NULL;
        END $$;
        CREATE TRIGGER wait AFTER DELETE ON scores FOR EACH STATEMENT EXECUTE FUNCTION wait();
    """)
    ended: list[Any] = []

    def end_session() -> None:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        with psycopg.connect(conninfo_of(scores), autocommit=True) as connection:
            wait_for(lambda: ended.extend(connection.execute(query).fetchall()) or ended, 60)

    thread = threading.Thread(target=end_session)
    thread.start()
    result = airflow.run(operator())
    thread.join()
    assert ended == [(True,)]
    assert result.state == "success", result.log
    assert "public.scores could not be changed yet: terminating connection due to administrator command" in result.log
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


class Reader(threading.Thread):
    """Reads the rows of the day all the time, each in a new snapshot."""

    def __init__(self, conninfo: str) -> None:
        super().__init__()
        self.conninfo = conninfo
        self.seen: list[tuple[int, int]] = []
        self.longest = 0.0
        self.stopped = threading.Event()

    def run(self) -> None:
        query = "SELECT count(*), count(*) FILTER (WHERE label = 'OTHER') FROM scores WHERE day = '2026-11-20'"
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            while not self.stopped.is_set():
                started = time.monotonic()
                [row] = connection.execute(query).fetchall()
                self.longest = max(self.longest, time.monotonic() - started)
                if row not in self.seen:
                    self.seen.append(row)


@contextmanager
def reading(conninfo: str) -> Iterator[Reader]:
    reader = Reader(conninfo)
    reader.start()
    try:
        yield reader
    finally:
        reader.stopped.set()
        reader.join()


def test_readers_see_the_rows_before_or_after(airflow: Airflow, scores: Any) -> None:
    scores.execute("""
        CREATE TABLE children (id bigint, day date, FOREIGN KEY (id, day) REFERENCES scores ON DELETE CASCADE);
        INSERT INTO children SELECT id, day FROM scores WHERE id > 0;
        UPDATE orders SET status = 'other';
    """)
    children = ask(scores, "SELECT count(*) FROM children")
    before = scores.execute("SELECT count(*), 0 FROM scores WHERE day = '2026-11-20'").fetchone()
    conninfo = conninfo_of(scores)
    with psycopg.connect(conninfo) as repeatable, reading(conninfo) as reader:
        repeatable.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot = repeatable.execute("TABLE scores").fetchall()
        wait_for(lambda: reader.seen)
        result = airflow.run(operator())
        assert result.state == "success", result.log
        assert repeatable.execute("TABLE scores").fetchall() == snapshot
        wait_for(lambda: len(reader.seen) > 1)
    assert reader.seen == [before, (20_000, 20_000)]
    assert ask(scores, "SELECT count(*) FROM children") == children


def test_two_days_are_replaced_at_once(airflow: Airflow, scores: Any) -> None:
    def run(day: int) -> None:
        where = f"day = '2026-11-{day}'"
        task = operator(map_row=lambda row: (row[0], f"2026-11-{day}", "new"), overwrite_where=where, ranges=2)
        task.task_id = f"day_{day}"
        result = airflow.run(task)
        assert result.state == "success", result.log

    pid = os.fork()
    if pid == 0:
        try:
            run(19)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    run(20)
    assert os.waitpid(pid, 0)[1] == 0
    query = "SELECT day::text, count(*), count(*) FILTER (WHERE label = 'new') FROM scores GROUP BY day ORDER BY day"
    assert scores.execute(query).fetchall() == [("2026-11-19", 20_000, 20_000), ("2026-11-20", 20_000, 20_000)]
    assert ask(scores, LEFT) == 0


def test_the_exchange_lets_other_writers_go_first(airflow: Airflow, scores: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(overwrite_job, "_WAIT_SECONDS", 0.5)
    with psycopg.connect(conninfo_of(scores)) as writer:
        writer.execute("INSERT INTO scores VALUES (-9, '2026-11-20', 'late')")

        def commit() -> None:
            wait_for(lambda: airflow.has_logged("could not be changed yet"), 120)
            writer.commit()

        thread = threading.Thread(target=commit)
        thread.start()
        result = airflow.run(operator(lock_timeout=1))
        thread.join()
    assert "public.scores could not be changed yet: canceling statement due to lock timeout" in result.log
    assert result.value["rows_deleted"] == 6
    assert_replaced(scores)


def test_other_overwrites_may_take_longer_than_writers(airflow: Airflow, scores: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(overwrite_job, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(overwrite_job, "LOCK_SECONDS", 2)
    conninfo, key = conninfo_of(scores), ask(scores, "SELECT 'scores'::regclass::oid::bigint - 2147483648")

    def exchange_slowly() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            wait_for(lambda: staged(connection), 60)
            with connection.transaction():  # as another exchange does
                connection.execute("SELECT pg_advisory_xact_lock(%s, %s::integer)", [exchange._EXCHANGE_LOCK, key])
                connection.execute("LOCK TABLE scores IN SHARE ROW EXCLUSIVE MODE")
                wait_for(lambda: airflow.has_logged("Waiting for another overwrite"), 120)
                time.sleep(4)  # longer than LOCK_SECONDS

    thread = threading.Thread(target=exchange_slowly)
    thread.start()
    result = airflow.run(operator(lock_timeout=1))
    thread.join()
    assert result.state == "success", result.log
    assert "Waiting for another overwrite of public.scores." in result.log
    assert_replaced(scores)


@pytest.mark.parametrize("ledger", [None, "runs"])
def test_rows_are_replaced_while_a_dump_of_the_database_reads_all_tables(
    airflow: Airflow, scores: Any, monkeypatch: Any, ledger: Any
) -> None:
    monkeypatch.setattr(overwrite_job, "LOCK_SECONDS", 0.0)
    options = {"ledger": ledger, "retries": 1}
    assert airflow.run(operator(map_row=fail_late, **options), max_tries=1).state == "up_for_retry"
    with psycopg.connect(conninfo_of(scores)) as dump:
        tables = (
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        for (name,) in scores.execute(tables).fetchall():
            dump.execute(f"LOCK TABLE {name} IN ACCESS SHARE MODE")
        result = airflow.run(operator(**options), max_tries=1, try_number=2)
        assert result.state == "success", result.log
        assert_replaced(scores)
        assert ask(scores, LEFT) == (1 if ledger else 2)
    before = contents(scores)
    assert airflow.run(operator(**options), run_id="the next day").state == "success"
    assert contents(scores) == before
    assert ask(scores, LEFT) == 0


def test_a_target_that_stays_locked_fails_the_try(airflow: Airflow, scores: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(overwrite_job, "_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(overwrite_job, "LOCK_SECONDS", 2)
    with psycopg.connect(conninfo_of(scores)) as writer:
        writer.execute("INSERT INTO scores VALUES (-9, '2026-11-20', 'late')")
        first = airflow.run(operator(lock_timeout=1, retries=1), max_tries=1)
    assert "public.scores could not be changed for 2 s: canceling statement due to lock timeout" in str(first.error)
    assert staged(scores) == 20_000
    second = airflow.run(operator(retries=1, map_row=fail_late), max_tries=1, try_number=2)
    assert second.value["rows_deleted"] == 6
    assert_replaced(scores)
    assert ask(scores, LEFT) == 0


def test_the_exchange_waits_for_the_end_of_a_pause(
    airflow: Airflow,
    scores: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pause, "ASK_SECONDS", 0.1)
    before = contents(scores)
    seen: list[bool] = []
    wait = pause.JobPause.wait
    conninfo = conninfo_of(scores)

    def end_pause() -> None:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            wait_for(lambda: airflow.has_logged("Paused while this is true"), 60)
            time.sleep(1)
            connection.execute("UPDATE job_control SET paused = false")

    def wait_and_look(self: pause.JobPause) -> None:
        scores.execute("UPDATE job_control SET paused = true")
        thread = threading.Thread(target=end_pause)
        thread.start()
        wait(self)
        thread.join()
        seen.append(contents(scores) == before)

    monkeypatch.setattr(pause.JobPause, "wait", wait_and_look)
    scores.execute("CREATE TABLE job_control (paused boolean); INSERT INTO job_control VALUES (false)")
    result = airflow.run(operator(pause_while="SELECT paused FROM job_control"))
    assert result.state == "success", result.log
    assert seen == [True]
    assert "Continued after a pause of" in result.log
    assert_replaced(scores)


def leave_staging(airflow: Airflow, **options: Any) -> None:
    """End a run that will never be retried, without giving it the time to clean up."""
    assert airflow.run(operator(map_row=fail_late, retries=1), max_tries=1, **options).state == "up_for_retry"


def test_a_task_that_is_cleared_drops_what_the_run_before_has_left(airflow: Airflow, scores: Any) -> None:
    leave_staging(airflow)
    assert ask(scores, LEFT) == 2
    assert airflow.run(operator(), max_tries=2, try_number=2).state == "success"
    assert ask(scores, LEFT) == 0


def test_a_task_whose_dag_run_had_ended_drops_what_the_run_before_has_left(airflow: Airflow, scores: Any) -> None:
    leave_staging(airflow)
    result = airflow.run(operator(), max_tries=2, try_number=2, run_started=START + timedelta(seconds=1))
    assert result.state == "success"
    assert ask(scores, LEFT) == 0


def test_a_run_of_another_airflow_with_the_same_ids_is_not_dropped(airflow: Airflow, scores: Any) -> None:
    leave_staging(airflow, run_started=START + timedelta(seconds=1))
    airflow.dag_version_id = uuid.uuid4()
    assert airflow.run(operator(), max_tries=2, try_number=2).state == "success"
    assert ask(scores, LEFT) == 2


@pytest.mark.parametrize(("days", "left"), [(6, 2), (8, 0)])
def test_a_later_run_drops_what_an_old_run_has_left(airflow: Airflow, scores: Any, days: int, left: int) -> None:
    leave_staging(airflow, run_id="other")
    query = f"""
        SELECT format('COMMENT ON TABLE %I IS %L', relname, jsonb_set(obj_description(oid)::jsonb, '{{since}}',
            to_jsonb(now() - {days} * interval '1 day')))
        FROM pg_class WHERE relname LIKE '{PREFIX}%' AND relkind = 'r'
    """
    for (comment,) in scores.execute(query).fetchall():
        scores.execute(comment)
    assert airflow.run(operator(), run_id="later").state == "success"
    assert ask(scores, LEFT) == left


def test_a_table_with_a_similar_name_is_not_dropped(airflow: Airflow, scores: Any) -> None:
    scores.execute(f"CREATE TABLE {PREFIX}mine (id bigint); CREATE TABLE {PREFIX}other (id bigint)")
    scores.execute(f"COMMENT ON TABLE {PREFIX}mine IS 'mine'")
    assert airflow.run(operator()).state == "success"
    assert ask(scores, LEFT) == 2


def test_the_password_is_in_no_text(airflow: Airflow, scores: Any) -> None:
    scores.execute("CREATE ROLE writer LOGIN SUPERUSER PASSWORD 's3cretword'")
    try:
        airflow.connections["orders_db"].login = "writer"
        airflow.connections["orders_db"].password = "s3cretword"
        scores.execute("""
            CREATE FUNCTION show() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'the password is s3cretword'; END $$;
            CREATE TRIGGER show AFTER INSERT ON scores FOR EACH ROW EXECUTE FUNCTION show();
        """)
        result = airflow.run(operator())
        assert "public.scores were not replaced: the password is ***" in str(result.error)
        assert "s3cret" not in f"{result.error}{result.log}{result.xcoms}{result.rendered}"
    finally:
        scores.execute("DROP OWNED BY writer; DROP ROLE writer")
