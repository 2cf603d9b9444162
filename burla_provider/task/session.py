"""The task's own session with the database: it plans, and holds the moment at which all ranges are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from burla_provider.exceptions import InvalidParameterError
from burla_provider.hooks.postgres import read_libpq_parameters

if TYPE_CHECKING:
    import psycopg

    from burla_provider.database.leaves import Leaves
    from burla_provider.database.snapshot import Snapshot

Consistency = Literal["snapshot", "none"]
PATIENCE = 60
"""Seconds to wait for a server that is just starting again."""


@dataclass(frozen=True)
class TaskSession:
    """The task's own session with the database.

    :param name: what the server shows as the application's name.
    :param parameters: how workers connect; secrets among them.
    :param schema: of the table.
    :param table: its name.
    :param connection: for planning; inside the snapshot's transaction where there is one.
    :param snapshot: what workers join; None: every range is read at a moment of its own.
    :param state_before: the table's state (``state_before``) just before that moment.
    :param foreign: schema and name of the partitions that the snapshot does not cover.
    :param columns: names of the table's columns, in its order.
    :param partitioned: it is a partitioned table.
    :param leaves: what holds its rows in the snapshot, by oid.
    :param settings: of the session, for the workers' sessions to have too.
    """

    name: str
    parameters: Mapping[str, str] = field(repr=False)
    schema: str
    table: str
    connection: psycopg.Connection[Any]
    snapshot: Snapshot | None = None
    state_before: dict[str, str] | None = None
    foreign: frozenset[tuple[str, str]] = frozenset()
    columns: tuple[str, ...] = ()
    partitioned: bool = False
    leaves: Leaves = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, parameter: str, name: str) -> tuple[str, str]:
        """Schema and name of a table that need not exist yet, as SQL names it.

        :raises InvalidParameterError: that is no name.
        """
        import psycopg

        try:
            with self.connection.transaction():
                row = self.connection.execute("SELECT parse_ident(%s), current_schema()", [name]).fetchone()
        except psycopg.DataError:
            row = None
        if row is None or len(row[0]) > 2:
            raise InvalidParameterError(parameter, f"{name!r} is no name of a table.", 'Write "schema.table".')
        *schema, table = row[0]
        return (schema[0] if schema else row[1]), table

    @contextmanager
    def final_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """A session for the last steps: this one, or, if the server has ended it while it was idle, another one.

        Where there is a snapshot there is no other: what is asked in it is to be of its moment.
        """
        from burla_provider.database.connect import is_alive

        if self.snapshot is not None or is_alive(self.connection):
            yield self.connection
            return
        with _reconnect(self.parameters, self.name) as connection:
            yield connection

    def find_doubt(self, before: dict[str, str] | None, *, wait: bool) -> str:
        """Return why the table may have changed since ``before`` was its state; "" if it provably has not.

        :param before: the ``state_before`` of an earlier moment.
        :param wait: wait for sessions that may still have to report what they wrote.
        """
        from burla_provider.database.table_state import PATIENCE, find_doubt

        return find_doubt(self.connection, self.schema, self.table, before, PATIENCE if wait else 0)

    def check_leaves(self) -> None:
        """Check that the partitions or children that ranges have read were those of the snapshot.

        :raises PartitionsChangedError: they were not.
        """
        from burla_provider.database.leaves import check_leaves, read_leaves

        with _reconnect(self.parameters, self.name) as connection:
            now = read_leaves(connection, self.schema, self.table)
        check_leaves(self.connection, self.leaves, now)


@contextmanager
def open_session(postgres_conn_id: str, table: str, name: str, consistency: Consistency) -> Iterator[TaskSession]:
    """Connects as the Airflow connection says, and gives everything up at the end, whatever happens.

    :param table: as SQL names it.
    :param name: what ``pg_stat_activity`` shows.
    :raises InvalidParameterError: there is no such table, it may not be read, or a snapshot of it cannot be shared.
    """
    from burla_provider.database.connect import open_connection
    from burla_provider.database.leaves import read_leaves
    from burla_provider.database.settings import inherited_settings
    from burla_provider.database.snapshot import held_snapshot
    from burla_provider.database.table_state import state_before
    from burla_provider.ranges.catalog import read_facts
    from burla_provider.ranges.planner_connection import PlannerConnection

    parameters = read_libpq_parameters(postgres_conn_id)
    with open_connection(parameters, application_name=name, autocommit=True) as connection:
        settings = inherited_settings(connection)
        facts = read_facts(PlannerConnection(connection), table)
        schema, table = facts.schema, facts.table
        shape: Any = {
            "columns": tuple(column.name for column in facts.columns),
            "partitioned": facts.kind == "p",
            "settings": settings,
        }
        if consistency == "none":
            yield TaskSession(name, parameters, schema, table, connection, **shape)
            return
        if facts.kind == "f":
            raise not_covered({(schema, table)})
        foreign = frozenset((leaf.schema, leaf.name) for leaf in facts.leaves if leaf.kind == "f")
        state = state_before(connection, schema, table)
    with held_snapshot(parameters, schema, table, name=name) as held:
        shape["leaves"] = read_leaves(held.connection, schema, table)
        yield TaskSession(name, parameters, schema, table, held.connection, held.snapshot, state, foreign, **shape)


def not_covered(foreign: Collection[tuple[str, str]]) -> InvalidParameterError:
    """The error for tables whose rows would not be read at the snapshot's moment."""
    names = ", ".join(".".join(name) for name in sorted(foreign))
    return InvalidParameterError(
        "consistency",
        f"rows are in the foreign table {names}, whose server does not share the snapshot.",
        'Give consistency="none" (every range is read at its own moment), or a window without them.',
    )


def _reconnect(parameters: Mapping[str, str], name: str) -> psycopg.Connection[Any]:
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    from burla_provider.database.connect import open_connection
    from burla_provider.database.errors import is_transient

    retrying = Retrying(
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(PATIENCE),
        reraise=True,
    )
    return retrying(open_connection, parameters, application_name=name, autocommit=True)


def render(connection: psycopg.Connection[Any], where: str, parameters: Any) -> str:
    """The condition with its parameters in it, quoted by psycopg: from here on it is SQL and nothing else.

    :raises InvalidParameterError: placeholders and parameters do not match.
    """
    import psycopg

    try:
        return psycopg.ClientCursor(connection).mogrify(where, parameters)
    except (TypeError, psycopg.ProgrammingError, psycopg.DataError) as error:
        raise InvalidParameterError(
            "parameters", f"they do not fit the placeholders of where: {error}.", "Use %s or %(name)s, and %% for a %."
        ) from None
