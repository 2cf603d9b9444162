"""One moment of the database for all ranges: exported by the task, joined by the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.database.connect import open_connection
from burla_provider.database.errors import ON_STANDBY
from burla_provider.database.settings import SessionSettings, application_name, local_settings
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError, SnapshotLostError

REFUSALS = (
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
)
"""55000, 22023 and 0A000: how servers that cannot do it say so."""

BEGIN = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
SETTINGS = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "60s"}
"""Of the holder: it is idle for as long as the job takes, and waits for a lock no longer than a person would."""

IN_SNAPSHOT = {"lock_timeout": "60s", "idle_in_transaction_session_timeout": "0"}
"""Unless given. A range that waits for a lock behind somebody who waits for the snapshot's holder would wait for ever:
the holder waits for all ranges. And one that rests while a function computes takes nothing that the holder leaves."""


RELATIONS_AT_MOST = 50
"""Relations that every worker locks at its start. The server's table of locks is limited."""


@dataclass(frozen=True)
class Snapshot:
    """A moment that other sessions can join as long as its holder lives.

    :param id: what ``pg_export_snapshot()`` answered.
    :param lockable: whether ``LOCK TABLE`` works on the table.
    :param locks_partitions: whether those who join lock all partitions; else each as it needs one.
    :cvar between_ranges: how long a worker's transaction waits for another range. Then the server ends it, so that
        after the job's end it holds back neither vacuum nor those who wait for a lock, whatever became of the worker.
    """

    id: str
    lockable: bool = True
    locks_partitions: bool = True
    between_ranges: ClassVar[str] = "10s"

    @property
    def mark(self) -> str:
        """What ``pg_stat_activity`` shows in the query of a worker between two ranges."""
        return f"/* in snapshot {self.id} */"


@dataclass(frozen=True)
class HeldSnapshot:
    """The session that holds a snapshot. Its connection is in that moment too: use it for planning."""

    connection: psycopg.Connection[Any]
    snapshot: Snapshot


@contextmanager
def held_snapshot(
    parameters: Mapping[str, str], schema: str, table: str, *, name: str = "burla"
) -> Iterator[HeldSnapshot]:
    """Opens a session of its own, guards the table against TRUNCATE and DDL, and holds a snapshot until the end.

    Vacuum cannot remove what the snapshot still sees: hold it no longer than the job.

    :param parameters: what ``connection_parameters`` answered.
    :param name: shown in ``pg_stat_activity``.
    :raises InvalidParameterError: the server refuses to export or to join a snapshot, or the role may not guard the table.
    :raises BurlaProviderError: somebody keeps the table locked.
    :raises psycopg.errors.UndefinedTable: there is no such table.
    """
    relation = sql.Identifier(schema, table)
    holder = open_connection(parameters, application_name=application_name(name, " snapshot"), autocommit=True)
    snapshot = None
    try:
        lockable = _is_lockable(holder, schema, table)
        # At once, so that no limit of the role strikes in between.
        holder.execute(sql.SQL("{}; {}").format(BEGIN, local_settings(SETTINGS | _unlimited(holder))))
        # Before the first query: the snapshot must not be older than the lock, or it could see an emptied table.
        _wait_for_guard(holder, relation, lockable)
        snapshot = Snapshot(_export(holder), lockable, _locked_relations(holder) <= RELATIONS_AT_MOST)
        _check_joinable(parameters, snapshot, name)
        yield HeldSnapshot(holder, snapshot)
    finally:
        _give_up(holder, snapshot)


