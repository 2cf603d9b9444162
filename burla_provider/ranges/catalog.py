"""Read the facts about a table from PostgreSQL's catalog."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import LiteralString, NamedTuple

from psycopg import sql

from burla_provider.database.wording import not_found
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.key import Key, KeyColumn
from burla_provider.ranges.planner_connection import PlannerConnection

_RELATION_KINDS = {
    "r": "table",
    "p": "partitioned table",
    "m": "materialized view",
    "v": "view",
    "f": "foreign table",
}
"""``pg_class.relkind`` of the relations that a query can read rows from."""

STORED_KINDS = ("r", "m", "p")
"""The kinds whose rows are in files of this server."""


@dataclass(frozen=True)
class Column(KeyColumn):
    """A column of the table.

    :param collation: schema and name of its collation; None for a type without collation.
    :param is_composite: whether it has a row type. ``IS NULL`` is true for some values of a row type.
    """

    collation: tuple[str, str] | None = None
    is_composite: bool = False


@dataclass(frozen=True)
class Index:
    """A valid btree index on columns in their default sort order. It is neither partial nor on expressions."""

    columns: tuple[str, ...]
    is_unique: bool
    is_primary: bool


@dataclass(frozen=True)
class Leaf:
    """A relation that stores rows of the table: the table itself, a partition or an inheriting child.

    :param kind: one of ``_RELATION_KINDS``.
    :param access_method: the table access method ("heap").
    :param reltuples: rows at the last VACUUM or ANALYZE, as estimated; None: never vacuumed or analyzed.
    :param relpages: pages at that time.
    :param pages: pages now.
    :param bytes: size now, with TOAST.
    :param changes_since_analyze: rows inserted, updated or deleted since the last ANALYZE, as counted by this server.
    :param is_readable: whether the role can read it by its own name.
    :param has_same_columns: whether its columns are in the order of the table's, with the same virtual columns.
    """

    schema: str
    name: str
    kind: str
    access_method: str
    reltuples: int | None
    relpages: int
    pages: int
    bytes: int
    changes_since_analyze: int
    is_readable: bool
    has_same_columns: bool = True

    @property
    def rows(self) -> int | None:
        """Estimated rows now: the earlier rows per page, times the pages now; None if unknown."""
        if self.kind not in STORED_KINDS:
            return self.reltuples
        if self.reltuples is None or not self.pages:
            return None if self.pages else 0
        return round(self.reltuples * self.pages / max(self.relpages, 1))


@dataclass(frozen=True)
class TableFacts:
    """The facts about a table that are known without reading its rows.

    :param kind: one of ``_RELATION_KINDS``.
    :param columns: the columns, in the table's order.
    :param indexes: the indexes of the table itself, the most suitable for a key first.
    :param leaves: the relations that store its rows. For a view or a foreign table: the relation itself.
    :param row_security: whether policies restrict the rows that this role sees.
    :param server_version: ``server_version_num``, 160004 for 16.4.
    :param reltuples: rows of a partitioned table at its last ANALYZE; None: never analyzed, or not partitioned.
    """

    oid: int
    schema: str
    table: str
    kind: str
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    leaves: tuple[Leaf, ...]
    row_security: bool
    server_version: int
    reltuples: int | None = None

    @property
    def from_sql(self) -> sql.Composable:
        """The table, for FROM."""
        return sql.Identifier(self.schema, self.table)

    @property
    def aliased_from_sql(self) -> sql.Composable:
        """The table, for FROM, as the ranges read it: partitions are read with the table's name as alias."""
        alias = sql.SQL(" AS {}").format(sql.Identifier(self.table)) if self.kind == "p" else sql.SQL("")
        return sql.SQL("{}{}").format(self.from_sql, alias)

    @property
    def is_tree(self) -> bool:
        """Whether the table has partitions or inheriting children."""
        return self.kind == "p" or len(self.leaves) > 1

    @property
    def has_children(self) -> bool:
        """Whether other tables inherit from it, whose rows its indexes do not contain."""
        return self.is_tree and self.kind != "p"

    @property
    def kind_name(self) -> str:
        """The kind of relation, in words."""
        return _RELATION_KINDS[self.kind] + (" with children" if self.has_children else "")

    @property
    def rows(self) -> int | None:
        """Estimated rows. Leaves without an estimate count with the others' rows per byte; None if no leaf has one."""
        known = {leaf: leaf.rows for leaf in self.leaves if leaf.rows is not None}
        if len(known) == len(self.leaves):
            return sum(known.values())
        size = sum(leaf.bytes for leaf in known)
        return round(sum(known.values()) * self.bytes / size) if size else None

    @property
    def pages(self) -> int:
        """Size in pages, without TOAST."""
        return sum(leaf.pages for leaf in self.leaves)

    @property
    def bytes(self) -> int:
        """Size with TOAST, without indexes."""
        return sum(leaf.bytes for leaf in self.leaves)

    def columns_of(self, key: Key) -> tuple[Column, ...]:
        """Return the columns of a key with all facts about them."""
        return tuple(column for name in key.names for column in self.columns if column.name == name)

    def is_unique(self, key: Key) -> bool:
        """Return whether no two rows have the same key, except NULL."""
        indexes = () if self.has_children else self.indexes
        return any(index.is_unique and set(index.columns) <= set(key.names) for index in indexes)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


