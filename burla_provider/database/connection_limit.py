"""How many connections the database can spare for a job."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import class_row

from burla_provider.database.slots import taken_slots
from burla_provider.exceptions import BurlaProviderError, InvalidParameterError

HEADROOM = 0.2
"""The part of all connections that stays free for people and other programs that come later."""
HEADROOM_IF_GIVEN = 0.05
"""The same (and at least 2) where the user says how many workers there are to be."""

_WAITS = (0, 0.2, 0.5, 1, 2)
"""Seconds before each look: a session that was just closed is counted until its process has ended."""

_QUERY = """
    SELECT current_setting('max_connections')::int AS allowed,
           current_setting('superuser_reserved_connections')::int
               + coalesce(current_setting('reserved_connections', true), '0')::int AS reserved,
           (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database) AS in_use,
           nullif(CASE WHEN rolsuper THEN -1 ELSE rolconnlimit END, -1) AS role_limit,
           (SELECT count(*)::int FROM pg_stat_activity WHERE usesysid = r.oid) AS role_in_use,
           nullif(CASE WHEN rolsuper THEN -1 ELSE datconnlimit END, -1) AS database_limit,
           (SELECT numbackends FROM pg_stat_database s WHERE s.datid = d.oid) AS database_in_use
    FROM pg_roles r, pg_database d
    WHERE rolname = current_user AND datname = current_database()
"""


@dataclass(frozen=True)
class _Facts:
    allowed: int
    reserved: int
    in_use: int
    role_limit: int | None
    role_in_use: int
    database_limit: int | None
    database_in_use: int


@dataclass(frozen=True)
class ConnectionLimit:
    """What a job may take.

    :param limit: connections for this job, at least 1.
    :param slots: connections for all jobs of this provider on this database together (``take_slot``).
    :param parts: the sum, in words.
    """

    limit: int
    slots: int
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.limit} connections: the least of {'; '.join(self.parts)}"


def connection_budget(
    connection: psycopg.Connection[Any], wanted: int | None = None, kept: int = 0, *, is_given: bool = True
) -> ConnectionLimit:
    """What the server, the role and the database can spare now, and no more than ``wanted``.

    :param wanted: ``max_parallelism``; None: as many as can be spared.
    :param is_given: the user gave it. Otherwise a fifth of the server's connections stays free.
    :param kept: connections that the task will open beside this one, while the workers may still have theirs. On the
        server itself they are among those that stay free.
    :raises InvalidParameterError: ``wanted`` is not positive.
    :raises BurlaProviderError: not one connection is to spare now. Later there may be.
    """
    if wanted is not None and wanted < 1:
        raise InvalidParameterError(
            "max_parallelism", f"{wanted} is not a number of workers.", "Give 1 or more, or None."
        )
    for wait in _WAITS:
        time.sleep(wait)
        spare, parts = _spare(_read_facts(connection), kept, is_given=is_given and wanted is not None)
        if spare >= 1:
            break
    else:
        raise BurlaProviderError(
            f"The database has no connection to spare: {'; '.join(parts)}. Retry the task when there is less going on,"
            " or raise the limit."
        )
    ours = taken_slots(connection)
    asked = () if wanted is None else (f"max_parallelism {wanted}",)
    return ConnectionLimit(min(spare, wanted or spare), spare + ours, (*asked, *parts))


def _read_facts(connection: psycopg.Connection[Any]) -> _Facts:
    # A transaction sees the statistics of when it first asked.
    connection.execute("SELECT pg_stat_clear_snapshot()")
    with connection.cursor(row_factory=class_row(_Facts)) as cursor:
        [facts] = cursor.execute(_QUERY).fetchall()
    return facts


def _spare(facts: _Facts, kept: int, *, is_given: bool) -> tuple[int, tuple[str, ...]]:
    free = facts.allowed - facts.reserved - facts.in_use
    headroom = max(2, round(facts.allowed * HEADROOM_IF_GIVEN))
    if not is_given:
        # A busy server is no reason to refuse the job: one worker is enough.
        headroom = max(headroom, min(math.ceil(facts.allowed * HEADROOM), free - 1))
    spare = free - headroom
    sums = [
        (
            spare,
            f"server {spare} ({facts.allowed} - {facts.reserved} reserved - {facts.in_use} in use"
            f" - {headroom} for others)",
        ),
        *_limited("role", facts.role_limit, facts.role_in_use, kept),
        *_limited("database", facts.database_limit, facts.database_in_use, kept),
    ]
    return min(number for number, _ in sums), tuple(text for _, text in sums)


def _limited(what: str, limit: int | None, in_use: int, kept: int) -> list[tuple[int, str]]:
    if limit is None:
        return []
    spare = limit - in_use - kept
    for_the_task = f" - {kept} for the task" if kept else ""
    return [(spare, f"{what} {spare} ({limit} - {in_use} in use{for_the_task})")]
