"""The staging tables of overwrites: one per run, which a retry of the run finds, and a later run removes."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal
from burla_provider.database.table_creation import lock_table_creation, table_exists
from burla_provider.task.ledger_table import ABANDONED_AFTER, is_planned, read_exchange, remove_run
from burla_provider.task.reject_table import remove_rejects
from burla_provider.task.run_identity import run_key, run_started, task_run
from burla_provider.worker.ledger import Ledger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.exchange import Exchange
    from burla_provider.worker.rejects import RejectTable

PREFIX = "burla_staging_"
_LEDGER_SUFFIX = "_ledger"

_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.UTC).isoformat()
"""Start of a run in the comment of its tables that lets the next run of the task drop them."""

_LOCK_TIMEOUT = "2s"
"""A table that is in use for longer is not removed."""

_TABLES = f"""
    SELECT n.nspname::text, c.relname::text, obj_description(c.oid, 'pg_class')
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND starts_with(c.relname, '{PREFIX}') AND pg_has_role(c.relowner, 'USAGE')
"""  # noqa: S608 (a constant)


@dataclass(frozen=True)
class Staging:
    """The tables of one run, beside the target.

    :param schema: the schema of the target.
    :param run_key: the key of the run.
    """

    schema: str
    run_key: str

    @property
    def table(self) -> str:
        """Name of the staging table."""
        return PREFIX + hashlib.sha256(self.run_key.encode()).hexdigest()[:20]

    @property
    def relation(self) -> Identifier:
        """The staging table as SQL."""
        return Identifier(self.schema, self.table)

    @property
    def ledger(self) -> Ledger:
        """The ledger of a run to which the user gave none."""
        return Ledger(self.schema, self.table + _LEDGER_SUFFIX, self.run_key)

    def prepare(
        self,
        connection: psycopg.Connection[Any],
        exchange: Exchange,
        ledger: Ledger,
        rejects: RejectTable | None,
        context: Context,
    ) -> None:
        """Create the staging table, unless an earlier try has done so.

        :param ledger: of the run; its table exists.
        :param rejects: table of the rejected rows; None: no row is rejected.
        """
        with connection.transaction():
            lock_table_creation(connection)
            if read_exchange(connection, ledger) is not None:
                return
            comment = _describe(context, self.run_key)
            if ledger == self.ledger:
                connection.execute(_comment(ledger.relation, comment))
            if table_exists(connection, self.relation) and is_planned(connection, ledger):
                return
            # Only both together say which rows are staged. The table is dropped first, which waits for the transactions
            # of an earlier try's workers: the statements below then see what these have written.
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(self.relation))
            if rejects:
                remove_rejects(connection, rejects, run_key(context))
            remove_run(connection, ledger, run_key(context))
            connection.execute(exchange.create_staging(self.relation))
            connection.execute(_comment(self.relation, comment))

    def drop(self, connection: psycopg.Connection[Any]) -> None:
        """Drop the tables of the run, if they are there. The next run drops those that another session reads now."""
        try:
            _drop(connection, self.relation, self.ledger.relation)
        except psycopg.errors.LockNotAvailable:
            for relation, run in _find_runs(connection):
                if run.get("run_key") == self.run_key:
                    connection.execute(_comment(relation, json.dumps(run | {"since": _LONG_AGO}, ensure_ascii=False)))


def remove_abandoned(connection: psycopg.Connection[Any], staging: Staging, context: Context) -> list[str]:
    """Drop the tables of runs of this task that are dead, and return their names.

    A run is dead if the same task of the same DAG run has another key now: it was cleared, or the DAG run was created
    again. A DAG run with the same id may be that of another Airflow, unless its start or its version of the DAG is the
    same. The runs of other DAG runs count as dead after ``ABANDONED_AFTER``. If such a run is retried nevertheless, it
    starts from the beginning: rows are in the target only when a run has ended.
    """
    removed = []
    for relation, run in _find_runs(connection):
        if run.get("run_key") == staging.run_key or not _is_dead(run, context):
            continue
        with suppress(psycopg.Error):  # it is in use, or a view depends on it
            _drop(connection, relation)
            removed.append(relation.as_string())
    return removed


def _find_runs(connection: psycopg.Connection[Any]) -> Iterator[tuple[Identifier, dict[str, Any]]]:
    for schema, table, comment in connection.execute(_TABLES).fetchall():
        with suppress(ValueError):
            run = json.loads(comment or "")
            if isinstance(run, dict):
                yield Identifier(schema, table), run


def _is_dead(run: Mapping[str, Any], context: Context) -> bool:
    ti = context["ti"]
    if (run.get("dag"), run.get("task")) != (ti.dag_id, ti.task_id):
        return False
    is_same = {name for name, value in _identity(context).items() if run.get(name) == value}
    if "task_run" in is_same and is_same & {"started", "dag_version"}:
        return True
    since = datetime.datetime.fromisoformat(run["since"])
    return datetime.datetime.now(datetime.UTC) - since > ABANDONED_AFTER


def _describe(context: Context, run_key: str) -> str:
    ti = context["ti"]
    return json.dumps(
        {
            "made_by": "airflow-provider-burla",
            "dag": ti.dag_id,
            "task": ti.task_id,
            "run": ti.run_id,
            "map_index": ti.map_index,
            "since": datetime.datetime.now(datetime.UTC).isoformat(),
            "run_key": run_key,
            **_identity(context),
        },
        ensure_ascii=False,
    )


def _identity(context: Context) -> dict[str, str]:
    """Return what is the same when the task is cleared: the first, and at least one of the others."""
    return {
        "task_run": task_run(context),
        "started": str(run_started(context)),  # another one if the DAG run had ended
        "dag_version": str(context["ti"].dag_version_id),  # another one if the DAG has changed
    }


def _comment(relation: Identifier, comment: str) -> sql.Composed:
    return sql.SQL("COMMENT ON TABLE {} IS {}").format(relation, Literal(comment))


def _drop(connection: psycopg.Connection[Any], *relations: Identifier) -> None:
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
        connection.execute(sql.SQL("SET LOCAL client_min_messages = warning"))
        connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.SQL(", ").join(relations)))
