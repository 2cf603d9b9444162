"""The ledger's table: create and check it, and read and store the plan and the outcomes of a run."""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from burla_provider.database.table_creation import (
    check_writable,
    lock_table_creation,
    quoted_role,
    table_exists,
    trial_write,
)
from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.run_identity import old_run_key, run_started
from burla_provider.task.session import resolve
from burla_provider.task.table_version import upgrade_table
from burla_provider.worker.chunk_ledger import WRITTEN_AT
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.outcome import Outcome, decode

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

COLUMNS = {
    "run_key": "text",
    "range_index": "integer",
    "range": "text",
    "row_count": "bigint",
    "result": "jsonb",
    "answer": "bytea",
    "attempt": "integer",
    "worker": "text",
    "started_at": "timestamp with time zone",
    "finished_at": "timestamp with time zone",
}

ADDED_COLUMNS: Sequence[Mapping[str, str]] = ()
"""Columns of versions 2, 3, ..., see ``table_version.py``."""

DDL = """
CREATE TABLE IF NOT EXISTS {table} (
    run_key     text        COLLATE "C" NOT NULL CHECK (run_key <> ''),  -- so that its index finds prefixes
    range_index integer     NOT NULL,
    range       text        NOT NULL,                            -- the bounds of its key
    row_count   bigint,
    result      jsonb,                                           -- what the function returned, for people and SQL
    answer      bytea,                                           -- the same, exactly, for this provider
    attempt     integer     NOT NULL,                            -- of the worker, from 1
    worker      text        NOT NULL,                            -- host:pid
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (run_key, range_index)
)
"""
"""The statement that creates the table ``{table}``, also for roles that cannot run it themselves."""

_MISSING = """
    SELECT name || ' ' || kind FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (name, kind, position)
    WHERE NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = %s::regclass AND attname = name AND atttypid = kind::regtype
    )
    ORDER BY position
"""

_HAS_KEY = """
    SELECT EXISTS (
        SELECT FROM pg_index AS i
        WHERE i.indrelid = %s::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
            AND i.indexprs IS NULL AND i.indnkeyatts = 2 AND (
                SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_attribute AS a
                WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])
            ) = '{range_index,run_key}'
    )
"""

_OBSTACLES = """
    SELECT 'the trigger ' || tgname FROM pg_trigger
    WHERE tgrelid = %(table)s::regclass AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 3 = 3  -- BEFORE ROW
    UNION ALL
    SELECT 'the rule ' || rulename FROM pg_rewrite WHERE ev_class = %(table)s::regclass
    UNION ALL
    SELECT 'row security for this role' WHERE row_security_active(%(table)s::regclass)
"""

_PLAN = -1
"""The range_index of the row that stores a run's plan."""

_EXCHANGE = -2
"""The range_index of the row that stores the last step of an overwrite."""

ABANDONED_AFTER = datetime.timedelta(days=7)
"""A run that is not complete and has written nothing for this time will not continue."""

# A range that is not finished has a row only if it is written in chunks.
_REMOVE_OLD_RUNS = """
    WITH idle AS (
        SELECT run_key, max(coalesce(finished_at, (result ->> {written_at})::timestamptz, started_at)) AS since,
            count(*) FILTER (WHERE range_index > {plan} AND finished_at IS NOT NULL) AS finished
        FROM {table} WHERE run_key <> %(run)s GROUP BY run_key
    )
    DELETE FROM {table} WHERE run_key IN (
        SELECT idle.run_key FROM idle LEFT JOIN {table} AS plan
            ON plan.run_key = idle.run_key AND plan.range_index = {plan}
        WHERE since < clock_timestamp() - %(age)s AND (
            since < clock_timestamp() - %(abandoned)s
            OR finished >= jsonb_array_length(plan.result -> 1 -> 'items')
        )
    )
"""

_RESULT_OF_RANGE: LiteralString = "SELECT result::text FROM {} WHERE run_key = %s AND range_index = %s"


def open_ledger(connection: psycopg.Connection[Any], name: str, key: str, context: Context) -> Ledger:
    """Return the ledger of a run. Its table exists.

    :param name: the table's name in SQL.
    :param key: of the run.
    :raises InvalidParameterError: if the table cannot be used.
    """
    schema, table = resolve(connection, "ledger", name)
    ledger = Ledger(schema, table, key)
    prepare_ledger(connection, ledger)
    # A run that began before an upgrade of the provider continues under the key that it had then.
    old = Ledger(schema, table, old_run_key(context))
    started = run_started(context)
    return old if started and _is_planned_since(connection, old, started) else ledger


