"""The task's session with the target's database, and the checks of the target against its catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from burla_provider.database.connect import connection_parameters, is_alive, limit_unreachable_client, open_connection
from burla_provider.database.settings import inherited_settings
from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.postgres import open_hook_connection
from burla_provider.ranges.catalog import TableFacts
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_choice import choose_key
from burla_provider.task.exchange import Exchange
from burla_provider.task.job_runner import check_reachable
from burla_provider.task.overwrite_target import check_exchange, find_exchange
from burla_provider.task.session import TaskSession, reconnect
from burla_provider.task.target_catalog import (
    TargetColumn,
    choose_columns,
    choose_conflict_key,
    find_relation,
    raise_unknown,
    read_columns,
    set_by_server,
    target_of,
)
from burla_provider.task.target_probe import (
    IN_PLACE,
    TARGET,
    check_childless,
    check_privileges,
    check_relatives,
    check_write,
)
from burla_provider.worker.sinks import Insert, Sink, Target, Update, UpdateInPlace, Upsert

if TYPE_CHECKING:
    import psycopg

    from burla_provider.jobs.job import Engine
    from burla_provider.task.transform_config import TransformJobConfig

_SERVER = """
    SELECT to_char(pg_postmaster_start_time() AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), current_setting('port'),
           current_database()::text
