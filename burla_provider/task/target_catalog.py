"""What the catalog says about a target: its relation, columns and keys, and which of them a write uses."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from burla_provider.database.table_creation import check_writable, quoted_role
from burla_provider.database.wording import not_found
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import OPERATORS
from burla_provider.task.session import resolve
from burla_provider.task.target_probe import TargetParameters
from burla_provider.worker.sinks import Target

if TYPE_CHECKING:
    import psycopg

    from burla_provider.task.transform_config import TransformJobConfig

_RELATION = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
           row_security_active(c.oid),
           (SELECT min(rulename)::text FROM pg_rewrite WHERE ev_class = c.oid AND ev_type IN ('2', '3'))
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)
"""

_COLUMNS = f"""
    WITH RECURSIVE base (number, type) AS (  -- the last one of a column is not a domain
        SELECT attnum, atttypid FROM pg_attribute WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped
        UNION ALL
        SELECT number, typbasetype FROM base JOIN pg_type ON oid = type WHERE typtype = 'd'
    )
    SELECT a.attname::text, base.type IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype),
           base.type IN ('pg_catalog.json[]'::regtype, 'pg_catalog.jsonb[]'::regtype), a.attgenerated <> '',
           a.attidentity = 'a', a.attnotnull, a.atthasdef OR a.attidentity <> '' OR d.typdefault IS NOT NULL
           OR EXISTS (  -- a BEFORE INSERT trigger of each row may set it
               SELECT FROM pg_trigger AS g
               WHERE g.tgrelid = a.attrelid AND g.tgtype & 7 = 7 AND g.tgenabled IN ('O', 'A')
           ), {OPERATORS}
    FROM pg_attribute AS a JOIN pg_type AS d ON d.oid = a.atttypid
        JOIN base ON base.number = a.attnum JOIN pg_type AS t ON t.oid = base.type AND t.typtype <> 'd'
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""  # noqa: S608 (a constant)

_UNIQUE = """
    SELECT array_agg(a.attname::text), i.indisprimary
    FROM pg_index AS i JOIN pg_attribute AS a
        ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0 : i.indnkeyatts - 1])
    WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
        AND i.indexprs IS NULL
    GROUP BY i.indexrelid, i.indisprimary
