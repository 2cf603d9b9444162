"""A database snapshot that all ranges share: the task exports it, and the workers import it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.database.connect import is_alive
from burla_provider.database.errors import ON_STANDBY
from burla_provider.database.settings import (
    SessionSettings,
    application_name,
    local_settings,
    unreachable_client_settings,
)
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError, SnapshotLostError

_REFUSALS = (
    psycopg.errors.ObjectNotInPrerequisiteState,
    psycopg.errors.InvalidParameterValue,
    psycopg.errors.FeatureNotSupported,
)
"""Errors 55000, 22023 and 0A000, which servers without snapshot export raise."""

BEGIN = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
HOLDER_SETTINGS = {"idle_in_transaction_session_timeout": "0", "statement_timeout": "0", "lock_timeout": "60s"}
"""Settings of the holder's transaction, which is idle for as long as the job runs."""

_WORKER_SETTINGS = {"lock_timeout": "60s", "idle_in_transaction_session_timeout": "0"}
"""Defaults of the workers' transactions. lock_timeout ends a deadlock that the server does not detect: a range waits
for a session, which waits for the snapshot's holder, which waits for all ranges. An idle transaction needs no timeout,
because the holder's transaction is open for the same time."""

MAX_LOCKED_RELATIONS = 50
"""Relations that every worker locks when it joins. The server's lock table has a limited size."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that other sessions can join while its holder's transaction is open.

    :param id: returned by ``pg_export_snapshot()``.
    :param lockable: whether ``LOCK TABLE`` works on the table.
    :param locks_partitions: whether a session that joins locks all partitions. Otherwise it locks each when needed.
    :cvar idle_timeout: time limit of a worker's transaction between two ranges. The server then ends it, so that no
        worker blocks vacuum, or sessions that wait for a lock, after the job has ended.
    """

    id: str
    lockable: bool = True
    locks_partitions: bool = True
    idle_timeout: ClassVar[str] = "10s"

    @property
    def query_comment(self) -> str:
        """The comment that identifies idle workers of this snapshot in ``pg_stat_activity.query``."""
        return f"/* in snapshot {self.id} */"


@contextmanager
def held_snapshot(connection: psycopg.Connection[Any], schema: str, table: str) -> Iterator[Snapshot]:
    """Lock the table against TRUNCATE and DDL, and hold a snapshot in a transaction that is rolled back at the end.

    Hold it no longer than the job: vacuum cannot remove rows that the snapshot still sees.

    :param connection: an autocommit connection that is not in a transaction. Inside, its queries see the snapshot.
    :raises InvalidParameterError: if the server does not export snapshots, or the role cannot lock the table.
    :raises BurlaProviderError: if another session has locked the table.
    :raises psycopg.errors.UndefinedTable: if the table does not exist.
    """
    relation = sql.Identifier(schema, table)
    snapshot = None
    try:
        lockable = _is_lockable(connection, schema, table)
        # In one round trip, so that no timeout of the role applies in between.
        settings = HOLDER_SETTINGS | _no_timeout(connection) | unreachable_client_settings(connection)
        connection.execute(sql.SQL("{}; {}").format(BEGIN, local_settings(settings)))
        # Before the first query: a snapshot older than the lock could see a table that was truncated in between.
        _wait_for_lock(connection, relation, lockable)
        snapshot_id = _export(connection)
        locks_partitions = _count_locked_relations(connection) <= MAX_LOCKED_RELATIONS
        snapshot = Snapshot(snapshot_id, lockable, locks_partitions)
        yield snapshot
    finally:
        _release(connection, snapshot)


