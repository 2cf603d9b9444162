"""The exchange of an overwrite ends with the rows that one DELETE and one INSERT give."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burla_provider.database.settings import SessionSettings
from burla_provider.exceptions import ExchangeError, OverwriteError
from burla_provider.task.exchange import Exchange, exchange_rows
from burla_provider.task.ledger_table import prepare_ledger, read_exchange
from burla_provider.task.staging import Staging
from burla_provider.worker.sinks import Target
from tests.support.marks import conninfo_of
from tests.support.waiting import wait_for

COLUMNS = ("a", "b", "Day%", "note", "amount", "doc")
WHERE = """ "Day%" >= 2 -- the condition ends with a comment"""
TABLE = """
    CREATE TABLE target (
        a integer NOT NULL, b text NOT NULL, "Day%" integer, note text, amount numeric, doc json,
        made serial, twice integer GENERATED ALWAYS AS (a * 2) STORED
    )
"""

keys = st.tuples(st.integers(-3, 3), st.sampled_from(["", "x", "é%"]))
values = st.tuples(
    st.sampled_from([None, "", "old", "new"]),
    st.sampled_from([None, "1", "1.0", "NaN", "-2.50"]),
    st.sampled_from([None, "{}", "{ }", '{"a": 1}']),
)
rows_by_key = st.dictionaries(keys, st.tuples(st.integers(0, 4), values), max_size=12)
rows_without_key = st.lists(st.tuples(keys, st.tuples(st.integers(0, 4) | st.none(), values)), max_size=12)


def as_rows(drawn: Any) -> list[tuple[Any, ...]]:
    pairs = drawn.items() if isinstance(drawn, dict) else drawn
    return [(*key, day, *rest) for key, (day, rest) in pairs]


class Overwrite:
    """A target, and its staging table and ledger."""

    def __init__(self, connection: psycopg.Connection[Any], key: tuple[str, ...], where: str = WHERE) -> None:
        self.connection = connection
        self.exchange = Exchange(Target("public", "target", COLUMNS), key, where, ("made", "twice"))
        self.staging = Staging("public", "a run")
        connection.execute("DROP TABLE IF EXISTS target, burla_rows CASCADE")
        self.staging.drop(connection)
        connection.execute(TABLE)
        if key:
            connection.execute("ALTER TABLE target ADD PRIMARY KEY (a, b)")
        prepare_ledger(connection, self.staging.ledger)
        connection.execute(self.exchange.create_staging(self.staging.relation))

    def insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        columns = ", ".join(f'"{name}"' for name in COLUMNS).replace("%", "%%")
        with self.connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES (%s, %s, %s, %s, %s, %s)", rows)

    def rows(self) -> list[tuple[Any, ...]]:
        query = """SELECT a, b, "Day%", note, amount::text, doc::text, twice FROM target"""
        return sorted(self.connection.execute(query).fetchall(), key=repr)

    def run(self, staged: int) -> dict[str, int]:
        ledger = self.staging.ledger
        return exchange_rows(
            self.connection, self.exchange, self.staging.relation, ledger, SessionSettings(), staged, {}
        )


def wanted(before: list[tuple[Any, ...]], produced: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    rows = [row for row in before if row[2] is None or row[2] < 2] + produced
    return sorted(((*row, row[0] * 2) for row in rows), key=repr)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=rows_by_key, produced=rows_by_key)
def test_rows_with_a_key_are_replaced(connection: Any, before: Any, produced: Any) -> None:
    old = as_rows(before)
    kept = {row[:2] for row in old if row[2] < 2}
    new = [row for row in as_rows(produced) if row[2] >= 2 and row[:2] not in kept]
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert("target", old)
    versions = dict(connection.execute("SELECT ROW(a, b)::text, xmin::text FROM target").fetchall())
    overwrite.insert(f'"{overwrite.staging.table}"', new)
    counts = overwrite.run(len(new))
    assert overwrite.rows() == wanted(old, new)
    after = dict(connection.execute("SELECT ROW(a, b)::text, xmin::text FROM target").fetchall())
    same = [row for row in new if row in old]
    there = [row for row in new if row[:2] in {other[:2] for other in old}]
    assert counts == {
        "rows_inserted": len(new) - len(there),
        "rows_updated": len(there) - len(same),
        "rows_unchanged": len(same),
        "rows_deleted": len(old) - len(kept) - len(there),
    }
    unwritten = sum(after.get(key) == version for key, version in versions.items())
    assert unwritten == len(kept) + len(same)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=rows_without_key, produced=rows_without_key)
def test_rows_without_a_key_are_replaced(connection: Any, before: Any, produced: Any) -> None:
    old, new = as_rows(before), [row for row in as_rows(produced) if row[2] is not None and row[2] >= 2]
    overwrite = Overwrite(connection, ())
    overwrite.insert("target", old)
    overwrite.insert(f'"{overwrite.staging.table}"', new)
    counts = overwrite.run(len(new))
    assert overwrite.rows() == wanted(old, new)
    deleted = sum(row[2] is not None and row[2] >= 2 for row in old)
    assert counts == {"rows_inserted": len(new), "rows_updated": 0, "rows_unchanged": 0, "rows_deleted": deleted}


ROW = (1, "x", 3, None, None, None)


@pytest.mark.parametrize("key", [("a", "b"), ()])
@pytest.mark.parametrize("day", [1, None])
def test_a_row_outside_of_the_condition_is_an_error(connection: Any, key: Any, day: Any) -> None:
    overwrite = Overwrite(connection, key)
    overwrite.insert("target", [ROW])
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW, (7, "y", day, None, None, None)])
    with pytest.raises(OverwriteError, match=r"outside of overwrite_where.*7,y.*unchanged"):
        overwrite.run(2)
    assert [row[:6] for row in overwrite.rows()] == [ROW]
    assert read_exchange(connection, overwrite.staging.ledger) is None


def test_an_updated_row_outside_of_the_condition_is_an_error(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert("target", [ROW])
    overwrite.insert(f'"{overwrite.staging.table}"', [(1, "x", 1, None, None, None)])
    with pytest.raises(OverwriteError, match=r"outside of overwrite_where.*\(a, b\) = \(1,x\)"):
        overwrite.run(1)


def test_a_key_of_a_row_outside_of_the_condition_is_an_error(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert("target", [(1, "x", 0, None, None, None)])
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
    with pytest.raises(OverwriteError, match=r"Key \(a, b\)=\(1, x\) already exists.*outside of overwrite_where"):
        overwrite.run(1)


def test_a_key_that_is_equal_but_not_the_same_is_replaced(connection: Any) -> None:
    overwrite = Overwrite(connection, ("amount",))
    connection.execute("ALTER TABLE target DROP CONSTRAINT target_pkey, ADD UNIQUE (amount)")
    overwrite.insert("target", [(1, "x", 3, None, "1.0", None), (2, "x", 3, None, "2", None)])
    new = [(1, "x", 3, None, "1.00", None), (2, "x", 3, None, "2", None)]
    overwrite.insert(f'"{overwrite.staging.table}"', new)
    assert overwrite.run(2) == {"rows_inserted": 0, "rows_updated": 1, "rows_unchanged": 1, "rows_deleted": 0}
    assert overwrite.rows() == wanted([], new)


def test_two_rows_with_a_key_are_an_error(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW, ROW])
    with pytest.raises(OverwriteError, match=r"same key \(a, b\): \(1,x\)"):
        overwrite.run(2)


def test_a_staging_table_that_was_changed_is_not_used(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
    with pytest.raises(OverwriteError, match="has 1 rows instead of 2"):
        overwrite.run(2)


def test_a_staged_row_must_satisfy_the_constraints_of_the_target(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    connection.execute("ALTER TABLE target ADD CHECK (a > 0), ADD CHECK (made > 0)")
    connection.execute(f'DROP TABLE "{overwrite.staging.table}"')
    connection.execute(overwrite.exchange.create_staging(overwrite.staging.relation))
    with pytest.raises(psycopg.errors.CheckViolation):
        overwrite.insert(f'"{overwrite.staging.table}"', [(-1, "x", 3, None, None, None)])


def test_values_may_move_between_rows_if_their_constraint_is_deferrable(connection: Any) -> None:
    old, new = [(n, "x", 3, note, None, None) for n, note in ((1, "p"), (2, "q"))], []
    for constraint in ("UNIQUE (note)", "EXCLUDE (note WITH =)", "UNIQUE (note) DEFERRABLE"):
        overwrite = Overwrite(connection, ("a", "b"))
        connection.execute(f"ALTER TABLE target ADD {constraint}")
        overwrite.insert("target", old)
        new = [(n, "x", 3, note, None, None) for n, note in ((1, "q"), (2, "p"))]
        overwrite.insert(f'"{overwrite.staging.table}"', new)
        if "DEFER" in constraint:
            assert overwrite.run(2)["rows_updated"] == 2
        else:
            with pytest.raises(OverwriteError, match="two rows exchange their values"):
                overwrite.run(2)
    assert overwrite.rows() == wanted([], new)


def test_a_deleted_row_gives_its_value_to_another(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    connection.execute("ALTER TABLE target ADD UNIQUE (note)")
    overwrite.insert("target", [(1, "x", 3, "p", None, None), (2, "x", 3, "q", None, None)])
    overwrite.insert(f'"{overwrite.staging.table}"', [(2, "x", 3, "p", None, None), (3, "x", 3, "q", None, None)])
    assert overwrite.run(2) == {"rows_inserted": 1, "rows_updated": 1, "rows_unchanged": 0, "rows_deleted": 1}


def test_the_second_of_two_exchanges_does_nothing(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
    counts = overwrite.run(1)
    connection.execute("DELETE FROM target")
    assert overwrite.run(1) == counts
    assert overwrite.rows() == []


def test_the_server_says_what_a_foreign_key_does_not_allow(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert("target", [ROW])
    connection.execute("CREATE TABLE burla_rows (a integer, b text, FOREIGN KEY (a, b) REFERENCES target)")
    connection.execute("INSERT INTO burla_rows VALUES (1, 'x')")
    with pytest.raises(ExchangeError, match=r"violates foreign key constraint.*A retry repeats only this step"):
        overwrite.run(0)
    assert connection.execute("SELECT count(*) FROM target").fetchone() == (1,)


def test_a_statement_timeout_is_named(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
    connection.execute("""
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(10); RETURN new; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON target FOR EACH ROW EXECUTE FUNCTION wait();
        SET statement_timeout = '200ms';
    """)
    with pytest.raises(ExchangeError, match=r"statement timeout\. Raise statement_timeout before the next retry"):
        overwrite.run(1)


def test_the_staging_table_is_locked_against_writes_during_the_exchange(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    overwrite.insert(f'"{overwrite.staging.table}"', [ROW])
    conninfo = conninfo_of(connection)
    with psycopg.connect(conninfo) as writer, psycopg.connect(conninfo, autocommit=True) as late_worker:
        writer.execute("LOCK TABLE target IN ROW EXCLUSIVE MODE")  # as an INSERT that is not committed
        with ThreadPoolExecutor() as pool:
            exchange = pool.submit(overwrite.run, 1)
            waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'target'::regclass"
            wait_for(lambda: late_worker.execute(waiting).fetchone() is not None)
            late_worker.execute("SET lock_timeout = '100ms'")
            try:
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    late_worker.execute(f"INSERT INTO \"{overwrite.staging.table}\" (a, b) VALUES (9, 'y')")
            finally:
                writer.rollback()
            assert exchange.result()["rows_inserted"] == 1
    assert [row[:6] for row in overwrite.rows()] == [ROW]


def test_types_that_were_changed_since_the_rows_were_staged_are_refused(connection: Any) -> None:
    overwrite = Overwrite(connection, ("a", "b"))
    connection.execute("ALTER TABLE target ALTER note TYPE varchar(3)")
    with pytest.raises(OverwriteError, match=r"Types of the columns of public\.target were changed"):
        overwrite.run(0)
