"""Let the server check what the workers will write, and with which privileges, before any function runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import quoted_role
from burla_provider.exceptions import InvalidParameterError
from burla_provider.worker.ledger import Ledger
from burla_provider.worker.sinks import Sink, Target

if TYPE_CHECKING:
    import psycopg

_REFUSALS = ("0A", "42")
"""Classes of SQLSTATE of a statement that cannot succeed: not supported, or wrong names, types or privileges."""


_IS_DESCENDANT = """
    WITH RECURSIVE ancestor (oid) AS (
        SELECT %s::regclass::oid
        UNION
        SELECT inhparent FROM pg_inherits JOIN ancestor ON inhrelid = ancestor.oid
    )
    SELECT %s::regclass::oid IN (SELECT oid FROM ancestor)
"""


_CHILD = """
    SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class ON oid = inhparent
    WHERE inhparent = %s::regclass AND relkind = 'r' LIMIT 1
"""


_ARE_LOGGED = """
    WITH RECURSIVE tree (oid) AS (
        SELECT %s::regclass::oid UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid
    )
    SELECT DISTINCT relpersistence <> 'u' FROM tree JOIN pg_class USING (oid) WHERE relkind <> 'p'
"""


_SEQUENCES = """
    SELECT DISTINCT format('%%I.%%I', n.nspname, s.relname)
    FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        JOIN pg_depend AS p ON (p.classid, p.objid) = ('pg_attrdef'::regclass, d.oid)
            OR d.oid IS NULL AND (p.classid, p.objid) = ('pg_type'::regclass, a.atttypid)  -- a domain
        JOIN pg_class AS s ON (p.refclassid, p.refobjid) = ('pg_class'::regclass, s.oid)
        JOIN pg_namespace AS n ON n.oid = s.relnamespace
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (%s)
        AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') END
    ORDER BY 1
"""
"""The sequences of the defaults of other columns that the role cannot use. Those of identity columns need nothing."""


class TargetParameters(NamedTuple):
    """The operator parameters that name the target and its connection, for errors."""

    table: str
    connection: str


TARGET = TargetParameters("target_table", "target_conn_id")
IN_PLACE = TargetParameters("table", "postgres_conn_id")


def check_relatives(connection: psycopg.Connection[Any], schema: str, table: str, target: Target) -> None:
    """Check that no row of the target is one of the source, which is in the same database.

    :param schema: schema of the source.
    :param table: name of the source.
    :raises InvalidParameterError: if one of them is a partition or a child of the other.
    """
    source = Identifier(schema, table).as_regclass(connection)
    written = target.relation.as_regclass(connection)
    related = [
        (f"a partition or a child of {schema}.{table}", written, source),
        (f"the parent of {schema}.{table}", source, written),
    ]
    for what, child, parent in related:
        if connection.execute(_IS_DESCENDANT, [child, parent]).fetchone() == (True,):
            problem = f"{target} is {what}, which is read: the rows that are written would be read too."
            raise InvalidParameterError("target_table", problem, "Name another table.")


def check_childless(connection: psycopg.Connection[Any], target: Target) -> None:
    """Check that a key identifies a row of the target.

    :raises InvalidParameterError: if the target has a child, whose rows belong to it too.
    """
    child = connection.execute(_CHILD, [target.relation.as_regclass(connection)]).fetchone()
    if child:
        problem = f"{target} has the child {child[0]}, in which the keys of {target} may occur again."
        raise InvalidParameterError("target_table", problem, "Name another table.")


def check_persistence(connection: psycopg.Connection[Any], ledger: Ledger, target: Target) -> None:
    """Check that a crash of the server, which empties unlogged tables, empties both tables or none.

    :raises InvalidParameterError: if it would empty one of them.
    """
    kinds = []
    for relation in (ledger.relation, target.relation):
        kinds.append({logged for (logged,) in connection.execute(_ARE_LOGGED, [relation.as_regclass(connection)])})
    if len(kinds[0] | kinds[1]) > 1:
        unlogged, other = (target, ledger) if kinds[0] == {True} else (ledger, target)
        problem = f"{unlogged} is unlogged, and {other} is not"
        raise InvalidParameterError(
            "ledger",
            f"{problem}: after a crash of the server, a retry would leave rows out or write them twice.",
            f"Run: ALTER TABLE {unlogged.relation.as_string(connection)} SET LOGGED; Or name a ledger like the target.",
        )


def check_write(connection: psycopg.Connection[Any], sink: Sink, version: str | None) -> None:
    """Write no rows, and roll back.

    :param version: the version column.
    :raises InvalidParameterError: if the server refuses the statements.
    """
    import psycopg
    from psycopg import sql

    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("{}").format(sink.setup(pooled=True)))
            sink.write(connection, [])
    except psycopg.errors.UndefinedFunction as error:
        if version is None:
            raise refused(sink.target, error) from None
        problem = f"{version} of {sink.target} has no greater value: {error.diag.message_primary}."
        raise InvalidParameterError("version_column", problem, "Name a number or a time.") from None
    except psycopg.Error as error:
        if (error.sqlstate or "")[:2] not in _REFUSALS:
            raise
        raise refused(sink.target, error) from None


def refused(target: Target, error: psycopg.Error) -> InvalidParameterError:
    """Return the error for a statement that the server refuses."""
    problem = f"{target} cannot be written: {error.diag.message_primary}."
    hint = error.diag.message_hint
    return InvalidParameterError("target_table", problem, hint or "Correct this, or name another table.")


def check_privileges(
    connection: psycopg.Connection[Any],
    target: Target,
    needed: Mapping[str, Sequence[str]],
    parameters: TargetParameters,
) -> None:
    """Check that the role has the privileges that the write needs.

    :param needed: privilege -> columns.
    :raises InvalidParameterError: if a privilege is missing.
    """
    table = target.relation.as_regclass(connection)
    query = "SELECT bool_and(has_column_privilege(%s, c, %s)) FROM unnest(%s::text[]) AS c"
    missing = [
        privilege
        for privilege, columns in needed.items()
        if connection.execute(query, [table, privilege, list(columns)]).fetchone() != (True,)
    ]
    role = quoted_role(connection)
    if missing:
        raise InvalidParameterError(
            parameters.table,
            f"the role {role} cannot {' and '.join(missing)} in {target}.",
            f"Run: GRANT {', '.join(needed)} ON {target.relation.as_string(connection)} TO {role};",
        )
    if "INSERT" in needed:
        check_sequences(connection, target)
    if "SELECT" in needed:
        query = "SELECT has_database_privilege(current_database(), 'TEMPORARY')"
        [(allowed,)] = connection.execute(query).fetchall()
        if not allowed:
            database = connection.info.dbname
            raise InvalidParameterError(
                parameters.connection,
                f"the role {role} cannot create temporary tables in {database}.",
                f"Run: GRANT TEMPORARY ON DATABASE {Identifier(database).as_string(connection)} TO {role};",
            )


def check_sequences(connection: psycopg.Connection[Any], target: Target) -> None:
    """Check that the role can insert a row: a write of no rows does not compute the defaults of the other columns.

    :raises InvalidParameterError: if it cannot use the sequence of a default.
    """
    values = [target.relation.as_regclass(connection), list(target.columns)]
    if found := [name for (name,) in connection.execute(_SEQUENCES, values).fetchall()]:
        names, role = ", ".join(found), quoted_role(connection)
        raise InvalidParameterError(
            TARGET.table,
            f"the role {role} cannot use the sequence {names}, of a default of {target}.",
            f"Run: GRANT USAGE ON SEQUENCE {names} TO {role};",
        )
