"""The task's database session: it plans, and holds the snapshot in which all ranges are read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.postgres import open_hook_connection

if TYPE_CHECKING:
    import psycopg

    from burla_provider.database.leaves import Leaves
    from burla_provider.database.settings import SessionSettings
    from burla_provider.database.snapshot import Snapshot
    from burla_provider.ranges.catalog import TableFacts
    from burla_provider.task.config import Consistency, TableConfig

_RECONNECT_SECONDS = 60
"""Seconds to wait for a server that restarts."""

_SCHEMA_OF = """
    SELECT coalesce(
        (SELECT nspname FROM pg_class AS c, pg_namespace AS n WHERE c.oid = to_regclass(%s) AND n.oid = relnamespace),
        current_schema()
    )::text
"""


@dataclass(frozen=True)
class TaskSession:
    """The task's database session.

    :param name: the session's application_name.
    :param parameters: libpq parameters for the workers' connections, with secrets.
    :param connection: the connection for planning; in the snapshot's transaction if there is a snapshot.
    :param facts: the table's catalog facts; as the snapshot sees them if there is one.
    :param settings: settings of this session that the workers' sessions need too.
    :param results_table: schema and name of the results table, if there is one.
    :param snapshot: the snapshot that workers join; None: every range is read in its own snapshot.
    :param state_before: the table's state just before the snapshot.
    :param leaves: the relations that store the table's rows in the snapshot, by oid.
    """

    name: str
    parameters: Mapping[str, str] = field(repr=False)
    connection: psycopg.Connection[Any]
    facts: TableFacts
    settings: Mapping[str, str] = field(default_factory=dict)
    results_table: tuple[str, str] | None = None
    snapshot: Snapshot | None = None
    state_before: dict[str, str] | None = None
    leaves: Leaves = field(default_factory=dict)

    @property
    def schema(self) -> str:
        """The table's schema."""
        return self.facts.schema

    @property
    def table(self) -> str:
        """The table's name without its schema."""
        return self.facts.table

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the table's columns, in their order."""
        return tuple(column.name for column in self.facts.columns)

    @property
    def partitioned(self) -> bool:
        """Whether it is a partitioned table."""
        return self.facts.kind == "p"

    @property
    def leaves_id(self) -> str:
        """A text that is different if partitions or children were added, removed or renamed; "" without a snapshot."""
        from burla_provider.database.leaves import identify_leaves

        return identify_leaves(self.leaves) if self.snapshot else ""

    @property
    def foreign(self) -> frozenset[tuple[str, str]]:
        """Schema and name of the partitions and children that the snapshot does not cover."""
        if self.snapshot is None:
            return frozenset()
        return frozenset((leaf.schema, leaf.name) for leaf in self.facts.leaves if leaf.kind == "f")

    @contextmanager
    def final_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Return a connection for the last steps: this one, or a new one if the server ended it while it was idle.

        If there is a snapshot it is always this one, because only this one sees the snapshot.
        """
        from burla_provider.database.connect import is_alive

        if self.snapshot is not None or is_alive(self.connection):
            yield self.connection
            return
        with reconnect(self.parameters, self.name) as connection:
            yield connection

    @contextmanager
    def short_transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Return a connection in a transaction that ends with the block, and with it its locks.

        The transaction of the snapshot lasts as long as the job, and so would the locks that it takes.
        """
        if self.snapshot is None:
            with self.final_connection() as connection, connection.transaction():
                yield connection
            return
        with reconnect(self.parameters, self.name) as connection, connection.transaction():
            yield connection

    def check_visible(self) -> None:
        """Check that the snapshot, if there is one, sees the rows of the tables that the user's SQL reads.

        :raises BurlaProviderError: if another session has replaced the rows of one meanwhile.
        """
        from burla_provider.database.snapshot import check_visible

        if self.snapshot is not None:
            check_visible(self.connection)

    def find_changed_leaves(self) -> list[str]:
        """Return the names of the partitions and children that ranges may have read, but the snapshot does not see.

        Those that the snapshot sees and that ranges may not have read are included.
        """
        from burla_provider.database.leaves import find_changed_leaves, read_leaves

        with reconnect(self.parameters, self.name) as connection:
            now = read_leaves(connection, self.schema, self.table)
        return find_changed_leaves(self.connection, self.leaves, now)