def check_visible(connection: psycopg.Connection[Any]) -> None:
    """Check that the snapshot sees the rows of all tables that its transaction has locked.

    The table of the job is locked before the snapshot is taken. Other tables, which subqueries and policies read, are
    locked when the server plans them. If one was truncated in between, the snapshot sees neither its old rows nor those
    that were loaded after that.

    :param connection: the connection that holds the snapshot.
    :raises BurlaProviderError: if a table has other files than in the snapshot.
    """
    names = [name for (name,) in connection.execute(_OTHER_FILES).fetchall()]
    if names:
        raise BurlaProviderError(
            f"{', '.join(names)}, which a subquery or a policy reads, was truncated, rewritten or created again while"
            " the task took its snapshot, which does not see the new rows. Retry the task."
        )


# Without the tables of the system, some of which have no file name in pg_class, without indexes, and without
# materialized views: every snapshot sees the rows of a refresh.
_OTHER_FILES = """
    SELECT relation::regclass::text
    FROM pg_locks LEFT JOIN pg_class AS seen ON seen.oid = relation
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384
        AND pg_relation_filenode(relation) <> coalesce(relfilenode, 0)
        AND relkind IS DISTINCT FROM 'm' AND pg_get_indexdef(relation) IS NULL
    GROUP BY relation ORDER BY 1
"""


def check_joinable(connection: psycopg.Connection[Any], snapshot: Snapshot, holder: psycopg.Connection[Any]) -> None:
    """Check that another session can join the snapshot.

    Servers that do not import snapshots, and poolers that distribute sessions over several servers, fail here instead
    of in every range.

    :param connection: an autocommit connection that is not in a transaction.
    :param holder: the connection that holds the snapshot.
    :raises InvalidParameterError: if it cannot join.
    :raises SnapshotLostError: if the session that held the snapshot has ended.
    """
    try:
        connection.execute(sql.SQL("{}; {}; ROLLBACK").format(BEGIN, _set_snapshot(snapshot)))
    except (*_REFUSALS, psycopg.errors.UndefinedObject) as error:
        if not is_alive(holder):
            raise _lost(error) from error
        raise _not_shareable(error) from None


def settings_in_snapshot(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the default settings of a transaction that joins a snapshot."""
    return _WORKER_SETTINGS | _no_timeout(connection)


BEGIN_RANGE = sql.SQL("SAVEPOINT burla_range")
"""Starts a range in a worker's transaction, which stays usable after a canceled query."""

END_RANGE = sql.SQL("RELEASE SAVEPOINT burla_range")
"""Ends the range. Its locks are kept."""

UNDO_RANGE = sql.SQL("ROLLBACK TO SAVEPOINT burla_range")
"""Makes the transaction usable again if the range's last query failed."""


def settings_between_ranges(snapshot: Snapshot, session: SessionSettings) -> sql.Composed:
    """Return the statements that end a range in a worker's transaction, which then waits for the next range."""
    settings = {
        "application_name": application_name(session.name),
        "idle_in_transaction_session_timeout": snapshot.idle_timeout,
    }
    return sql.SQL("{} {}; {}").format(sql.SQL(snapshot.query_comment), END_RANGE, local_settings(settings))


def join_snapshot(connection: psycopg.Connection[Any], snapshot: Snapshot, relation: sql.Identifier) -> None:
    """Import the snapshot into a new transaction, and lock the relation in it.

    :raises SnapshotLostError: if the session that held it has ended.
    :raises psycopg.errors.LockNotAvailable: if another session holds or waits for an exclusive lock. Waiting could be a
        deadlock, because that session waits for the snapshot's holder, which waits for this range. For relations that
        ``LOCK TABLE`` does not accept, the transaction's lock_timeout limits the wait.
    """
    try:
        connection.execute(_set_snapshot(snapshot))
    except (*_REFUSALS, psycopg.errors.UndefinedObject) as error:
        reason = ON_STANDBY if connection.info.parameter_status("in_hot_standby") == "on" else ""
        raise _lost(error, reason) from error
    only = not snapshot.locks_partitions
    connection.execute(_lock(relation, snapshot.lockable, nowait=True, only=only))


def lock_relation(connection: psycopg.Connection[Any], relation: sql.Identifier) -> None:
    """Lock a partition in a transaction that has joined a snapshot.

    :raises psycopg.errors.LockNotAvailable: as ``join_snapshot``.
    """
    connection.execute(_lock(relation, True, nowait=True))


def _release(connection: psycopg.Connection[Any], snapshot: Snapshot | None) -> None:
    # Explicitly, because the server notices a closed connection a little later, and holds the lock until then.
    with suppress(psycopg.Error):
        connection.execute("ROLLBACK")
        if snapshot is not None:
            _end_idle_workers(connection, snapshot)


def _end_idle_workers(connection: psycopg.Connection[Any], snapshot: Snapshot) -> None:
    # These sessions wait for another range, because the engine has not stopped the workers yet.
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND starts_with(query, %s)"
    )
    connection.execute(query, [snapshot.query_comment], prepare=False)


