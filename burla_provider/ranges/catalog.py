"""What the catalog says about a table. It is asked once; everything else only reads these facts."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import LiteralString, NamedTuple

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.planner_connection import PlannerConnection

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "m": "materialized view",
    "v": "view",
    "f": "foreign table",
}
"""``pg_class.relkind`` of what has rows that a query can read."""


STORED = ("r", "m", "p")
"""Those whose rows are in files of this server."""


@dataclass(frozen=True)
class Column(KeyColumn):
    """A column of the table.

    :param collation: schema and name of its collation; None for a type that has none.
    :param is_composite: a row type, in which ``IS NULL`` is also true of a value.
    """

    collation: tuple[str, str] | None = None
    is_composite: bool = False


@dataclass(frozen=True)
class Index:
    """A valid, whole (not partial) btree index over plain columns, in their types' own order."""

    columns: tuple[str, ...]
    unique: bool
    primary: bool


@dataclass(frozen=True)
class Leaf:
    """A relation that holds rows of the table: itself, a partition, or an inheriting child.

    :param kind: one of ``KINDS``.
    :param method: table access method ("heap").
    :param counted_rows: when the server last counted or estimated them; None: never.
    :param counted_pages: its size then.
    :param pages: its size now.
    :param bytes: its size now, with TOAST.
    :param changed: rows inserted, updated or deleted since the last ANALYZE, as far as this server knows.
    :param readable: whether the role may read it by its own name.
    :param alike: whether its columns are in the table's order, and its virtual columns have the table's expressions.
    """

    schema: str
    name: str
    kind: str
    method: str
    counted_rows: int | None
    counted_pages: int
    pages: int
    bytes: int
    changed: int
    readable: bool
    alike: bool = True

    @property
    def rows(self) -> int | None:
        """How many rows it has, by the density of then and the size of now; None when it was never counted."""
        if self.kind not in STORED:
            return self.counted_rows
        if self.counted_rows is None or not self.pages:
            return None if self.pages else 0
        return round(self.counted_rows * self.pages / max(self.counted_pages, 1))


