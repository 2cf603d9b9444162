"""Check that rows of a target can be replaced, before any worker starts."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from burla_provider.database.quoting import Identifier
from burla_provider.database.table_creation import quoted_role
from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.exchange import Exchange
from burla_provider.task.sql_checks import is_balanced
from burla_provider.task.sql_text import words
from burla_provider.task.staging import PREFIX
from burla_provider.task.target_catalog import (
    choose_columns,
    choose_conflict_key,
    find_relation,
    read_columns,
    target_of,
)
from burla_provider.task.target_probe import TARGET, check_sequences, refused
from burla_provider.task.volatility import find_volatile, is_date_error, relative_literals
from burla_provider.worker.sinks import Target

if TYPE_CHECKING:
    import psycopg

    from burla_provider.task.transform_config import TransformJobConfig

_OBSTACLES = """
    SELECT 'has the rule ' || rulename, 'Replace it by a trigger, or name another table.' FROM pg_rewrite
    WHERE ev_class = %(oid)s AND ev_type = '4'  -- ON DELETE
    UNION ALL
    SELECT 'has row security for this role, which may hide rows that must be replaced',
           'Connect as a role that has BYPASSRLS.'
    WHERE row_security_active(%(oid)s::oid)
    UNION ALL
    SELECT 'has the child ' || inhrelid::regclass || ', whose rows could not be replaced', 'Name another table.'
    FROM pg_inherits JOIN pg_class ON oid = inhparent WHERE inhparent = %(oid)s AND relkind = 'r'
"""

_REFERENCE = "SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND confrelid = %s LIMIT 1"

_HAS_TRIGGERS = """
    SELECT EXISTS (  -- BEFORE INSERT, of each row
        SELECT FROM pg_trigger WHERE tgrelid = %s AND tgtype & 7 = 7 AND tgenabled IN ('O', 'A')
    )
"""


def find_exchange(connection: psycopg.Connection[Any], config: TransformJobConfig) -> Exchange:
    """Return what an overwrite replaces.

    :raises InvalidParameterError: if the target does not exist, or its rows cannot be replaced.
    """
    assert config.target_table is not None  # noqa: S101 (the config has checked it)
    assert config.overwrite_where is not None  # noqa: S101 (the config has checked it)
    oid, schema, table, _ = find_relation(connection, config.target_table, TARGET)
    name = f"{schema}.{table}"
    if obstacle := connection.execute(_OBSTACLES, {"oid": oid}).fetchone():
        raise InvalidParameterError("target_table", f"{name} {obstacle[0]}.", obstacle[1])
    all_columns = read_columns(connection, oid)
    key = choose_conflict_key(connection, oid, name, all_columns, config)
    if not key and (reference := connection.execute(_REFERENCE, [oid]).fetchone()):
        raise InvalidParameterError(
            "conflict_columns",
            f"{name} has no primary key, and a foreign key of {reference[0]} points at it: the rows that it points at"
            " would be deleted.",
            "Name the columns of a unique index, so that rows that stay are not deleted.",
        )
    columns = choose_columns(name, all_columns, key, config)
    target = target_of(schema, table, columns)
    _check_privileges(connection, target, ["SELECT", "INSERT", "DELETE", *(["UPDATE"] if key else [])])
    check_sequences(connection, target)
    _check_schema(connection, target)
    [(has_triggers,)] = connection.execute(_HAS_TRIGGERS, [oid]).fetchall()
    unset = tuple(column.name for column in all_columns if column not in columns)
    return Exchange(target, key, config.overwrite_where, unset, has_triggers)


def check_exchange(connection: psycopg.Connection[Any], exchange: Exchange) -> None:
    """Let the server plan the statements, without executing them, and roll back.

    :raises InvalidParameterError: if it refuses one.
    """
    import psycopg
    from psycopg import sql

    _check_condition(connection, exchange)
    staging = Identifier(exchange.target.schema, f"{PREFIX}probe_{secrets.token_hex(4)}")
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(exchange.create_staging(staging))
            for statement in exchange.statements(staging).values():
                connection.execute(sql.SQL("EXPLAIN {}").format(statement))
            if exchange.key:
                connection.execute(exchange.find_duplicate(staging))
    except psycopg.OperationalError:  # such as a lock or a timeout: a retry may succeed
        raise
    except psycopg.Error as error:
        raise refused(exchange.target, error) from None


def _check_condition(connection: psycopg.Connection[Any], exchange: Exchange) -> None:
    """Check that the condition means the same rows in each statement."""
    import psycopg

    where = exchange.where
    if not is_balanced(connection, where):
        raise InvalidParameterError("overwrite_where", f"in {where!r} a bracket or a quote is not closed.", "Close it.")
    if words(where) & {"select", "table"}:  # both are reserved
        problem = f"{where!r} has a subquery, whose result may change while rows are replaced."
        advice = "Write its result with a template, such as the XCom of a task before."
        raise InvalidParameterError("overwrite_where", problem, advice)
    try:
        with connection.transaction():
            found = find_volatile(PlannerConnection(connection), exchange.select(where))
            found += [
                literal
                for literal, text in relative_literals(connection, where)
                if is_date_error(connection, exchange.select(text))
            ]
    except psycopg.OperationalError:  # such as a lock or a timeout: a retry may succeed
        raise
    except psycopg.Error as error:
        problem = f"the server rejects {where!r}: {error.diag.message_primary or error}."
        advice = error.diag.message_hint or f"Write a condition on the columns of {exchange.target}."
        raise InvalidParameterError("overwrite_where", problem, advice) from None
    if found:
        problem = f"{where!r} has {', '.join(found)}, whose value may change while the task runs."
        advice = "Write the value with a template: \"day = '{{ ds }}'\"."
        raise InvalidParameterError("overwrite_where", problem, advice)


def _check_privileges(connection: psycopg.Connection[Any], target: Target, privileges: list[str]) -> None:
    # Privileges on the whole table, because LIKE and LOCK need them.
    query = "SELECT bool_and(has_table_privilege(%s, p)) FROM unnest(%s::text[]) AS p"
    table = target.relation.as_regclass(connection)
    missing = [name for name in privileges if connection.execute(query, [table, [name]]).fetchone() != (True,)]
    if missing:
        role = quoted_role(connection)
        raise InvalidParameterError(
            "target_table",
            f"the role {role} cannot {' and '.join(missing)} in {target}.",
            f"Run: GRANT {', '.join(privileges)} ON {target.relation.as_string(connection)} TO {role};",
        )


def _check_schema(connection: psycopg.Connection[Any], target: Target) -> None:
    [(allowed,)] = connection.execute("SELECT has_schema_privilege(%s, 'CREATE')", [target.schema]).fetchall()
    if not allowed:
        role, schema = quoted_role(connection), Identifier(target.schema).as_string(connection)
        raise InvalidParameterError(
            "target_table",
            f"the role {role} cannot create the staging table, which is in the schema {target.schema}.",
            f"Run: GRANT CREATE ON SCHEMA {schema} TO {role};",
        )
