"""Slots that all jobs of this provider share on one database: an advisory lock each, held with the connection."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

LOCK_CLASS = 0x42_75_72_6C
"""First number of the locks ("Burl"); the second is the slot's own. ``pg_locks`` shows them as classid and objid."""


def take_slot(connection: psycopg.Connection[Any], slots: int) -> bool:
    """Takes a free one of ``slots`` slots until the connection closes; False: all are taken."""
    return connection.execute(_take(slots)).fetchone() is not None


def free_locks_but_slot(connection: psycopg.Connection[Any], slots: int | None) -> bool:
    """Give back all advisory locks of the session but a slot; False: another session was faster to take it.

    ``pg_locks`` would say which locks to give back, but reading it stops all others that lock something.
    """
    free = sql.SQL("SELECT pg_advisory_unlock_all()")
    if slots is None:
        connection.execute(free)
        return True
    cursor = connection.execute(sql.SQL("{}; {}").format(free, _take(slots)))
    cursor.nextset()
    return cursor.fetchone() is not None


def _take(slots: int) -> sql.Composed:
    query = "SELECT slot FROM generate_series(0, {} - 1) AS slot WHERE pg_try_advisory_lock({}, slot) LIMIT 1"
    return sql.SQL(query).format(slots, LOCK_CLASS)


def taken_slots(connection: psycopg.Connection[Any]) -> int:
    """How many slots are taken now, by all jobs on this database."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [LOCK_CLASS],
    ).fetchone()
    return row[0] if row else 0
