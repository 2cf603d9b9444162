"""Slots that all jobs of this provider share on one database: an advisory lock each, held with the connection."""

from __future__ import annotations

from typing import Any

import psycopg

LOCK_CLASS = 0x42_75_72_6C
"""First number of the locks ("Burl"); the second is the slot's own. ``pg_locks`` shows them as classid and objid."""


def take_slot(connection: psycopg.Connection[Any], slots: int) -> bool:
    """Takes a free one of ``slots`` slots until the connection closes; False: all are taken."""
    row = connection.execute(
        "SELECT slot FROM generate_series(0, %s - 1) AS slot WHERE pg_try_advisory_lock(%s, slot) LIMIT 1",
        [slots, LOCK_CLASS],
    ).fetchone()
    return row is not None


def taken_slots(connection: psycopg.Connection[Any]) -> int:
    """How many slots are taken now, by all jobs on this database."""
    row = connection.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [LOCK_CLASS],
    ).fetchone()
    return row[0] if row else 0
