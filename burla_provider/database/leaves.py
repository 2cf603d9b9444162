"""Check that the relations that store a table's rows (its leaves) are still those that the snapshot sees.

The server plans a query in a snapshot with the current catalog. So the query also reads partitions that were attached
after the snapshot, with all rows that the snapshot sees in them. No lock that a reader can take prevents that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import psycopg
from psycopg import sql

Leaves = dict[int, tuple[str, str]]
"""oid -> schema and name of the relations that store rows."""


def read_leaves(connection: psycopg.Connection, schema: str, table: str) -> Leaves:
    """Return the relations that store the table's rows: itself, partitions, children, or a view's tables.

    A partition whose DETACH CONCURRENTLY has not finished is included, because older snapshots still read it.
    """
    name = sql.Literal(sql.Identifier(schema, table).as_string(connection))
    rows = connection.execute(sql.SQL(_LEAVES).format(table=name)).fetchall()
    return {oid: (schema, name) for oid, schema, name in rows}


def identify_leaves(leaves: Leaves) -> str:
    """Return a short text that is equal for the same leaves with the same names."""
    return hashlib.sha256(repr(sorted(leaves.items())).encode()).hexdigest()[:16]


def find_changed_leaves(snapshot: psycopg.Connection, before: Leaves, now: Leaves) -> list[str]:
    """Return the names of the leaves that were detached, and of those that were attached with rows of the snapshot.

    :param snapshot: a connection in the snapshot's transaction.
    :param before: the leaves as of the snapshot.
    :param now: the current leaves.
    """
    changed = [before[oid] for oid in before.keys() - now.keys()]
    changed += [now[oid] for oid in _with_rows(snapshot, {oid: now[oid] for oid in now.keys() - before.keys()})]
    return sorted(".".join(name) for name in changed)


def _with_rows(snapshot: psycopg.Connection, added: Leaves) -> Iterator[int]:
    """Yield the oids of the added leaves that may have rows in the snapshot: those that were not created after it."""
    if not added:
        return
    oids = list(added)
    rows = snapshot.execute("SELECT oid::bigint FROM pg_catalog.pg_class WHERE oid = ANY(%s::oid[])", [oids])
    older = {oid for (oid,) in rows}
    for oid, name in added.items():
        if oid in older or _has_rows(snapshot, name):
            yield oid


def _has_rows(snapshot: psycopg.Connection, name: tuple[str, str]) -> bool:
    # A snapshot sees no rows that were inserted later, except by COPY with FREEZE.
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*name))
    try:
        with snapshot.transaction():
            row = snapshot.execute(query).fetchone()
    except psycopg.ProgrammingError:  # not readable by its own name, or dropped
        return True
    return row is None or row[0]


_LEAVES = """
    WITH RECURSIVE tree (oid) AS (
        SELECT {table}::regclass::oid
        UNION
        SELECT below.oid FROM tree CROSS JOIN LATERAL (
            SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = tree.oid
            UNION ALL
            SELECT used.refobjid
            FROM pg_catalog.pg_class AS view
            JOIN pg_catalog.pg_rewrite AS rule ON rule.ev_class = view.oid
            JOIN pg_catalog.pg_depend AS used ON used.classid = 'pg_catalog.pg_rewrite'::regclass
                AND used.objid = rule.oid AND used.refclassid = 'pg_catalog.pg_class'::regclass
            WHERE view.oid = tree.oid AND view.relkind = 'v'
        ) AS below (oid)
    )
    SELECT c.oid::bigint, n.nspname::text, c.relname::text
    FROM tree JOIN pg_catalog.pg_class AS c USING (oid) JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'm', 'f')
"""