@contextmanager
def open_session(
    postgres_conn_id: str,
    table: str,
    name: str,
    consistency: Consistency,
    results_table: str | None = None,
    on_snapshot: Callable[[], None] = lambda: None,
) -> Iterator[TaskSession]:
    """Connect, prepare the results table, take the snapshot and read the catalog; roll back and close at the end.

    Two connections are opened: the hook's, and the session's. The hook's is closed before planning.

    :param table: the table's name in SQL.
    :param name: the session's application_name.
    :param results_table: the name in SQL of a table that is created if it does not exist.
    :param on_snapshot: called before the snapshot is taken, which waits for the lock of the table.
    :raises InvalidParameterError: if a table does not exist or cannot be used, or the server does not share snapshots.
    """
    from burla_provider.database.connect import connection_parameters, limit_unreachable_client, open_connection
    from burla_provider.database.leaves import read_leaves
    from burla_provider.database.settings import application_name, inherited_settings
    from burla_provider.database.snapshot import held_snapshot
    from burla_provider.database.table_state import state_before
    from burla_provider.ranges.catalog import find_table
    from burla_provider.ranges.planner_connection import PlannerConnection

    has_snapshot = consistency == "snapshot"
    with open_hook_connection(postgres_conn_id) as hook_connection:
        parameters = connection_parameters(hook_connection)
        if not has_snapshot:
            hook_connection.close()
        session_name = application_name(name, " snapshot") if has_snapshot else name
        with closing(open_connection(parameters, application_name=session_name, autocommit=True)) as connection:
            settings = inherited_settings(connection)
            limit_unreachable_client(connection)
            # Only the name: the facts are read in the snapshot.
            found = find_table(PlannerConnection(connection), table)
            if has_snapshot and found.kind == "f":
                raise not_covered({(found.schema, found.name)})
            results = _prepare_results_table(connection, results_table)
            if not has_snapshot:
                facts = _read_facts(connection, found.schema, found.name)
                yield TaskSession(name, parameters, connection, facts, settings, results)
                return
            on_snapshot()
            state = state_before(connection, found.schema, found.name)
            with held_snapshot(connection, found.schema, found.name) as snapshot:
                _check_joinable(hook_connection, parameters, snapshot, name, connection)
                hook_connection.close()
                facts = _read_facts(connection, found.schema, found.name)
                leaves = read_leaves(connection, found.schema, found.name)
                yield TaskSession(name, parameters, connection, facts, settings, results, snapshot, state, leaves)


def _read_facts(connection: psycopg.Connection[Any], schema: str, table: str) -> TableFacts:
    from psycopg import sql

    from burla_provider.ranges.catalog import read_facts
    from burla_provider.ranges.planner_connection import PlannerConnection

    planner_connection = PlannerConnection(connection)
    # Otherwise a SQL_ASCII database could return names as bytes.
    with planner_connection.local_settings(client_encoding="UTF8"):
        return read_facts(planner_connection, sql.Identifier(schema, table).as_string(connection))


def _prepare_results_table(connection: psycopg.Connection[Any], name: str | None) -> tuple[str, str] | None:
    from burla_provider.task.results_table import prepare_results_table

    if name is None:
        return None
    schema, table = resolve(connection, "results_table", name)
    prepare_results_table(connection, schema, table)
    return schema, table


def _check_joinable(
    connection: psycopg.Connection[Any],
    parameters: Mapping[str, str],
    snapshot: Snapshot,
    name: str,
    holder: psycopg.Connection[Any],
) -> None:
    from burla_provider.database.connect import is_alive, open_connection
    from burla_provider.database.settings import application_name
    from burla_provider.database.snapshot import check_joinable

    if is_alive(connection):
        check_joinable(connection, snapshot, holder)
        return
    # The server ended it (idle_session_timeout) while the session waited for the table's lock.
    probe_name = application_name(name, " snapshot probe")
    with closing(open_connection(parameters, application_name=probe_name, autocommit=True)) as probe:
        check_joinable(probe, snapshot, holder)


def worker_settings(config: TableConfig, name: str, inherited: Mapping[str, str]) -> SessionSettings:
    """Return the settings of the workers' sessions.

    :param name: application_name of the task's session with the same database.
    :param inherited: settings of that session that the workers' sessions need too.
    """
    from burla_provider.database.settings import SessionSettings

    return SessionSettings(
        name=name,
        statement_timeout=config.statement_timeout,
        lock_timeout=config.lock_timeout,
        idle_in_transaction_session_timeout=config.idle_in_transaction_session_timeout,
        inherited=inherited,
    )


def resolve(connection: psycopg.Connection[Any], parameter: str, name: str) -> tuple[str, str]:
    """Return schema and name of a table that need not exist yet.

    Without a schema, it is the table that a query of this name finds, or else a new one in the schema where the server
    would create it.

    :raises InvalidParameterError: if ``name`` is not a valid table name, or needs a schema.
    """
    import psycopg

    try:
        with connection.transaction():
            row = connection.execute("SELECT parse_ident(%s)", [name]).fetchone()
    except psycopg.DataError:
        row = None
    if row is None or len(row[0]) > 2:
        raise InvalidParameterError(parameter, f"{name!r} is not a valid table name.", 'Write "schema.table".')
    *schemas, table = row[0]
    if not schemas:
        [(schema,)] = connection.execute(_SCHEMA_OF, [name]).fetchall()
        if schema is None:
            problem = f"{name!r} has no schema, and the search_path of the session has none that exists."
            raise InvalidParameterError(parameter, problem, 'Write "schema.table".')
        schemas = [schema]
    return schemas[0], table


def not_covered(foreign: Collection[tuple[str, str]], *, by_partition: bool = False) -> InvalidParameterError:
    """Return the error for rows that the snapshot does not cover.

    :param by_partition: whether the job reads only the partitions that are in its window.
    """
    window = ", or a window without these rows" if by_partition else ""
    names = ", ".join(".".join(name) for name in sorted(foreign))
    return InvalidParameterError(
        "consistency",
        f"rows are in the foreign table {names}, whose server does not share the snapshot.",
        f'Use consistency="none", where every range has its own snapshot{window}.',
    )


def reconnect(parameters: Mapping[str, str], name: str) -> psycopg.Connection[Any]:
    """Return a new connection. Wait for a server that is starting."""
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    from burla_provider.database.connect import open_connection
    from burla_provider.database.errors import is_transient

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(_RECONNECT_SECONDS),
        reraise=True,
    )
    return retrying(open_connection, parameters, application_name=name, autocommit=True)
