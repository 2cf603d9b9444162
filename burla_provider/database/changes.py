"""Telling whether a table is what it was: what a retry has to know before it goes on at another moment."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

_QUERY = """
    WITH RECURSIVE tree AS (
        SELECT {relation}::regclass::oid AS oid
        UNION ALL
        SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    SELECT
        (SELECT system_identifier::text FROM pg_control_system()) AS server,
        (SELECT stats_reset::text FROM pg_stat_database WHERE datname = current_database()) AS counting_since,
        (SELECT string_agg(concat_ws(' ', oid, pg_relation_filenode(oid), n_tup_ins, n_tup_upd, n_tup_del,
                                     pg_relation_size(oid)), ', ' ORDER BY oid)
           FROM tree LEFT JOIN pg_stat_all_tables ON relid = oid) AS written,
        (SELECT string_agg(concat_ws(' ', attrelid, attname, atttypid, atttypmod, attisdropped), ', '
                           ORDER BY attrelid, attnum)
           FROM tree JOIN pg_attribute ON attrelid = oid WHERE attnum > 0) AS columns,
        (SELECT bool_and(relkind IN ('r', 'p')) FROM tree JOIN pg_class USING (oid))
            AND current_setting('track_counts')::bool AND NOT pg_is_in_recovery() AS counted
"""


def table_state(connection: psycopg.Connection[Any], schema: str, table: str) -> dict[str, str] | None:
    """What changes whenever rows or columns of the table change: its files, write counters, size and columns.

    PostgreSQL's backends report their counts when a transaction ends, but not more often than once a second, and once
    they are idle after ten seconds (pgstat.c of PostgreSQL 15): a write that ended just before may not show yet.

    :returns: JSON; equal for equal states; None where this role may not know, or nobody counts: a view, a hot standby
        (what it replays is not counted), a server with ``track_counts`` off.
    """
    relation = sql.Literal(sql.Identifier(schema, table).as_string(connection))
    try:
        with connection.transaction():
            row = connection.execute(sql.SQL(_QUERY).format(relation=relation)).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    if row is None or not row[4]:
        return None
    return dict(zip(("server", "counting_since", "written", "columns"), map(str, row), strict=False))