def _count_locked_relations(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessShareLock'"
    [(count,)] = connection.execute(query).fetchall()
    return int(count)


def _is_lockable(connection: psycopg.Connection[Any], schema: str, table: str) -> bool:
    relation = sql.Identifier(schema, table).as_string(connection)
    # LOCK TABLE does not accept materialized views.
    query = "SELECT relkind IN ('r', 'p', 'v') FROM pg_class WHERE oid = %s::regclass"
    row = connection.execute(query, [relation]).fetchone()
    return row is not None and row[0]


def _no_timeout(connection: psycopg.Connection[Any]) -> dict[str, str]:
    return {"transaction_timeout": "0"} if connection.info.server_version >= 170000 else {}


def _wait_for_lock(connection: psycopg.Connection[Any], relation: sql.Identifier, lockable: bool) -> None:
    try:
        connection.execute(_lock(relation, lockable, nowait=False))
    except psycopg.errors.LockNotAvailable as error:
        raise BurlaProviderError(
            f"Another session has held an exclusive lock on {relation.as_string()} for"
            f" {HOLDER_SETTINGS['lock_timeout']} ({_first_line(error)}). Retry the task when the lock is released;"
            " pg_locks shows who holds it."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        # Reading single columns would take the same lock, but only after the snapshot: the table could be truncated
        # in between.
        raise InvalidParameterError(
            "consistency",
            f"a snapshot of {relation.as_string()} requires SELECT on all of its columns ({_first_line(error)}).",
            'GRANT SELECT on the table, or use consistency="none", where every range has its own snapshot.',
        ) from None


def _set_snapshot(snapshot: Snapshot) -> sql.Composed:
    return sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot.id))


def _lock(relation: sql.Identifier, lockable: bool, *, nowait: bool, only: bool = False) -> sql.Composed:
    if not lockable:
        # A query takes the same lock, and holds it until the transaction ends.
        return sql.SQL("SELECT FROM {} LIMIT 0").format(relation)
    return sql.SQL("LOCK TABLE {} {} IN ACCESS SHARE MODE {}").format(
        sql.SQL("ONLY" if only else ""), relation, sql.SQL("NOWAIT" if nowait else "")
    )


def _export(connection: psycopg.Connection[Any]) -> str:
    try:
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    except _REFUSALS as error:
        raise _not_shareable(error) from None
    return str(row[0]) if row else ""


def _lost(error: psycopg.Error, reason: str = "") -> SnapshotLostError:
    return SnapshotLostError(
        f"The snapshot that all ranges share is gone ({_first_line(error)}): the session that held it ended."
        f" Run the task again: it uses a new snapshot. {reason}".rstrip()
    )


def _not_shareable(error: psycopg.Error) -> InvalidParameterError:
    return InvalidParameterError(
        "consistency",
        f"the server cannot share a snapshot between sessions ({_first_line(error)}).",
        'Use consistency="none", where every range has its own snapshot, or connect to PostgreSQL directly.',
    )


def _first_line(error: psycopg.Error) -> str:
    return str(error).splitlines()[0]
