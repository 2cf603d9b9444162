"""Whether the relations that hold a table's rows are still those of the snapshot.

SQL in a snapshot sees the catalog of then, but the server plans with the catalog of now: it reads a partition that was
attached in between, with every row that the snapshot sees in it. No lock that a reader may take prevents that.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from burla_provider.exceptions import PartitionsChangedError

Leaves = dict[int, tuple[str, str]]
"""Schema and name of relations with rows, by oid."""


def read_leaves(connection: psycopg.Connection, schema: str, table: str) -> Leaves:
    """Return the relations that hold the table's rows: itself, partitions, children, or what a view is made of.

    A partition whose DETACH CONCURRENTLY is under way is one of them, as it is for every older snapshot.
    """
    name = sql.Literal(sql.Identifier(schema, table).as_string(connection))
    rows = connection.execute(sql.SQL(_LEAVES).format(table=name)).fetchall()
    return {oid: (schema, name) for oid, schema, name in rows}


def check_leaves(snapshot: psycopg.Connection, before: Leaves, now: Leaves) -> None:
    """Compare the leaves of the snapshot with those of a later moment.

    :param snapshot: in the snapshot's transaction.
    :raises PartitionsChangedError: a leaf has gone, or one has come that may have rows in the snapshot.
    """
    changed = [before[oid] for oid in before.keys() - now.keys()]
    changed += [now[oid] for oid in _with_rows(snapshot, {oid: now[oid] for oid in now.keys() - before.keys()})]
    if changed:
        names = ", ".join(sorted(".".join(name) for name in changed))
        raise PartitionsChangedError(
            f"Partitions or children changed while the ranges were read: {names}. The result would mix the rows of two"
            " moments. Retry the task: it starts afresh. Attach and detach partitions when no job reads the table."
        )


def _with_rows(snapshot: psycopg.Connection, added: Leaves) -> Iterator[int]:
    """The added leaves that gave rows to a range, or may have: not those that were made, empty, after the snapshot."""
    if not added:
        return
    oids = list(added)
    rows = snapshot.execute("SELECT oid::bigint FROM pg_catalog.pg_class WHERE oid = ANY(%s::oid[])", [oids])
    older = {oid for (oid,) in rows}
    for oid, name in added.items():
        if oid in older or _has_rows(snapshot, name):
            yield oid


def _has_rows(snapshot: psycopg.Connection, name: tuple[str, str]) -> bool:
    # A snapshot sees no row that came later, except for COPY with FREEZE.
    query = sql.SQL("SELECT EXISTS (SELECT FROM ONLY {})").format(sql.Identifier(*name))
    try:
        with snapshot.transaction():
            row = snapshot.execute(query).fetchone()
    except psycopg.ProgrammingError:  # not readable by its own name, or gone
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