@dataclass(frozen=True)
class TableFacts:
    """What there is to know about a table without reading it.

    :param kind: one of ``KINDS``.
    :param columns: in their order.
    :param indexes: of the table itself, the best for a key first.
    :param leaves: the relations that hold its rows; a view or a foreign table has itself only.
    :param counted_rows: of a partitioned table as a whole, when it was last analysed itself; None: never, or no such.
    :param row_security: whether policies decide for this role which rows it sees.
    :param server: ``server_version_num``, 160004 for 16.4.
    """

    oid: int
    schema: str
    table: str
    kind: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    leaves: tuple[Leaf, ...]
    row_security: bool
    server: int
    counted_rows: int | None = None

    @property
    def source(self) -> sql.Composable:
        """The table, as FROM takes it."""
        return sql.Identifier(self.schema, self.table)

    @property
    def named_source(self) -> sql.Composable:
        """The same for a user's expression: a partition is read under the table's name, which must be an alias then."""
        alias = sql.SQL(" AS {}").format(sql.Identifier(self.table)) if self.kind == "p" else sql.SQL("")
        return sql.SQL("{}{}").format(self.source, alias)

    @property
    def is_tree(self) -> bool:
        """Whether its rows are in relations other than itself: partitions or children."""
        return self.kind == "p" or len(self.leaves) > 1

    @property
    def describe(self) -> str:
        """What kind of relation it is, in words."""
        return KINDS[self.kind] + (" with children" if self.is_tree and self.kind != "p" else "")

    @property
    def rows(self) -> int | None:
        """Estimated rows, as if leaves that were never counted were as dense as the others; None when all are such."""
        known = {leaf: leaf.rows for leaf in self.leaves if leaf.rows is not None}
        if len(known) == len(self.leaves):
            return sum(known.values())
        size = sum(leaf.bytes for leaf in known)
        return round(sum(known.values()) * self.bytes / size) if size else None

    @property
    def pages(self) -> int:
        return sum(leaf.pages for leaf in self.leaves)

    @property
    def bytes(self) -> int:
        """Size with TOAST, without indexes."""
        return sum(leaf.bytes for leaf in self.leaves)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class FoundTable(NamedTuple):
    """A table that exists, and that the role can read."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    readable: bool
    row_security: bool
    server: int
    counted_rows: int | None


def read_facts(queries: PlannerConnection, table: str) -> TableFacts:
    """Return the facts about ``table``, named as SQL names it: with or without its schema, quoted where needed.

    :raises InvalidParameterError: as ``find_table``.
    """
    found = find_table(queries, table)
    tree = _tree(found.oid, found.server)
    return TableFacts(
        oid=found.oid,
        schema=found.schema,
        table=found.name,
        kind=found.kind,
        columns=_read_columns(queries, found.oid, tree),
        indexes=_read_indexes(queries, found.oid),
        leaves=_read_leaves(queries, found.oid, tree),
        row_security=found.row_security,
        server=found.server,
        counted_rows=found.counted_rows,
    )


def find_table(queries: PlannerConnection, table: str) -> FoundTable:
    """Resolve the name of a table, with one query.

    :raises InvalidParameterError: it does not exist, the role cannot read it, or it is not a table.
    """
    with queries.blaming("table", 'Write it as SQL does: orders, sales.orders or "Sales"."Orders".'):
        row = queries.row(sql.SQL(_FIND).format(table=sql.Literal(table)))
        advice = _where_else(queries, table) if row is None else ""
    if row is None:
        raise InvalidParameterError("table", f"there is no {table} here.", advice)
    found = FoundTable(*row)
    if found.kind not in KINDS:
        raise InvalidParameterError("table", f"{table} is not a table.", "Name a table, a partitioned table or a view.")
    if found.persistence == "t":
        raise InvalidParameterError(
            "table", f"{table} is temporary, so only the session that made it sees it.", "Make it an ordinary table."
        )
    if not found.readable:
        raise InvalidParameterError(
            "table", f"this role may not read {found.schema}.{found.name}.", "GRANT SELECT on it to the role."
        )
    return found


def _where_else(queries: PlannerConnection, table: str) -> str:
    database, places = queries.rows(sql.SQL(_WHERE_ELSE).format(table=sql.Literal(table)))[0]
    if places:
        return f"Did you mean {places}?"
    tables = dict(queries.rows(sql.SQL(_TABLES)))
    near = difflib.get_close_matches(table.lower(), [*tables, *tables.values()], n=1, cutoff=0.75)
    if near:
        return f"Did you mean {tables.get(near[0], near[0])}?"
    return f"It is looked for in the database {database}, on the search path unless you name its schema."


def _tree(oid: int, server: int) -> sql.Composable:
    # A partition whose DETACH CONCURRENTLY is under way is no longer read with its parent.
    attached = sql.SQL("AND NOT inhdetachpending" if server >= 140000 else "")
    return sql.SQL(_TREE).format(oid=sql.Literal(oid), attached=attached)


def _read_leaves(queries: PlannerConnection, oid: int, tree: sql.Composable) -> tuple[Leaf, ...]:
    return tuple(Leaf(*row) for row in queries.rows(sql.SQL(_LEAVES).format(oid=sql.Literal(oid), tree=tree)))


def _read_columns(queries: PlannerConnection, oid: int, tree: sql.Composable) -> tuple[Column, ...]:
    rows = queries.rows(sql.SQL(_COLUMNS).format(oid=sql.Literal(oid), tree=tree))
    return tuple(
        Column(name, type_, nullable, tuple(operators or ()), collation and (collation[0], collation[1]), is_composite)
        for name, type_, nullable, collation, is_composite, operators in rows
    )


def _read_indexes(queries: PlannerConnection, oid: int) -> tuple[Index, ...]:
    rows = queries.rows(sql.SQL(_INDEXES).format(oid=sql.Literal(oid)))
    return tuple(Index(tuple(columns), unique, primary) for columns, unique, primary in rows)


_FIND: LiteralString = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
        has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'),
        row_security_active(c.oid), current_setting('server_version_num')::int,
        CASE WHEN c.relkind = 'p' AND c.reltuples > 0 THEN c.reltuples::bigint END
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass({table})
"""

_WHERE_ELSE: LiteralString = """
    SELECT current_database()::text,
        (SELECT string_agg(format('%I.%I', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
        FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND NOT c.relispartition
            AND lower(c.relname) = lower((parse_ident({table}))[cardinality(parse_ident({table}))])
            AND has_schema_privilege(n.oid, 'USAGE'))
"""

_TABLES: LiteralString = """
    SELECT c.relname::text, format('%I.%I', n.nspname, c.relname)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND NOT c.relispartition AND has_schema_privilege(n.oid, 'USAGE')
        AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY n.nspname DESC, c.relname LIMIT 10000
"""

_TREE: LiteralString = """
    tree (oid) AS (
        SELECT {oid}::oid
        UNION
        SELECT inhrelid FROM pg_catalog.pg_inherits JOIN tree ON inhparent = tree.oid {attached}
    )
"""

