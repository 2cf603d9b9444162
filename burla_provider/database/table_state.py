"""Telling whether a table is what it was: what a retry has to know before it goes on at another moment.

PostgreSQL counts the rows that are inserted, updated and deleted. A backend reports its counts between two
transactions, not more often than once a second. A client's backend that is idle then reports the rest after ten
seconds; one that is not idle, or that cannot get a lock, at the end of the first transaction after sixty seconds
(``PGSTAT_MIN_INTERVAL``, ``PGSTAT_IDLE_INTERVAL`` and ``PGSTAT_MAX_INTERVAL`` of pgstat.c, PostgreSQL 15 and later).
Within a transaction, or a procedure that commits, it reports nothing. So equal counters prove something only when every
session has reported.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import Any

import psycopg
from psycopg import sql

IDLE_REPORT = 11.0
"""Seconds after which a client's idle session has reported all that it wrote."""
BUSY_REPORT = 61.0
"""Seconds between two ends of transactions of one session, by the second of which it has reported the first."""
SEEN_AT = "seen_at"
"""Of a state: the server's clock."""
PATIENCE = 90.0
"""Seconds to wait for the other sessions' reports."""

UNKNOWN = "not all writes to what it reads are counted here"
DIFFERENT = "its write counters, files, columns or policies differ"
HIDDEN = "this role cannot see when other sessions last wrote, unless it is granted pg_read_all_stats"
BUSY = "another session has been busy since, and may not have reported its writes"

_STATE = """
    WITH RECURSIVE tree AS (
        SELECT {relation}::regclass::oid AS oid
        UNION ALL
        SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    SELECT
        (SELECT system_identifier::text FROM pg_control_system()) AS server,
        -- After a crash all counters begin at 0: the second of these times tells.
        (SELECT concat_ws(' ', reset.stats_reset, shared.stats_reset)
           FROM pg_stat_database AS reset, pg_stat_bgwriter AS shared
          WHERE reset.datname = current_database()) AS counting_since,
        (SELECT string_agg(concat_ws(' ', oid, pg_relation_filenode(oid), n_tup_ins, n_tup_upd, n_tup_del,
                                     pg_relation_size(oid)), ', ' ORDER BY oid)
           FROM tree LEFT JOIN pg_stat_all_tables ON relid = oid) AS written,
        (SELECT string_agg(concat_ws(' ', attrelid, attname, atttypid, atttypmod, attisdropped), ', '
                           ORDER BY attrelid, attnum)
           FROM tree JOIN pg_attribute ON attrelid = oid WHERE attnum > 0) AS columns,
        (SELECT string_agg(concat_ws(' ', relrowsecurity, relforcerowsecurity, pg_policy::text), ', '
                           ORDER BY pg_class.oid, pg_policy.oid)
           FROM tree JOIN pg_class USING (oid) LEFT JOIN pg_policy ON polrelid = pg_class.oid) AS policies,
        (SELECT bool_and(relkind IN ('r', 'p')) FROM tree JOIN pg_class USING (oid))
            AND current_setting('server_version_num')::int >= 150000
            AND current_setting('track_counts')::bool AND NOT pg_is_in_recovery()
            AND NOT EXISTS (SELECT FROM pg_db_role_setting, unnest(setconfig) AS setting
                             WHERE setting LIKE 'track_counts=%') AS counted
"""

# A session is settled when it cannot have written between both moments without having reported it:
# it began after the second one, is idle or in one transaction since before the first one, or has been idle for long.
_UNSETTLED = """
    SELECT pid, backend_start IS NULL,
           extract(epoch FROM CASE state WHEN 'idle' THEN state_change ELSE least(xact_start, query_start) END)::float8
      FROM pg_stat_activity, (SELECT to_timestamp(%(first)s::float8) AS first,
                                     to_timestamp(%(second)s::float8) AS second) AS moments
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
    """What changes whenever rows or columns of the table change: its files, write counters, size, columns and policies.

    :returns: JSON; None where this role may not know, or nobody counts reliably: a view, a hot standby (what it replays
        is not counted), ``track_counts`` off for anybody, PostgreSQL before 15 (an idle session reports nothing).
    """
    relation = sql.Literal(sql.Identifier(schema, table).as_string(connection))
    try:
        with connection.transaction():
            # Within a transaction the server answers with what it has read first.
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(sql.SQL(_STATE).format(relation=relation)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None or not row[-1]:
        return None
    # As digests: of thousands of partitions the texts are longer than Airflow's state store takes.
    digests = [hashlib.sha256(str(value).encode()).hexdigest()[:32] for value in row]
    return dict(zip(("server", "counting_since", "written", "columns", "policies"), digests, strict=False))


def state_before(connection: psycopg.Connection[Any], schema: str, table: str) -> dict[str, str] | None:
    """Return the table's state before a snapshot is taken, for ``find_doubt`` at a later one."""
    seen_at = _clock(connection)
    state = table_state(connection, schema, table)
    return state and state | {SEEN_AT: seen_at}


def find_doubt(
    connection: psycopg.Connection[Any], schema: str, table: str, before: dict[str, str] | None, patience: float
) -> str:
    """Return why the table may have other rows now than at an earlier moment; "" if it is proven that it has the same.

    :param connection: in the snapshot of now.
    :param before: what ``state_before`` answered just before the earlier moment.
    :param patience: seconds to wait for sessions that may still have to report.
    """
    if before is None or SEEN_AT not in before:
        return UNKNOWN
    now = _clock(connection)
    deadline = time.monotonic() + patience
    pause = 0.1
    reports: dict[int, float] = {}
    while True:
        unsettled = _unsettled(connection, before[SEEN_AT], now, reports)
        # After the look at the sessions: what those have reported that are settled is in it.
        state = table_state(connection, schema, table)
        if state is None:
            return UNKNOWN
        if state | {SEEN_AT: before[SEEN_AT]} != before:
            return DIFFERENT
        if not unsettled or unsettled == HIDDEN or time.monotonic() >= deadline:
            return unsettled
        if pause == 0.1:
            logging.getLogger(__name__).info(
                "Waiting up to %.0f s until the other sessions have reported what they wrote.", patience
            )
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _unsettled(connection: psycopg.Connection[Any], before: str, now: str, reports: dict[int, float]) -> str:
    """Return why some session may not have reported what it wrote, or "".

    :param reports: backend's process id -> when it was first seen to end a transaction after ``now``; is added to.
    """
    connection.execute("SELECT pg_stat_clear_snapshot()")
    values = {"first": before, "second": now, "idle": IDLE_REPORT}
    reason = ""
    for pid, is_hidden, between in connection.execute(_UNSETTLED, values).fetchall():
        if is_hidden:
            return HIDDEN
        if between is None or between <= float(now) or between <= reports.setdefault(pid, between) + BUSY_REPORT:
            reason = BUSY
    return reason


def _clock(connection: psycopg.Connection[Any]) -> str:
    [(now,)] = connection.execute("SELECT extract(epoch FROM clock_timestamp())::text").fetchall()
    return str(now)
