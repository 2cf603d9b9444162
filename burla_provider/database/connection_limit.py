"""Limit the connections of a job, and share the limit between all jobs on a database.

Each worker connection holds a slot, which is an advisory lock, so that all jobs together stay within the limit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from burla_provider.exceptions import BurlaProviderError, InvalidParameterError

_HEADROOM = 0.2
"""Fraction of the server's connections that stays free for other clients."""
_HEADROOM_IF_GIVEN = 0.05
"""The same fraction (but at least 2 connections) if the user set ``max_parallelism``."""

LOCK_CLASS = 0x42_75_72_6C
"""First key of the advisory locks ("Burl"); the second key is the slot. ``pg_locks`` has them as classid and objid."""

_WAITS = (0, 0.2, 0.5, 1, 2)
"""Seconds before each check: a session that was just closed is counted until its process has ended."""

# Functions, because an administrator may have hidden the views pg_stat_database and pg_stat_activity from all roles.
_QUERY = """
    SELECT current_setting('max_connections')::int AS allowed,
           current_setting('superuser_reserved_connections')::int
               + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
           (SELECT coalesce(sum(pg_stat_get_db_numbackends(oid)), 0)::int FROM pg_database) AS in_use,
           nullif(CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END, -1) AS role_limit,
           (SELECT count(*)::int FROM pg_stat_get_activity(NULL) WHERE usesysid = r.oid) AS role_in_use,
           nullif(CASE WHEN rolsuper THEN -1 ELSE datconnlimit END, -1) AS database_limit,
           pg_stat_get_db_numbackends(d.oid) AS database_in_use
    FROM pg_roles r, pg_database d
    WHERE rolname = current_user AND datname = current_database()
"""


@dataclass(frozen=True)
class _Usage:
    allowed: int
    reserved: int
    in_use: int
    role_limit: int | None
    role_in_use: int
    database_limit: int | None
    database_in_use: int


@dataclass(frozen=True)
class ConnectionLimit:
    """The connections that a job may use.

    :param limit: calls of this job at the same time, at least 1.
    :param slots: connections of all jobs of this provider on this database together (``take_slot``).
    :param parts: how the limit was computed, for the log.
    :param per_call: connections that each call opens.
    """

    limit: int
    slots: int
    parts: tuple[str, ...]
    per_call: int = 1

    def __str__(self) -> str:
        parts = "; ".join(self.parts)
        if self.per_call > 1:
            return f"{self.limit} calls with {self.per_call} connections each, within {parts}"
        return f"{self.limit} connections: the minimum of {parts}"


def find_connection_limit(
    connection: psycopg.Connection[Any],
    max_parallelism: int | None = None,
    task_connections: int = 0,
    *,
    is_given: bool = True,
    per_call: int = 1,
) -> ConnectionLimit:
    """Return how many calls can run with the connections that the server, the role and the database allow now.

    :param max_parallelism: maximum number of calls; None: no limit.
    :param task_connections: connections that the task will open besides this one while workers hold theirs. On the
        server they are part of the connections that stay free.
    :param is_given: whether the user set ``max_parallelism``. Otherwise a fifth of the server's connections stays free.
    :param per_call: connections that each call opens, of which one takes a slot.
    :raises InvalidParameterError: if ``max_parallelism`` is not positive.
    :raises BurlaProviderError: if no call can connect now. A retry may find free connections.
    """
    if max_parallelism is not None and max_parallelism < 1:
        raise InvalidParameterError(
            "max_parallelism", f"must be a positive integer, got {max_parallelism}.", "Use 1 or more, or leave it out."
        )
    for wait in _WAITS:
        time.sleep(wait)
        usage = _read_usage(connection)
        given = is_given and max_parallelism is not None
        available, parts = _count_available(usage, task_connections, per_call, is_given=given)
        if available >= per_call:
            break
    else:
        problem = "The database has no available connection"
        if per_call > 1:
            problem = f"The database has too few available connections for a call, which opens {per_call}"
        raise BurlaProviderError(
            f"{problem}: {'; '.join(parts)}. Retry the task when fewer connections are in use, or raise the limit."
        )
    taken = count_taken_slots(connection)
    limit = available // per_call
    if max_parallelism is not None:
        parts = (f"max_parallelism {max_parallelism}", *parts)
    return ConnectionLimit(min(limit, max_parallelism or limit), limit + taken, parts, per_call)


def take_slot(connection: psycopg.Connection[Any], slots: int) -> bool:
    """Take a free slot until the connection closes; return False if all ``slots`` are taken."""
    return connection.execute(_take_slot_sql(slots)).fetchone() is not None


def release_locks_except_slot(connection: psycopg.Connection[Any], slots: int | None) -> bool:
    """Release all advisory locks of the session except its slot; return False if another session took the slot.

    All locks are released and the slot is taken again, because reading ``pg_locks`` blocks every session that locks.
    """
    release = sql.SQL("SELECT pg_advisory_unlock_all()")
    if slots is None:
        connection.execute(release)
        return True
    cursor = connection.execute(sql.SQL("{}; {}").format(release, _take_slot_sql(slots)))
    cursor.nextset()
    return cursor.fetchone() is not None


def count_taken_slots(connection: psycopg.Connection[Any]) -> int:
    """Return how many slots all jobs on this database hold now."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [LOCK_CLASS],
    ).fetchone()
    return row[0] if row else 0


def _take_slot_sql(slots: int) -> sql.Composed:
    query = "SELECT slot FROM generate_series(0, {} - 1) AS slot WHERE pg_try_advisory_lock({}, slot) LIMIT 1"
    return sql.SQL(query).format(slots, LOCK_CLASS)


def _read_usage(connection: psycopg.Connection[Any]) -> _Usage:
    # Within a transaction, the server repeats the statistics that it read first.
    connection.execute("SELECT pg_stat_clear_snapshot()")
    with connection.cursor(row_factory=class_row(_Usage)) as cursor:
        [usage] = cursor.execute(_QUERY).fetchall()
    return usage


def _count_available(
    usage: _Usage, task_connections: int, per_call: int, *, is_given: bool
) -> tuple[int, tuple[str, ...]]:
    free = usage.allowed - usage.reserved - usage.in_use
    headroom = max(2, round(usage.allowed * _HEADROOM_IF_GIVEN))
    if not is_given:
        # On a busy server the job still gets the connections of one call.
        headroom = max(headroom, min(math.ceil(usage.allowed * _HEADROOM), free - per_call))
    available = free - headroom
    limits = [
        (
            available,
            f"server {available} ({usage.allowed} - {usage.reserved} reserved - {usage.in_use} in use"
            f" - {headroom} for others)",
        ),
        *_limited("role", usage.role_limit, usage.role_in_use, task_connections),
        *_limited("database", usage.database_limit, usage.database_in_use, task_connections),
    ]
    return min(number for number, _ in limits), tuple(text for _, text in limits)


def _limited(name: str, limit: int | None, in_use: int, task_connections: int) -> list[tuple[int, str]]:
    if limit is None:
        return []
    available = limit - in_use - task_connections
    for_task = f" - {task_connections} for the task" if task_connections else ""
    return [(available, f"{name} {available} ({limit} - {in_use} in use{for_task})")]