def prepare_ledger(connection: psycopg.Connection[Any], ledger: Ledger) -> None:
    """Create the ledger's table if it does not exist, and check that it can store ranges.

    :raises InvalidParameterError: if it cannot be created or written, or has other columns, triggers or rules.
    """
    check_writable(connection, "ledger", ledger.schema)
    table = ledger.relation.as_regclass(connection)
    _create(connection, ledger)
    _check_columns(connection, ledger, table)
    _check_obstacles(connection, ledger, table)
    _check_permission(connection, ledger, table)
    upgrade_table(connection, ledger.relation, ADDED_COLUMNS)
    with trial_write(connection, "ledger", ledger.relation):
        store_plan(connection, replace(ledger, run_key=f"{ledger.run_key}/trial {secrets.token_hex(8)}"), [])


def store_plan(connection: psycopg.Connection[Any], ledger: Ledger, items: Sequence[Any]) -> list[Any]:
    """Store the run's plan unless an earlier try has stored one, and return the stored plan.

    :param items: JSON.
    """
    insert = sql.SQL(
        "INSERT INTO {} (run_key, range_index, range, attempt, worker, result, finished_at)"
        " VALUES (%s, %s, 'the plan', 1, '', %s::jsonb, clock_timestamp()) ON CONFLICT DO NOTHING"
    ).format(ledger.relation)
    select = sql.SQL(_RESULT_OF_RANGE).format(ledger.relation)
    with connection.transaction():
        connection.execute(insert, [ledger.run_key, _PLAN, json.dumps(items, ensure_ascii=False)])
        [(stored,)] = connection.execute(select, [ledger.run_key, _PLAN]).fetchall()
    return list(json.loads(stored))  # as text: psycopg decodes json as UTF-8, whatever the client encoding


def update_plan(
    connection: psycopg.Connection[Any], ledger: Ledger, change: Callable[[list[Any] | None], list[Any]]
) -> list[Any]:
    """Replace the run's plan by what ``change`` returns, and return it. The row is locked meanwhile.

    :param change: gets the stored plan, or None if the ledger has none.
    """
    select = sql.SQL(_RESULT_OF_RANGE + " FOR UPDATE").format(ledger.relation)
    update = sql.SQL("UPDATE {} SET result = %s::jsonb WHERE run_key = %s AND range_index = %s").format(ledger.relation)
    with connection.transaction():
        row = connection.execute(select, [ledger.run_key, _PLAN]).fetchone()
        items = change(list(json.loads(row[0])) if row else None)
        connection.execute(update, [json.dumps(items, ensure_ascii=False), ledger.run_key, _PLAN])
    return items


def read_outcomes(connection: psycopg.Connection[Any], ledger: Ledger) -> Iterator[Outcome]:
    """Yield the outcomes of this run's finished ranges."""
    query = sql.SQL("SELECT answer FROM {} WHERE run_key = %s AND range_index > %s AND finished_at IS NOT NULL")
    for (encoded,) in connection.execute(query.format(ledger.relation), [ledger.run_key, _PLAN]):
        yield decode(encoded)


def is_begun(connection: psycopg.Connection[Any], ledger: Ledger) -> bool:
    """Return whether rows of this run were written."""
    query = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE run_key = %s AND range_index > %s)").format(ledger.relation)
    [(exists,)] = connection.execute(query, [ledger.run_key, _PLAN]).fetchall()
    return bool(exists)


def _is_planned_since(connection: psycopg.Connection[Any], ledger: Ledger, since: datetime.datetime) -> bool:
    """Return whether the run's plan was stored at ``since`` or later."""
    query = sql.SQL("SELECT count(*) FROM {} WHERE run_key = %s AND range_index = %s AND finished_at >= %s")
    values = [ledger.run_key, _PLAN, since]
    [(count,)] = connection.execute(query.format(ledger.relation), values).fetchall()
    return bool(count)


def count_finished(connection: psycopg.Connection[Any], ledger: Ledger, task: str, run: str) -> int:
    """Return how many ranges other runs of the task have finished.

    :param task: prefix of the keys of all runs of the task, without the slash.
    :param run: the key of the run that does not count.
    """
    query = sql.SQL("SELECT count(*) FROM {} WHERE {} AND NOT {} AND range_index > {} AND finished_at IS NOT NULL")
    parts = (ledger.relation, _begins_with(task), of_all_tries(run), sql.Literal(_PLAN))
    [(count,)] = connection.execute(query.format(*parts)).fetchall()
    return int(count)


def remove_old_runs(connection: psycopg.Connection[Any], ledger: Ledger, age: datetime.timedelta) -> int:
    """Remove the runs, other than this one, that last wrote longer ago than ``age``.

    A run that has not finished all ranges of its plan may still be running, or wait for a retry. It is removed if it
    has written nothing for ``ABANDONED_AFTER`` either.

    :returns: the number of rows removed.
    """
    query = sql.SQL(_REMOVE_OLD_RUNS).format(
        table=ledger.relation, plan=sql.Literal(_PLAN), written_at=sql.Literal(WRITTEN_AT)
    )
    values = {"run": ledger.run_key, "age": age, "abandoned": ABANDONED_AFTER}
    with connection.transaction():
        return connection.execute(query, values).rowcount