_LEAVES: LiteralString = """
    WITH RECURSIVE {tree},
    shape (oid, columns) AS (
        SELECT a.attrelid, array_agg(
            a.attname || CASE WHEN a.attgenerated = 'v' THEN ' ' || pg_get_expr(d.adbin, d.adrelid) ELSE '' END
            ORDER BY a.attnum
        )
        FROM tree JOIN pg_catalog.pg_attribute AS a ON a.attrelid = tree.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        GROUP BY a.attrelid
    )
    SELECT n.nspname::text, c.relname::text, c.relkind::text, coalesce(am.amname, '')::text,
        -- Before version 14, 0 rows on 0 pages also means "never counted".
        CASE WHEN c.reltuples >= 0 AND (c.reltuples > 0 OR c.relpages > 0) THEN c.reltuples::bigint END,
        c.relpages, (coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int)::bigint,
        coalesce(pg_table_size(c.oid), 0)::bigint, coalesce(pg_stat_get_mod_since_analyze(c.oid), 0)::bigint,
        has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
            AND NOT row_security_active(c.oid),
        (SELECT columns FROM shape WHERE shape.oid = c.oid)
            IS NOT DISTINCT FROM (SELECT columns FROM shape WHERE shape.oid = {oid})
    FROM tree
    JOIN pg_catalog.pg_class AS c USING (oid)
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_am AS am ON am.oid = c.relam
    WHERE c.relkind IN ('r', 'm', 'v', 'f')
    ORDER BY n.nspname, c.relname
"""

# Quotes are removed as quote_all_identifiers adds them, except where they make another type: char is character(1). A
# domain is followed to the type that it is made of. A child may allow NULL where its parent does not, and a NOT NULL
# that was added NOT VALID (version 18) says nothing about the rows of before.
_COLUMNS: LiteralString = """
    WITH RECURSIVE {tree},
    typed (number, name, oid, collated, sure) AS (
        SELECT attnum, attname, atttypid, attcollation, attnotnull
        FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT typed.number, typed.name, t.typbasetype, typed.collated, typed.sure
        FROM typed JOIN pg_catalog.pg_type AS t ON t.oid = typed.oid AND t.typtype = 'd'
    )
    SELECT typed.name::text,
        CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname NOT IN ('char', '_char', 'bit', '_bit')
            THEN replace(format_type(typed.oid, -1), '"', '') ELSE format_type(typed.oid, -1) END,
        NOT typed.sure
        OR EXISTS (
            SELECT FROM tree JOIN pg_catalog.pg_attribute AS child ON child.attrelid = tree.oid
            LEFT JOIN pg_catalog.pg_constraint AS unproved ON unproved.conrelid = tree.oid AND unproved.contype = 'n'
                AND NOT unproved.convalidated AND unproved.conkey = ARRAY[child.attnum]
            WHERE child.attname = typed.name AND (NOT child.attnotnull OR unproved.oid IS NOT NULL)
        ),
        CASE WHEN c.oid IS NOT NULL THEN ARRAY[n.nspname::text, c.collname::text] END,
        t.typtype = 'c',
        (
            SELECT array_agg(format('OPERATOR(%I.%s)', home.nspname, o.oprname) ORDER BY member.amopstrategy)
            FROM pg_catalog.pg_opclass AS class
            JOIN pg_catalog.pg_am AS am ON am.oid = class.opcmethod AND am.amname = 'btree'
            JOIN pg_catalog.pg_amop AS member ON member.amopfamily = class.opcfamily AND member.amoppurpose = 's'
                AND member.amoplefttype = class.opcintype AND member.amoprighttype = class.opcintype
            JOIN pg_catalog.pg_operator AS o ON o.oid = member.amopopr
            JOIN pg_catalog.pg_namespace AS home ON home.oid = o.oprnamespace
            WHERE class.opcdefault AND class.opcintype = typed.oid
            HAVING bool_or(home.nspname <> 'pg_catalog')
        )
    FROM typed
    JOIN pg_catalog.pg_type AS t ON t.oid = typed.oid AND t.typtype <> 'd'
    LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = typed.collated
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
    ORDER BY typed.number
"""

# Only an index whose columns are in their types' default order, all ascending or all descending, and in the columns'
# own collation, answers ORDER BY.
_INDEXES: LiteralString = """
    SELECT array_agg(a.attname::text ORDER BY part.place), i.indisunique, i.indisprimary
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am AS am ON am.oid = c.relam AND am.amname = 'btree'
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[], i.indoption::int2[])
        WITH ORDINALITY AS part (attnum, class, collated, option, place)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    JOIN pg_catalog.pg_opclass AS class ON class.oid = part.class
    WHERE i.indrelid = {oid} AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND part.place <= i.indnkeyatts
    GROUP BY i.indexrelid, i.indisunique, i.indisprimary
    HAVING bool_and(class.opcdefault AND part.collated = a.attcollation)
        AND min(part.option) = max(part.option) AND min(part.option) IN (0, 3)
    ORDER BY i.indisprimary DESC, i.indisunique DESC, count(*), min(c.relname)
"""