"""
"""What tells servers apart, and then databases, also if they are reached by other host names or by a pooler."""


@dataclass(frozen=True)
class TargetSession:
    """The task's session with the target's database.

    :param name: the session's application_name.
    :param parameters: libpq parameters for the workers' connections, with secrets.
    :param settings: settings of this session that the workers' sessions need too.
    :param sink: writes the rows of a chunk.
    :param is_same_server: whether the source is on the same server, so that each worker has two connections to it.
    :param exchange: the last step of an overwrite, whose sink is for a staging table; None: the sink writes the target.
    """

    name: str
    parameters: Mapping[str, str] = field(repr=False)
    connection: psycopg.Connection[Any]
    settings: Mapping[str, str]
    sink: Sink
    target: Target
    is_same_server: bool
    exchange: Exchange | None = None

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
    parameter = (IN_PLACE if config.is_in_place else TARGET).connection
    with open_hook_connection(config.target_conn_id, parameter) as hook_connection:
        parameters = connection_parameters(hook_connection)
    if not config.plan_only:
        check_reachable(engine, parameters["host"], config.target_conn_id, parameter)
    with closing(open_connection(parameters, application_name=session.name, autocommit=True)) as connection:
        settings = inherited_settings(connection)
        limit_unreachable_client(connection)
        exchange = find_exchange(connection, config) if config.write_mode == "overwrite" else None
        sink = _find_sink(connection, config, session, exchange)
        [source], [target] = (side.execute(_SERVER).fetchall() for side in (session.connection, connection))
        is_source = [*source, session.schema, session.table] == [*target, sink.target.schema, sink.target.table]
        if is_source and not config.is_in_place:
            raise InvalidParameterError(
                "target_table",
                f"{sink.target} is the table that is read.",
                'Leave target_table out to update its rows with write_mode="update", or name another table.',
            )
        if source == target and not config.is_in_place:
            check_relatives(connection, session.schema, session.table, sink.target)
        if isinstance(sink, Update | Upsert):
            check_childless(connection, sink.target)
        if exchange:
            check_exchange(connection, exchange)
        elif not config.plan_only:
            check_write(connection, sink, config.version_column)
        yield TargetSession(
            session.name,
            parameters,
            connection,
            settings,
            sink,
            sink.target,
            source[:2] == target[:2],
            exchange,
        )


def _find_sink(
    connection: psycopg.Connection[Any], config: TransformJobConfig, session: TaskSession, exchange: Exchange | None
) -> Sink:
    if exchange:
        return Insert(exchange.target)
    return find_in_place(connection, config, session) if config.is_in_place else find_sink(connection, config)


def find_in_place(connection: psycopg.Connection[Any], config: TransformJobConfig, session: TaskSession) -> Sink:
    """Return the sink that updates the rows of the source.

    :raises InvalidParameterError: if they cannot be identified or updated.
    """
    source = sql.Identifier(session.schema, session.table).as_string(connection)
    oid, schema, table, _ = find_relation(connection, source, IN_PLACE)
    key = find_unique_key(session.facts)
    if not key.columns:
        problem, remedy = f"{schema}.{table} has no primary key, so its rows cannot be updated.", "Add a primary key."
        if session.facts.is_tree:
            problem = f"{schema}.{table} has children, in which its primary key is not unique."
            remedy = "Update the children, each as a table of its own."
        raise InvalidParameterError("table", problem, remedy)
    columns = {column.name: column for column in read_columns(connection, oid)}
    assert config.update_columns is not None  # noqa: S101 (the config has checked it)
    for name in config.update_columns:
        if name not in columns:
            raise_unknown("update_columns", name, list(columns), f"{schema}.{table}")
        if not columns[name].accepts_values:
            raise set_by_server("update_columns", columns[name], f"{schema}.{table}")
    split = [config.key] if isinstance(config.key, str) else config.key or ()
    if keys := {*key.names, *split}.intersection(config.update_columns):
        raise InvalidParameterError(
            "update_columns",
            f"{min(keys)} is a column of the key: a row with another key would be read again, or left out.",
            "Update other columns, or split by another key.",
        )
    updated, identifying = ([columns[name] for name in some] for some in (config.update_columns, key.names))
    target = target_of(schema, table, updated, identifying)
    check_privileges(connection, target, {"SELECT": target.columns, "UPDATE": target.columns}, IN_PLACE)
    return UpdateInPlace(target, key.names)


def find_unique_key(facts: TableFacts) -> Key:
    """Return the best unique key whose columns cannot be NULL. If the table has no such key, it has no columns."""
    if facts.has_children:  # in which the key of the table is not unique
        return Key()
    key = choose_key(facts, None)
    return Key() if key.nullable else key


def find_sink(connection: psycopg.Connection[Any], config: TransformJobConfig) -> Sink:
    """Return the sink of the config's write mode.

    :raises InvalidParameterError: if the target does not exist or cannot be written in this mode.
    """
    assert config.target_table is not None  # noqa: S101 (the config has checked it)
    oid, schema, table, row_security = find_relation(connection, config.target_table, TARGET)
    all_columns = read_columns(connection, oid)
    name = f"{schema}.{table}"
    key = () if config.write_mode == "insert" else choose_conflict_key(connection, oid, name, all_columns, config)
    columns = choose_columns(name, all_columns, key, config)
    target = target_of(schema, table, columns)
    if config.write_mode == "insert":
        check_privileges(connection, target, {"INSERT": target.columns}, TARGET)
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
    check_privileges(connection, target, {name: columns for name, columns in needed.items() if columns}, TARGET)
    if config.write_mode == "update":
        return Update(target, key, updated)
    _check_version(config.version_column, target, key, updated)
    return Upsert(target, key, updated, config.version_column)


def _choose_updated(
    target: Target, key: Sequence[str], columns: Sequence[TargetColumn], config: TransformJobConfig
) -> tuple[str, ...]:
    if config.update_columns is None:
        updated = tuple(name for name in target.columns if name not in key)
    else:
        updated = tuple(config.update_columns)
        for name in updated:
            if name not in target.columns:
                raise_unknown("update_columns", name, target.columns, f"{target} that is written")
        for column in columns:
            if column.name in updated and not column.accepts_values:
                raise set_by_server("update_columns", column, str(target))
    if not updated and config.write_mode == "update":
        raise InvalidParameterError("update_columns", f"{target} has only key columns.", "Name a column to update.")
    return updated


def _check_version(version: str | None, target: Target, key: Sequence[str], updated: Sequence[str]) -> None:
    if version is None:
        return
    if version not in target.columns:
        raise_unknown("version_column", version, target.columns, f"{target} that is written")
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