def settings_in_snapshot(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """What a transaction that joins a snapshot is to have, unless the user says otherwise."""
    return IN_SNAPSHOT | _unlimited(connection)


BEGIN_RANGE = sql.SQL("SAVEPOINT burla_range")
"""In a worker's transaction: a query that is stopped before its end must not end it."""


def settings_between_ranges(snapshot: Snapshot, session: SessionSettings, *, undo: bool = False) -> sql.Composed:
    """Return the statements for a worker's transaction that waits for the next range.

    :param undo: an error stopped the range's last query. Otherwise the range's locks are kept.
    """
    end = "ROLLBACK TO SAVEPOINT burla_range; RELEASE" if undo else "RELEASE"
    settings = {
        "application_name": application_name(session.name),
        "idle_in_transaction_session_timeout": snapshot.between_ranges,
    }
    return sql.SQL("{} {} SAVEPOINT burla_range; {}").format(
        sql.SQL(snapshot.mark), sql.SQL(end), local_settings(settings)
    )


def join_snapshot(connection: psycopg.Connection[Any], snapshot: Snapshot, relation: sql.Identifier) -> None:
    """Takes the transaction that just began to the held moment, and guards the relation for it.

    :raises SnapshotLostError: its holder is gone.
    :raises psycopg.errors.LockNotAvailable: somebody holds or awaits an exclusive lock. Waiting could last for ever:
        that somebody waits for the snapshot's holder, who waits for us. For what ``LOCK TABLE`` does not take, the
        transaction's lock_timeout says how long.
    """
    try:
        connection.execute(_join(snapshot))
    except (*REFUSALS, psycopg.errors.UndefinedObject) as error:
        why = ON_STANDBY if connection.info.parameter_status("in_hot_standby") == "on" else ""
        raise SnapshotLostError(
            f"The snapshot that all ranges share is gone ({_first_line(error)}): the session that held it ended."
            f" Run the task again: it reads at a new moment. {why}"
        ) from error
    only = not snapshot.locks_partitions
    connection.execute(_guard(relation, snapshot.lockable, nowait=True, only=only))


def lock_relation(connection: psycopg.Connection[Any], relation: sql.Identifier) -> None:
    """Guard a partition too, in a transaction that has joined.

    :raises psycopg.errors.LockNotAvailable: as ``join_snapshot``.
    """
    connection.execute(_guard(relation, True, nowait=True))


def _give_up(holder: psycopg.Connection[Any], snapshot: Snapshot | None) -> None:
    # Not by closing only: the server would notice a moment later, and until then the table stays guarded.
    with suppress(psycopg.Error):
        holder.execute("ROLLBACK")
        if snapshot is not None:
            _end_workers(holder, snapshot)
    holder.close()


def _end_workers(holder: psycopg.Connection[Any], snapshot: Snapshot) -> None:
    # Those that wait for another range, if the engine has not ended them. The last query tells whose they are.
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND starts_with(query, %s)"
    )
    holder.execute(query, [snapshot.mark], prepare=False)


def _locked_relations(holder: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessShareLock'"
    [(count,)] = holder.execute(query).fetchall()
    return int(count)


def _is_lockable(connection: psycopg.Connection[Any], schema: str, table: str) -> bool:
    relation = sql.Identifier(schema, table).as_string(connection)
    # LOCK TABLE takes tables, partitioned tables and views, but no materialized views.
    query = "SELECT relkind IN ('r', 'p', 'v') FROM pg_class WHERE oid = %s::regclass"
    row = connection.execute(query, [relation]).fetchone()
    return row is not None and row[0]


def _unlimited(connection: psycopg.Connection[Any]) -> dict[str, str]:
    return {"transaction_timeout": "0"} if connection.info.server_version >= 170000 else {}


def _wait_for_guard(holder: psycopg.Connection[Any], relation: sql.Identifier, lockable: bool) -> None:
    try:
        holder.execute(_guard(relation, lockable, nowait=False))
    except psycopg.errors.LockNotAvailable as error:
        raise BurlaProviderError(
            f"Somebody has held {relation.as_string()} exclusively for {SETTINGS['lock_timeout']}"
            f" ({_first_line(error)}): retry the task when they are done; pg_locks says who it is."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        # Reading takes the lock too, but a moment after the snapshot: between the two the table could be emptied.
        raise InvalidParameterError(
            "consistency",
            f"a snapshot of {relation.as_string()} takes the right to read all of its columns ({_first_line(error)}).",
            'GRANT SELECT on the whole table, or give consistency="none" to read every range at its own moment.',
        ) from None


def _join(snapshot: Snapshot) -> sql.Composed:
    return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.id))


def _guard(relation: sql.Identifier, lockable: bool, *, nowait: bool, only: bool = False) -> sql.Composed:
    if not lockable:
        # Reading takes the same lock, held until the transaction ends.
        return sql.SQL("SELECT FROM {} LIMIT 0").format(relation)
    return sql.SQL("LOCK TABLE {} {} IN ACCESS SHARE MODE {}").format(
        sql.SQL("ONLY" if only else ""), relation, sql.SQL("NOWAIT" if nowait else "")
    )


def _export(holder: psycopg.Connection[Any]) -> str:
    try:
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
    except REFUSALS as error:
        raise _refused(error) from None
    return str(row[0]) if row else ""


def _check_joinable(parameters: Mapping[str, str], snapshot: Snapshot, name: str) -> None:
    # Servers that import no snapshots, and poolers that spread sessions over several servers, show here, not in a job.
    probe_name = application_name(name, " snapshot probe")
    with open_connection(parameters, application_name=probe_name, autocommit=True) as probe:
        try:
            probe.execute(sql.SQL("{}; {}; ROLLBACK").format(BEGIN, _join(snapshot)))
        except (*REFUSALS, psycopg.errors.UndefinedObject) as error:
            raise _refused(error) from None


def _refused(error: psycopg.Error) -> InvalidParameterError:
    return InvalidParameterError(
        "consistency",
        f"the server cannot share one snapshot between sessions ({_first_line(error)}).",
        'Give consistency="none" to read every range at its own moment, or connect to PostgreSQL directly.',
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).splitlines()[0]