class FoundTable(NamedTuple):
    """A table that exists, and that the role can read."""

    oid: int
    schema: str
    name: str
    kind: str
    persistence: str
    is_readable: bool
    row_security: bool
    server_version: int
    reltuples: int | None


def read_facts(connection: PlannerConnection, table: str) -> TableFacts:
    """Return the facts about a table, named as in SQL: with or without schema, quoted where needed.

    :raises InvalidParameterError: if the table does not exist, has no rows to read, or the role cannot read it.
    """
    found = find_table(connection, table)
    tree = tree_query(found.oid, found.server_version)
    return TableFacts(
        oid=found.oid,
        schema=found.schema,
        table=found.name,
        kind=found.kind,
        columns=_read_columns(connection, found.oid, tree),
        indexes=_read_indexes(connection, found.oid),
        leaves=_read_leaves(connection, found.oid, tree),
        row_security=found.row_security,
        server_version=found.server_version,
        reltuples=found.reltuples,
    )


def find_table(connection: PlannerConnection, table: str) -> FoundTable:
    """Resolve the name of a table, with one query.

    :raises InvalidParameterError: if the table does not exist, has no rows to read, or the role cannot read it.
    """
    with connection.errors_blame("table", 'Write it as in SQL: orders, sales.orders or "Sales"."Orders".'):
        row = connection.fetch_one(sql.SQL(_FIND).format(table=sql.Literal(table)))
        database, advice = _suggest(connection, table) if row is None else ("", "")
    if row is None:
        raise InvalidParameterError("table", not_found(table, database), advice)
    found = FoundTable(*row)
    if found.kind not in _RELATION_KINDS:
        raise InvalidParameterError("table", f"{table} is not a table.", "Name a table, a partitioned table or a view.")
    if found.persistence == "t":
        problem = f"{table} is temporary: only the session that created it can read it."
        raise InvalidParameterError("table", problem, "Create an ordinary table.")
    if not found.is_readable:
        problem = f"this role cannot read {found.schema}.{found.name}."
        raise InvalidParameterError("table", problem, "GRANT SELECT on it.")
    return found


def _suggest(connection: PlannerConnection, table: str) -> tuple[str, str]:
    """Return the name of the database, and which table was probably meant."""
    database, same_name = connection.fetch_all(sql.SQL(_SAME_NAME).format(table=sql.Literal(table)))[0]
    if same_name:
        return database, f"Did you mean {same_name}?"
    tables = dict(connection.fetch_all(sql.SQL(_TABLES)))
    similar = difflib.get_close_matches(table.lower(), [*tables, *tables.values()], n=1, cutoff=0.75)
    if similar:
        return database, f"Did you mean {tables.get(similar[0], similar[0])}?"
    return database, "Without a schema, only the search path is searched."


def tree_query(oid: int, server_version: int) -> sql.Composable:
    """Return a recursive query ``tree (oid)`` of the table, its partitions and its children, for WITH."""
    # Queries on the parent do not read a partition while its DETACH CONCURRENTLY is pending.
    attached = sql.SQL("AND NOT inhdetachpending" if server_version >= 140000 else "")
    return sql.SQL(_TREE).format(oid=sql.Literal(oid), attached=attached)


def _read_leaves(connection: PlannerConnection, oid: int, tree: sql.Composable) -> tuple[Leaf, ...]:
    return tuple(Leaf(*row) for row in connection.fetch_all(sql.SQL(_LEAVES).format(oid=sql.Literal(oid), tree=tree)))


def _read_columns(connection: PlannerConnection, oid: int, tree: sql.Composable) -> tuple[Column, ...]:
    rows = connection.fetch_all(sql.SQL(_COLUMNS).format(oid=sql.Literal(oid), tree=tree, operators=sql.SQL(OPERATORS)))
    return tuple(
        Column(name, type_, nullable, tuple(operators or ()), collation and (collation[0], collation[1]), is_composite)
        for name, type_, nullable, collation, is_composite, operators in rows
    )