def store_exchange(connection: psycopg.Connection[Any], ledger: Ledger, counts: Mapping[str, int]) -> None:
    """Store that the rows of the run have replaced those of the target."""
    query = sql.SQL(
        "INSERT INTO {} (run_key, range_index, range, attempt, worker, result, finished_at)"
        " VALUES (%s, %s, 'the exchange', 1, '', %s::jsonb, clock_timestamp())"
    ).format(ledger.relation)
    connection.execute(query, [ledger.run_key, _EXCHANGE, json.dumps(counts)])


def read_exchange(connection: psycopg.Connection[Any], ledger: Ledger) -> dict[str, int] | None:
    """Return the counts of ``store_exchange``; None: the rows of the target were not replaced yet."""
    row = connection.execute(sql.SQL(_RESULT_OF_RANGE).format(ledger.relation), [ledger.run_key, _EXCHANGE]).fetchone()
    return json.loads(row[0]) if row else None


def is_planned(connection: psycopg.Connection[Any], ledger: Ledger) -> bool:
    """Return whether the run has a plan."""
    query = sql.SQL(_RESULT_OF_RANGE).format(ledger.relation)
    return connection.execute(query, [ledger.run_key, _PLAN]).fetchone() is not None


def remove_run(connection: psycopg.Connection[Any], ledger: Ledger, run: str) -> None:
    """Remove the plan and the outcomes of a run.

    :param run: the key of the run. Its tries may have keys of their own.
    """
    connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(ledger.relation, of_all_tries(run)))


def of_all_tries(run: str) -> sql.Composed:
    """Return the condition of the rows of a run, and of tries that continue nothing and have longer keys."""
    return sql.SQL("(run_key = {} OR {})").format(sql.Literal(run), _begins_with(run))


def _begins_with(key: str) -> sql.Composed:
    """Return the condition of the rows whose run key begins with a key and a slash."""
    # Not starts_with(), for which PostgreSQL 14 uses no index. "0" follows the slash in ASCII.
    condition = sql.SQL('(run_key COLLATE "C" >= {} AND run_key COLLATE "C" < {})')
    return condition.format(sql.Literal(f"{key}/"), sql.Literal(f"{key}0"))


def _create(connection: psycopg.Connection[Any], ledger: Ledger) -> None:
    try:
        if table_exists(connection, ledger.relation):
            return
        with connection.transaction():
            lock_table_creation(connection)
            connection.execute(sql.SQL(DDL).format(table=ledger.relation))
    except psycopg.errors.InvalidSchemaName:
        problem = f"the table {ledger} does not exist, and there is no schema {ledger.schema}."
        raise InvalidParameterError("ledger", problem, "Name a table in another schema, or create this one.") from None
    except psycopg.errors.InsufficientPrivilege as error:
        schema = sql.Identifier(ledger.schema).as_string(connection)
        raise InvalidParameterError(
            "ledger",
            f"the table {ledger} cannot be found or created ({error.diag.message_primary}).",
            f"Run: GRANT CREATE, USAGE ON SCHEMA {schema} TO {quoted_role(connection)}; Or create the table with the"
            " statement in the documentation.",
        ) from None


def _check_columns(connection: psycopg.Connection[Any], ledger: Ledger, table: str) -> None:
    rows = connection.execute(_MISSING, [list(COLUMNS), list(COLUMNS.values()), table]).fetchall()
    missing = [name for (name,) in rows]
    [(has_key,)] = connection.execute(_HAS_KEY, [table]).fetchall()
    if not has_key:
        missing.append("PRIMARY KEY (run_key, range_index)")
    if missing:
        raise InvalidParameterError(
            "ledger",
            f"the table {ledger} is not a ledger of this provider: it does not have {', '.join(missing)}.",
            "Name a table that does not exist: it will be created.",
        )


def _check_obstacles(connection: psycopg.Connection[Any], ledger: Ledger, table: str) -> None:
    obstacles = [name for (name,) in connection.execute(_OBSTACLES, {"table": table}).fetchall()]
    if obstacles:
        raise InvalidParameterError(
            "ledger",
            f"the table {ledger} has {', '.join(obstacles)}, which may change or hide its rows.",
            "Remove it, or name another table, which is then created.",
        )


def _check_permission(connection: psycopg.Connection[Any], ledger: Ledger, table: str) -> None:
    query = "SELECT bool_and(has_table_privilege(%s, p)) FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p"
    [(allowed,)] = connection.execute(query, [table]).fetchall()
    if not allowed:
        raise InvalidParameterError(
            "ledger",
            f"the role {quoted_role(connection)} cannot SELECT, INSERT, UPDATE and DELETE in {ledger}.",
            f"Run: GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {quoted_role(connection)};",
        )