"""

_KINDS = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view", "m": "materialized view"}
_WRITABLE = ("r", "p")


class TargetRelation(NamedTuple):
    """A table that can be written."""

    oid: int
    schema: str
    table: str
    has_row_security: bool


@dataclass(frozen=True)
class TargetColumn:
    """A column of a target.

    :param operators: see ``KeyColumn.operators``.
    """

    name: str
    is_json: bool
    is_json_array: bool
    is_generated: bool
    is_always_identity: bool
    is_not_null: bool
    may_have_default: bool
    operators: Sequence[str] | None = None

    @property
    def accepts_values(self) -> bool:
        """Whether a statement may set it."""
        return not (self.is_generated or self.is_always_identity)


def read_columns(connection: psycopg.Connection[Any], oid: int) -> list[TargetColumn]:
    """Return the columns of the table in their order."""
    return [TargetColumn(*row) for row in connection.execute(_COLUMNS, {"oid": oid}).fetchall()]


def target_of(schema: str, table: str, columns: Sequence[TargetColumn], key: Sequence[TargetColumn] = ()) -> Target:
    """Return the target that gets values for these columns.

    :param key: further columns, by which rows are found.
    """
    json_columns = tuple(column.name for column in columns if column.is_json)
    json_arrays = tuple(column.name for column in columns if column.is_json_array)
    operators = {column.name: tuple(column.operators) for column in (*columns, *key) if column.operators}
    return Target(schema, table, tuple(column.name for column in columns), json_columns, json_arrays, operators)


def read_generated(connection: psycopg.Connection[Any], target: Target) -> dict[str, str]:
    """Return the generated columns of the table with their expressions."""
    query = """
        SELECT a.attname::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = %s::regclass AND a.attgenerated <> ''
    """
    return dict(connection.execute(query, [target.relation.as_regclass(connection)]).fetchall())


def find_relation(connection: psycopg.Connection[Any], name: str, parameters: TargetParameters) -> TargetRelation:
    """Return the table of this name.

    :raises InvalidParameterError: if it does not exist, or is not a table, or cannot be written.
    """
    import psycopg
    from psycopg import sql

    schema, _ = resolve(connection, parameters.table, name)
    try:
        row = connection.execute(_RELATION, [name]).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        usage = f"GRANT USAGE ON SCHEMA {sql.Identifier(schema).as_string(connection)} TO {quoted_role(connection)};"
        problem = f"the table {name} cannot be found ({error.diag.message_primary})."
        raise InvalidParameterError(parameters.table, problem, f"Run: {usage}") from None
    if row is None:
        raise InvalidParameterError(parameters.table, not_found(name, connection.info.dbname), "Create it first.")
    oid, schema, table, kind, persistence, row_security, rule = row
    if kind not in _WRITABLE or persistence == "t":
        what = "temporary table" if persistence == "t" else _KINDS.get(kind, "relation of another kind")
        raise InvalidParameterError(parameters.table, f"{schema}.{table} is a {what}.", "Name a table.")
    if rule is not None:
        problem = f"{schema}.{table} has the rule {rule}, which COPY ignores."
        raise InvalidParameterError(parameters.table, problem, "Replace it by a trigger, or name another table.")
    check_writable(connection, parameters.connection, schema)
    return TargetRelation(oid, schema, table, row_security)


def choose_columns(
    target: str, columns: Sequence[TargetColumn], key: Sequence[str], config: TransformJobConfig
) -> list[TargetColumn]:
    """Return the columns that get values.

    :raises InvalidParameterError: if one cannot, or one that is needed is left out.
    """
    by_name = {column.name: column for column in columns}
    compared = key if config.write_mode == "update" else ()  # an update does not set its key
    if config.target_columns is None:
        chosen = [column for column in columns if column.accepts_values or column.name in compared]
    else:
        for name in config.target_columns:
            if name not in by_name:
                raise_unknown("target_columns", name, list(by_name), target)
        chosen = [by_name[name] for name in config.target_columns]
    for column in chosen:
        if not column.accepts_values and column.name not in compared:
            raise set_by_server("target_columns", column, target)
    if config.write_mode != "update":
        for column in columns:
            if column.is_not_null and not column.may_have_default and column not in chosen:
                raise InvalidParameterError(
                    "target_columns",
                    f"{column.name} of {target} is NOT NULL and has no default.",
                    "Add it, and return a value for it.",
                )
    for name in key:
        if by_name[name] not in chosen:
            if not (by_name[name].accepts_values or compared):
                raise set_by_server("conflict_columns", by_name[name], target)
            raise InvalidParameterError(
                "target_columns", f"the key column {name} of {target} is not among them.", "Add it."
            )
    return chosen


def choose_conflict_key(
    connection: psycopg.Connection[Any],
    oid: int,
    target: str,
    columns: Sequence[TargetColumn],
    config: TransformJobConfig,
) -> tuple[str, ...]:
    """Return the key columns: ``conflict_columns``, or those of the primary key.

    An overwrite needs no key. It then has no columns.

    :raises InvalidParameterError: if there is no unique index on them, or they can be NULL.
    """
    unique = [(tuple(names), is_primary) for names, is_primary in connection.execute(_UNIQUE, [oid]).fetchall()]
    if config.conflict_columns is None:
        key = next((names for names, is_primary in unique if is_primary), None)
        if key is None and config.write_mode == "overwrite":
            return ()
        if key is None:
            raise InvalidParameterError(
                "conflict_columns", f"{target} has no primary key.", "Name the columns of a unique index."
            )
    else:
        key = tuple(config.conflict_columns)
        if not any(set(names) == set(key) for names, _ in unique):
            known = "; ".join(", ".join(names) for names, _ in unique) or "none"
            given = ", ".join(key) or "no column"
            raise InvalidParameterError(
                "conflict_columns",
                f"{target} has no unique index on {given} without a condition. It has: {known}.",
                "Name the columns of such an index, or create one.",
            )
        nullable = [column.name for column in columns if column.name in key and not column.is_not_null]
        if nullable:
            raise InvalidParameterError(
                "conflict_columns",
                f"{', '.join(nullable)} of {target} can be NULL, and a row with NULL would be inserted by each try.",
                "Make it NOT NULL.",
            )
    return key


def set_by_server(parameter: str, column: TargetColumn, table: str) -> InvalidParameterError:
    """Return the error for a column that only the server sets."""
    what = "a generated column" if column.is_generated else "GENERATED ALWAYS AS IDENTITY"
    return InvalidParameterError(
        parameter, f"{column.name} of {table} is {what}.", "Leave it out: the server sets its value."
    )


def raise_unknown(parameter: str, name: str, known: Sequence[str], where: str) -> None:
    """Raise the error for an unknown column.

    :raises InvalidParameterError: always.
    """
    similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    advice = f"Did you mean {similar[0]}?" if similar else f"The columns are {', '.join(known[:20])}."
    raise InvalidParameterError(parameter, f"{name} is not a column of {where}.", advice)