def _read_indexes(connection: PlannerConnection, oid: int) -> tuple[Index, ...]:
    rows = connection.fetch_all(sql.SQL(_INDEXES).format(oid=sql.Literal(oid)))
    return tuple(Index(tuple(columns), is_unique, is_primary) for columns, is_unique, is_primary in rows)


_FIND: LiteralString = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
        has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'),
        row_security_active(c.oid), current_setting('server_version_num')::int,
        CASE WHEN c.relkind = 'p' AND c.reltuples > 0 THEN c.reltuples::bigint END
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid = to_regclass({table})
"""

_SAME_NAME: LiteralString = """
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
        -- Before version 14, 0 rows on 0 pages also means "never vacuumed or analyzed".
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

OPERATORS: LiteralString = """(
            SELECT array_agg(
                'OPERATOR(' || quote_ident(namespace.nspname) || '.' || o.oprname || ')' ORDER BY member.amopstrategy
            )
            FROM pg_catalog.pg_opclass AS class
            JOIN pg_catalog.pg_am AS am ON am.oid = class.opcmethod AND am.amname = 'btree'
            JOIN pg_catalog.pg_amop AS member ON member.amopfamily = class.opcfamily AND member.amoppurpose = 's'
                AND member.amoplefttype = class.opcintype AND member.amoprighttype = class.opcintype
            JOIN pg_catalog.pg_operator AS o ON o.oid = member.amopopr
            JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = o.oprnamespace
            WHERE class.opcdefault AND class.opcintype = t.oid
            HAVING bool_or(namespace.nspname <> 'pg_catalog')
        )"""
"""``KeyColumn.operators`` of the type ``t`` (``pg_type``)."""

# Remove the quotes that quote_all_identifiers adds, except where they change the type: char is character(1). Replace a
# domain by its base type. A child can allow NULL where its parent does not, and existing rows can violate a NOT NULL
# that was added NOT VALID (version 18).
_COLUMNS: LiteralString = """
    WITH RECURSIVE {tree},
    typed (number, name, oid, collated, not_null) AS (
        SELECT attnum, attname, atttypid, attcollation, attnotnull
        FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT typed.number, typed.name, t.typbasetype, typed.collated, typed.not_null
        FROM typed JOIN pg_catalog.pg_type AS t ON t.oid = typed.oid AND t.typtype = 'd'
    )
    SELECT typed.name::text,
        CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace AND t.typname NOT IN ('char', '_char', 'bit', '_bit')
            THEN replace(format_type(typed.oid, -1), '"', '') ELSE format_type(typed.oid, -1) END,
        NOT typed.not_null
        OR EXISTS (
            SELECT FROM tree JOIN pg_catalog.pg_attribute AS child ON child.attrelid = tree.oid
            LEFT JOIN pg_catalog.pg_constraint AS invalid ON invalid.conrelid = tree.oid AND invalid.contype = 'n'
                AND NOT invalid.convalidated AND invalid.conkey = ARRAY[child.attnum]
            WHERE child.attname = typed.name AND (NOT child.attnotnull OR invalid.oid IS NOT NULL)
        ),
        CASE WHEN c.oid IS NOT NULL THEN ARRAY[n.nspname::text, c.collname::text] END,
        t.typtype = 'c',
        {operators}
    FROM typed
    JOIN pg_catalog.pg_type AS t ON t.oid = typed.oid AND t.typtype <> 'd'
    LEFT JOIN pg_catalog.pg_collation AS c ON c.oid = typed.collated
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.collnamespace
    ORDER BY typed.number
"""

# ORDER BY can use an index only if all columns are ascending or all descending, in the default operator class of their
# types and in the collation of the column.
_INDEXES: LiteralString = """
    SELECT array_agg(a.attname::text ORDER BY part.number), i.indisunique, i.indisprimary
    FROM pg_catalog.pg_index AS i
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_catalog.pg_am AS am ON am.oid = c.relam AND am.amname = 'btree'
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[], i.indcollation::oid[], i.indoption::int2[])
        WITH ORDINALITY AS part (attnum, class, collated, option, number)
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = part.attnum
    JOIN pg_catalog.pg_opclass AS class ON class.oid = part.class
    WHERE i.indrelid = {oid} AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
        AND part.number <= i.indnkeyatts
    GROUP BY i.indexrelid, i.indisunique, i.indisprimary
    HAVING bool_and(class.opcdefault AND part.collated = a.attcollation)
        AND min(part.option) = max(part.option) AND min(part.option) IN (0, 3)
    ORDER BY i.indisprimary DESC, i.indisunique DESC, count(*), min(c.relname)
"""
