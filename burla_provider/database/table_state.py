"""Check whether a table has changed, so that a retry can continue in another snapshot.

PostgreSQL counts the rows that are inserted, updated and deleted. Equal counters prove that the table is unchanged only
if every session has reported its counts. A backend reports them between two transactions, at most once per second. An
idle client backend reports the rest after ten seconds. A backend that is not idle, or that cannot get a lock, reports
at the end of the first transaction after sixty seconds (``PGSTAT_MIN_INTERVAL``, ``PGSTAT_IDLE_INTERVAL`` and
``PGSTAT_MAX_INTERVAL`` in pgstat.c, PostgreSQL 15 and later). Within a transaction, or a procedure that commits, it
reports nothing.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any

import psycopg
from psycopg import sql

_IDLE_REPORT = 11.0
"""Seconds after which an idle client session has reported all of its writes."""
BUSY_REPORT = 61.0
"""If a session ends two transactions that many seconds apart, it has reported the first one."""
_SEEN_AT = "seen_at"
"""Key of the server time at which a state was read."""
REPORT_TIMEOUT = 90.0
"""Seconds to wait until the other sessions have reported."""

UNKNOWN = "the server does not count all writes to what the job reads, or this role cannot see the counters"
DIFFERENT = "its write counters, files or columns differ, or partitions were attached or detached"
HIDDEN = "this role cannot see when other sessions last wrote: grant it pg_read_all_stats"
BUSY = "another session has been active since, and might not have reported its writes"

_STATE = """
    WITH RECURSIVE tree AS (
        SELECT {relation}::regclass::oid AS oid
        UNION ALL
        SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    SELECT
        (SELECT system_identifier::text FROM pg_control_system()) AS server,
        -- After a crash all counters start at 0, which only the second of these times shows.
        (SELECT concat_ws(' ', reset.stats_reset, shared.stats_reset)
           FROM pg_stat_database AS reset, pg_stat_bgwriter AS shared
          WHERE reset.datname = current_database()) AS counting_since,
        (SELECT string_agg(concat_ws(' ', oid, pg_relation_filenode(oid), n_tup_ins, n_tup_upd, n_tup_del,
                                     pg_relation_size(oid)), ', ' ORDER BY oid)
           FROM tree LEFT JOIN pg_stat_all_tables ON relid = oid) AS written,
        -- The expression of a virtual column can change without a write.
        (SELECT string_agg(concat_ws(' ', attrelid, attname, atttypid, atttypmod, attisdropped, adbin), ', '
                           ORDER BY attrelid, attnum)
           FROM tree JOIN pg_attribute ON attrelid = tree.oid
                LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
          WHERE attnum > 0) AS columns,
        -- A partition that was attached and detached again, here or in another table of the database.
        (SELECT concat_ws(' ', n_tup_ins, n_tup_upd, n_tup_del)
           FROM pg_stat_all_tables, pg_class
          WHERE relid = 'pg_inherits'::regclass AND pg_class.oid = {relation}::regclass
            AND (relkind = 'p' OR relhassubclass)) AS attached,
        -- A policy can depend on other tables, on memberships of roles, and on whatever a function reads.
        NOT row_security_active({relation}::regclass) AND
        (SELECT bool_and(relkind IN ('r', 'p')) FROM tree JOIN pg_class USING (oid))
            AND current_setting('server_version_num')::int >= 150000
            AND current_setting('track_counts')::bool AND NOT pg_is_in_recovery()
            AND NOT EXISTS (SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting
                             WHERE setting LIKE 'track_counts=%') AS counted
"""

# A session is settled if it cannot have unreported writes between the two times: it started after the second one, or
# has been idle or in one transaction since before the first one, or has been idle for IDLE_REPORT seconds.
_UNSETTLED = """
    SELECT pid, backend_start IS NULL,
           extract(epoch FROM CASE state WHEN 'idle' THEN state_change ELSE least(xact_start, query_start) END)::float8
      FROM pg_stat_activity, (SELECT to_timestamp(%(first)s::float8) AS first,
                                     to_timestamp(%(second)s::float8) AS second) AS times
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND coalesce(backend_type, '') NOT IN ('autovacuum worker', 'parallel worker')
       AND NOT coalesce(
           backend_start > second
           OR CASE
                  WHEN backend_type = 'walsender' THEN query ILIKE 'START_REPLICATION%%'
                  WHEN state <> 'idle' THEN xact_start < first
                  ELSE state_change < first OR backend_type = 'client backend'
                      AND state_change < clock_timestamp() - make_interval(secs => %(idle)s)
              END, false)
"""


def table_state(connection: psycopg.Connection[Any], schema: str, table: str) -> dict[str, str] | None:
    """Return digests of the table's files, write counters, size, columns and partitions, which change with its rows.

    :returns: JSON; None if the role cannot read them, or they do not show all changes: for a view, under row security,
        on a hot standby (replayed writes are not counted), with ``track_counts`` off for any role, before PostgreSQL 15
        (idle sessions do not report).
    """
    relation = sql.Literal(sql.Identifier(schema, table).as_string(connection))
    try:
        with connection.transaction():
            # Within a transaction the server caches the statistics that it reads first.
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(sql.SQL(_STATE).format(relation=relation)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None or not row[-1]:
        return None
    # Digests, because the texts of thousands of partitions are too long for Airflow's state store.
    digests = [hashlib.sha256(str(value).encode()).hexdigest()[:32] for value in row]
    return dict(zip(("server", "counting_since", "written", "columns", "attached"), digests, strict=False))


def state_before(connection: psycopg.Connection[Any], schema: str, table: str) -> dict[str, str] | None:
    """Return the table's state and the server's time, to be read just before a snapshot is taken."""
    seen_at = _clock(connection)
    state = table_state(connection, schema, table)
    return state and state | {_SEEN_AT: seen_at}


def find_possible_change(
    connection: psycopg.Connection[Any], schema: str, table: str, before: dict[str, str] | None, timeout: float
) -> str:
    """Return why the table may have other rows than in an earlier snapshot; "" if it has the same rows.

    :param connection: a connection in the current snapshot.
    :param before: returned by ``state_before`` just before the earlier snapshot.
    :param timeout: seconds to wait for sessions that might not have reported yet.
    """
    if before is None or _SEEN_AT not in before:
        return UNKNOWN
    now = _clock(connection)
    deadline = time.monotonic() + timeout
    pause = 0.1
    reports: dict[int, float] = {}
    while True:
        unsettled = _unsettled(connection, before[_SEEN_AT], now, reports)
        # Read after the sessions, so that it includes what the settled ones have reported.
        state = table_state(connection, schema, table)
        if state is None:
            return UNKNOWN
        if state | {_SEEN_AT: before[_SEEN_AT]} != before:
            return DIFFERENT
        if not unsettled or unsettled == HIDDEN or time.monotonic() >= deadline:
            return unsettled
        if pause == 0.1:
            logging.getLogger(__name__).info(
                "Waiting up to %.0f s until the other sessions have reported their writes.", timeout
            )
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _unsettled(connection: psycopg.Connection[Any], before: str, now: str, reports: dict[int, float]) -> str:
    """Return why a session might not have reported its writes; "" if all have.

    :param before: server time of the earlier state.
    :param now: server time of the current snapshot.
    :param reports: backend's process id -> the first end of a transaction after ``now`` that was seen; updated here.
    """
    connection.execute("SELECT pg_stat_clear_snapshot()")
    values = {"first": before, "second": now, "idle": _IDLE_REPORT}
    reason = ""
    try:
        with connection.transaction():
            sessions = connection.execute(_UNSETTLED, values).fetchall()
    except psycopg.errors.InsufficientPrivilege:  # an administrator has hidden pg_stat_activity
        return HIDDEN
    for pid, is_hidden, idle_since in sessions:
        if is_hidden:
            return HIDDEN
        if (
            idle_since is None
            or idle_since <= float(now)
            or idle_since <= reports.setdefault(pid, idle_since) + BUSY_REPORT
        ):
            reason = BUSY
    return reason


def _clock(connection: psycopg.Connection[Any]) -> str:
    [(now,)] = connection.execute("SELECT extract(epoch FROM clock_timestamp())::text").fetchall()
    return str(now)
