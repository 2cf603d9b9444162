"""The task's session with the target's database, and the checks of the target against its catalog."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from burla_provider.database.connect import connection_parameters, is_alive, open_connection
from burla_provider.database.settings import inherited_settings
from burla_provider.database.table_creation import check_writable
from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.postgres import open_hook_connection
from burla_provider.ranges.catalog import TableFacts
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_choice import choose_key
from burla_provider.task.job_runner import check_reachable
from burla_provider.task.session import TaskSession, reconnect, resolve
from burla_provider.task.target_probe import TargetParameters, check_privileges, check_relatives, check_write
from burla_provider.worker.sinks import Insert, Sink, Target, Update, UpdateInPlace, Upsert

if TYPE_CHECKING:
    import psycopg

    from burla_provider.jobs.job import Engine
    from burla_provider.task.transform_config import TransformJobConfig

_RELATION = """
    SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
           row_security_active(c.oid),
           (SELECT min(rulename)::text FROM pg_rewrite WHERE ev_class = c.oid AND ev_type IN ('2', '3'))
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)
"""

_COLUMNS = """
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
           )
    FROM pg_attribute AS a JOIN pg_type AS d ON d.oid = a.atttypid
        JOIN base ON base.number = a.attnum JOIN pg_type AS t ON t.oid = base.type AND t.typtype <> 'd'
    WHERE a.attrelid = %(oid)s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""

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

_SERVER = """
    SELECT to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), current_setting('port'),
           current_database()::text
"""
"""What tells servers apart, and then databases, also if they are reached by other host names or by a pooler."""


_TARGET = TargetParameters("target_table", "target_conn_id")
_IN_PLACE = TargetParameters("table", "postgres_conn_id")


@dataclass(frozen=True)
class _Column:
    name: str
    is_json: bool
    is_json_array: bool
    is_generated: bool
    is_always_identity: bool
    is_not_null: bool
    may_have_default: bool

    @property
    def accepts_values(self) -> bool:
        return not (self.is_generated or self.is_always_identity)


@dataclass(frozen=True)
class TargetSession:
    """The task's session with the target's database.

    :param name: the session's application_name.
    :param parameters: libpq parameters for the workers' connections, with secrets.
    :param settings: settings of this session that the workers' sessions need too.
    :param sink: writes the rows of a chunk.
    :param is_same_server: whether the source is on the same server, so that each worker has two connections to it.
    """

    name: str
    parameters: Mapping[str, str] = field(repr=False)
    connection: psycopg.Connection[Any]
    settings: Mapping[str, str]
    sink: Sink
    target: Target
    is_same_server: bool

    @contextmanager
    def final_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Return a connection for the last steps: this one, or a new one if the server ended it while it was idle."""
        if is_alive(self.connection):
            yield self.connection
            return
        with reconnect(self.parameters, self.name) as connection:
            yield connection


@contextmanager
def open_target(config: TransformJobConfig, session: TaskSession, engine: Engine) -> Iterator[TargetSession]:
    """Connect to the target's database, check the target, and close the connection at the end.

    :raises InvalidParameterError: if the target cannot be written as the config says.
    """
    parameter = (_IN_PLACE if config.is_in_place else _TARGET).connection
    with open_hook_connection(config.target_conn_id, parameter) as hook_connection:
        parameters = connection_parameters(hook_connection)
    if not config.plan_only:
        check_reachable(engine, parameters["host"], config.target_conn_id, parameter)
    with closing(open_connection(parameters, application_name=session.name, autocommit=True)) as connection:
        sink = find_in_place(connection, config, session) if config.is_in_place else find_sink(connection, config)
        [source], [target] = (one.execute(_SERVER).fetchall() for one in (session.connection, connection))
        is_source = [*source, session.schema, session.table] == [*target, sink.target.schema, sink.target.table]
        if is_source and not config.is_in_place:
            raise InvalidParameterError(
                "target_table",
                f"{sink.target} is the table that is read.",
                'Leave target_table out to update its rows with write_mode="update", or name another table.',
            )
        if source == target and not config.is_in_place:
            check_relatives(connection, session.schema, session.table, sink.target)
        if not config.plan_only:
            check_write(connection, sink, config.version_column)
        yield TargetSession(
            session.name,
            parameters,
            connection,
            inherited_settings(connection),
            sink,
            sink.target,
            source[:2] == target[:2],
        )


def find_in_place(connection: psycopg.Connection[Any], config: TransformJobConfig, session: TaskSession) -> Sink:
    """Return the sink that updates the rows of the source.

    :raises InvalidParameterError: if they cannot be identified or updated.
    """
    source = sql.Identifier(session.schema, session.table).as_string(connection)
    oid, schema, table, _ = _find_relation(connection, source, _IN_PLACE)
    key = find_unique_key(session.facts)
    if not key.columns:
        problem, remedy = f"{schema}.{table} has no primary key, so its rows cannot be updated.", "Add a primary key."
        if session.facts.is_tree:
            problem = f"{schema}.{table} has children, in which its primary key is not unique."
            remedy = "Update the children, each as a table of its own."
        raise InvalidParameterError("table", problem, remedy)
    columns = {column.name: column for column in _read_columns(connection, oid)}
    assert config.update_columns is not None  # noqa: S101 (the config has checked it)
    for name in config.update_columns:
        if name not in columns:
            _raise_unknown("update_columns", name, list(columns), f"{schema}.{table}")
        if not columns[name].accepts_values:
            raise _set_by_server("update_columns", columns[name], f"{schema}.{table}")
    split = [config.key] if isinstance(config.key, str) else config.key or ()
    if keys := {*key.names, *split}.intersection(config.update_columns):
        raise InvalidParameterError(
            "update_columns",
            f"{min(keys)} is a column of the key: a row with another key would be read again, or left out.",
            "Update other columns, or split by another key.",
        )
    target = _target(schema, table, [columns[name] for name in config.update_columns])
    check_privileges(connection, target, {"SELECT": target.columns, "UPDATE": target.columns}, _IN_PLACE)
    return UpdateInPlace(target, key.names)


def find_unique_key(facts: TableFacts) -> Key:
    """Return the best unique key whose columns cannot be NULL. If the table has no such key, it has no columns."""
    if facts.is_tree and facts.kind != "p":  # the key of a table is not unique among its children
        return Key()
    key = choose_key(facts, None)
    return Key() if key.nullable else key


def find_sink(connection: psycopg.Connection[Any], config: TransformJobConfig) -> Sink:
    """Return the sink of the config's write mode.

    :raises InvalidParameterError: if the target does not exist or cannot be written in this mode.
    """
    assert config.target_table is not None  # noqa: S101 (the config has checked it)
    oid, schema, table, row_security = _find_relation(connection, config.target_table, _TARGET)
    all_columns = _read_columns(connection, oid)
    name = f"{schema}.{table}"
    key = () if config.write_mode == "insert" else _choose_key(connection, oid, name, all_columns, config)
    columns = _choose_columns(name, all_columns, key, config)
    target = _target(schema, table, columns)
    if config.write_mode == "insert":
        check_privileges(connection, target, {"INSERT": target.columns}, _TARGET)
        if row_security:
            raise InvalidParameterError(
                "target_table",
                f"{target} has row security for this role, and COPY does not support it.",
                'Connect as a role that has BYPASSRLS, or use write_mode="upsert".',
            )
        return Insert(target)
    updated = _choose_updated(target, key, columns, config)
    needed = {"SELECT": target.columns, "INSERT": target.columns, "UPDATE": updated}
    if config.write_mode == "update":
        del needed["INSERT"]
    check_privileges(connection, target, {name: columns for name, columns in needed.items() if columns}, _TARGET)
    if config.write_mode == "update":
        return Update(target, key, updated)
    _check_version(config.version_column, target, key, updated)
    return Upsert(target, key, updated, config.version_column)


def _target(schema: str, table: str, columns: Sequence[_Column]) -> Target:
    json_columns = tuple(column.name for column in columns if column.is_json)
    json_arrays = tuple(column.name for column in columns if column.is_json_array)
    return Target(schema, table, tuple(column.name for column in columns), json_columns, json_arrays)


def _read_columns(connection: psycopg.Connection[Any], oid: int) -> list[_Column]:
    return [_Column(*row) for row in connection.execute(_COLUMNS, {"oid": oid}).fetchall()]


def read_generated(connection: psycopg.Connection[Any], target: Target) -> dict[str, str]:
    """Return the generated columns of the table with their expressions."""
    query = """
        SELECT a.attname::text, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute AS a JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = %s::regclass AND a.attgenerated <> ''
    """
    return dict(connection.execute(query, [target.relation.as_regclass(connection)]).fetchall())


def _find_relation(
    connection: psycopg.Connection[Any], name: str, parameters: TargetParameters
) -> tuple[int, str, str, bool]:
    resolve(connection, parameters.table, name)
    row = connection.execute(_RELATION, [name]).fetchone()
    if row is None:
        raise InvalidParameterError(
            parameters.table, f"{name} does not exist in the database {connection.info.dbname}.", "Create it first."
        )
    oid, schema, table, kind, persistence, row_security, rule = row
    if kind not in _WRITABLE or persistence == "t":
        what = "temporary table" if persistence == "t" else _KINDS.get(kind, "relation of another kind")
        raise InvalidParameterError(parameters.table, f"{schema}.{table} is a {what}.", "Name a table.")
    if rule is not None:
        problem = f"{schema}.{table} has the rule {rule}, which COPY ignores."
        raise InvalidParameterError(parameters.table, problem, "Replace it by a trigger, or name another table.")
    check_writable(connection, parameters.connection, schema)
    return oid, schema, table, row_security


def _choose_columns(
    target: str, columns: Sequence[_Column], key: Sequence[str], config: TransformJobConfig
) -> list[_Column]:
    by_name = {column.name: column for column in columns}
    compared = key if config.write_mode == "update" else ()  # an update does not set its key
    if config.target_columns is None:
        chosen = [column for column in columns if column.accepts_values or column.name in compared]
    else:
        for name in config.target_columns:
            if name not in by_name:
                _raise_unknown("target_columns", name, list(by_name), target)
        chosen = [by_name[name] for name in config.target_columns]
    for column in chosen:
        if not column.accepts_values and column.name not in compared:
            raise _set_by_server("target_columns", column, target)
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
                raise _set_by_server("conflict_columns", by_name[name], target)
            raise InvalidParameterError(
                "target_columns", f"the key column {name} of {target} is not among them.", "Add it."
            )
    return chosen


def _choose_key(
    connection: psycopg.Connection[Any],
    oid: int,
    target: str,
    columns: Sequence[_Column],
    config: TransformJobConfig,
) -> tuple[str, ...]:
    unique = [(tuple(names), is_primary) for names, is_primary in connection.execute(_UNIQUE, [oid]).fetchall()]
    if config.conflict_columns is None:
        key = next((names for names, is_primary in unique if is_primary), None)
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


def _choose_updated(
    target: Target, key: Sequence[str], columns: Sequence[_Column], config: TransformJobConfig
) -> tuple[str, ...]:
    if config.update_columns is None:
        updated = tuple(name for name in target.columns if name not in key)
    else:
        updated = tuple(config.update_columns)
        for name in updated:
            if name not in target.columns:
                _raise_unknown("update_columns", name, target.columns, f"the columns written to {target}")
        for column in columns:
            if column.name in updated and not column.accepts_values:
                raise _set_by_server("update_columns", column, str(target))
    if not updated and config.write_mode == "update":
        raise InvalidParameterError("update_columns", f"{target} has only key columns.", "Name a column to update.")
    return updated


def _check_version(version: str | None, target: Target, key: Sequence[str], updated: Sequence[str]) -> None:
    if version is None:
        return
    if version not in target.columns:
        _raise_unknown("version_column", version, target.columns, f"the columns written to {target}")
    if version in key:
        raise InvalidParameterError(
            "version_column",
            f"{version} is one of conflict_columns: rows that conflict have the same.",
            "Leave it out.",
        )
    if version not in updated:
        raise InvalidParameterError(
            "version_column",
            f"{version} is not one of update_columns: a row would keep its old version, and then take an older row.",
            "Add it to update_columns, or leave it out.",
        )


def _set_by_server(parameter: str, column: _Column, table: str) -> InvalidParameterError:
    what = "a generated column" if column.is_generated else "GENERATED ALWAYS AS IDENTITY"
    return InvalidParameterError(
        parameter, f"{column.name} of {table} is {what}.", "Leave it out: the server sets its value."
    )


def _raise_unknown(parameter: str, name: str, known: Sequence[str], where: str) -> None:
    similar = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    advice = f"Did you mean {similar[0]}?" if similar else f"There are {', '.join(known[:20])}."
    raise InvalidParameterError(parameter, f"{name} is not a column of {where}.", advice)
