"""The steps from Airflow to the workers, and the check of each. A check uses the same functions as a task."""

from __future__ import annotations

import argparse
import pickle
import platform
import sys
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import airflow
import psycopg
from airflow.configuration import ensure_secrets_loaded
from airflow.plugins_manager import get_plugin_info
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
from airflow.providers_manager import ProvidersManager

from burla_provider.database.connect import connection_parameters
from burla_provider.database.connection_limit import find_connection_limit
from burla_provider.database.settings import inherited_settings
from burla_provider.exceptions import BurlaProviderError
from burla_provider.hooks.burla import BurlaHook, read_extra
from burla_provider.hooks.postgres import open_hook_connection
from burla_provider.jobs.cluster_api import Nodes, check_cluster, read_nodes, read_version, with_saved_login
from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import Engine, ItemCrashed, ItemSucceeded, Job, JobOptions
from burla_provider.jobs.requirements import requirements_for
from burla_provider.ranges.catalog import find_table
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.task.job_runner import check_reachable
from burla_provider.task.session import open_session
from burla_provider.task.table_job_config import TableJobConfig
from burla_provider.worker.map_task import MapTask
from burla_provider.worker.outcome import Outcome, decode, join_sentences
from burla_provider.worker.probe import read_python_version, read_server_version

_QUEUE_SECONDS = 30.0
"""Seconds to wait for a node that was free a moment ago."""

_ADD_POSTGRES = (
    "--conn-type postgres --conn-host HOST --conn-port 5432 --conn-schema DATABASE --conn-login ROLE"
    " --conn-password PASSWORD"
)
_ADD_BURLA = (
    "--conn-type burla --conn-host URL --conn-port 443 --conn-login EMAIL --conn-password TOKEN, or, without a cluster,"
    ' --conn-type burla --conn-port 443 --conn-extra \'{"engine": "local"}\''
)
_CHECK_ADDRESS_OF_WORKER = (
    "Workers connect to this host and port from their own machines: check that the name means the same there, the"
    " server's listen_addresses and pg_hba.conf, and the firewall."
)
_NO_SNAPSHOT = 'Or use consistency="none", where every range has its own snapshot.'

_MISSING_PRIVILEGES = """
    SELECT current_user, array_agg(p) FILTER (WHERE NOT has_table_privilege(%s::text, p)),
           current_setting('transaction_read_only')::bool
    FROM unnest(%s::text[]) AS p
"""


@dataclass
class Checks:
    """The checks, and what they have found so far.

    A check returns a text, or None if the engine does not have this step. It raises if the check fails.

    :param options: of the command.
    :param stack: closes the database connection.
    :ivar secrets: parameters whose secrets no line may contain.
    """

    options: argparse.Namespace
    stack: ExitStack
    secrets: list[Mapping[str, str]] = field(default_factory=list, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)
    connection: psycopg.Connection[Any] = field(init=False)
    hook: BurlaHook = field(init=False)
    engine: Engine = field(init=False)
    nodes: Nodes = field(init=False)
    outcome: Outcome = field(init=False)

    def provider(self) -> str:
        """Find the provider, its connection type and its plugin, as Airflow does."""
        manager: Any = ProvidersManager()  # type: ignore[no-untyped-call]
        found = manager.providers.get("airflow-provider-burla")
        if found is None or "burla" not in manager.hooks:
            problem = f"Airflow {airflow.__version__} does not find airflow-provider-burla."
            raise BurlaProviderError(f"{problem} Install it with pip for {sys.executable}.")
        if "burla" not in [plugin["name"] for plugin in get_plugin_info(["name"])]:
            raise BurlaProviderError("Airflow does not load the plugin. `airflow plugins` shows the error.")
        return f"{found.version} in Airflow {airflow.__version__}, with its connection type and its plugin"

    def postgres_connection(self) -> str:
        """Read the Postgres connection."""
        return self._read_connection(self.options.postgres_conn_id, "postgres", _ADD_POSTGRES)

    def burla_connection(self) -> str:
        """Read the Burla connection, and check its fields."""
        text = self._read_connection(self.options.burla_conn_id, "burla", _ADD_BURLA)
        self.hook = BurlaHook(self.options.burla_conn_id)
        return f"{text}, engine {self.hook.engine.name}"

    def database(self) -> str:
        """Connect to the database from here."""
        self.connection = self.stack.enter_context(open_hook_connection(self.options.postgres_conn_id))
        self.parameters = connection_parameters(self.connection)
        self.secrets.append(self.parameters)
        self.settings = inherited_settings(self.connection)
        info = self.connection.info
        server = f"PostgreSQL {info.parameter_status('server_version')} at {info.host}:{info.port}"
        return f"{server}, database {info.dbname}, role {info.user}"

    def read(self) -> str:
        """Check that the role can read the table."""
        found = find_table(PlannerConnection(self.connection), self.options.table)
        return f"the role may SELECT from {found.schema}.{found.name}"

    def write(self) -> str:
        """Check that the role can write to the table."""
        table, wanted = self.options.table, self.options.write
        [(role, missing, is_read_only)] = self.connection.execute(_MISSING_PRIVILEGES, [table, list(wanted)]).fetchall()
        if is_read_only:
            raise BurlaProviderError("The session is read-only. Use the primary, or default_transaction_read_only=off.")
        if missing:
            privileges = ", ".join(missing)
            raise BurlaProviderError(f"Role {role} cannot {privileges} in {table}. GRANT {privileges} on it.")
        return f"the role may {', '.join(wanted)} in {table}"

    def connection_limit(self) -> str:
        """Find out how many connections workers may use."""
        return str(find_connection_limit(self.connection))

    def snapshot(self) -> str:
        """Export a snapshot, and join it in a second session."""
        self.connection.close()  # a task has two connections before its first range, not three
        table = self.options.table or "pg_catalog.pg_class"
        with open_session(self.options.postgres_conn_id, table, "burla_provider.doctor", "snapshot"):
            return "exported, and joined by a second session"

    def cluster(self) -> str:
        """Ask the cluster for its version."""
        self.engine = with_saved_login(self.hook.engine)
        self.secrets.append({"password": self.engine.token or ""})
        if self.engine.is_local or self.engine.url is None:
            return check_cluster(self.engine)
        return f"Burla {read_version(self.engine)} at {self.engine.url}"

    def login(self) -> str | None:
        """Ask the cluster for its nodes, which needs a login."""
        if self.engine.is_local:
            return None
        self.nodes = read_nodes(self.engine)
        return f"accepted for {self.engine.email}" if self.engine.email else "none is required"

    def node(self) -> str | None:
        """Check that a node is free."""
        if self.engine.is_local:
            return None
        if not self.nodes.ready and not self.options.grow:
            advice = "Start a node, wait until one is free, or use grow=True (here: --grow)."
            raise BurlaProviderError(f"{self.nodes}. {advice}")
        return str(self.nodes)

    def versions(self) -> str:
        """Run a job without packages: the client has the right burla, and the workers have the right Python."""
        on_worker = self._run(read_python_version, {}).decode()
        return f"Python {platform.python_version()} here, {on_worker} on a worker"

    def packages(self) -> str:
        """Run a job with packages, whose function connects to the database."""
        names = [*TableJobConfig.worker_requirements, *self.options.requirements]
        pins = requirements_for(self.engine, names)
        read = partial(read_server_version, parameters=dict(self.parameters), settings=dict(self.settings))
        self.outcome = decode(self._run(MapTask(read), pins))
        return f"a worker has {', '.join(names)}"

    def database_from_worker(self) -> str:
        """Check whether the worker could connect."""
        host, port = self.parameters["host"], self.parameters["port"]
        check_reachable(self.engine, host, self.options.postgres_conn_id)
        if self.outcome.failure is not None:
            failure = self.outcome.failure
            raise BurlaProviderError(join_sentences(failure.message, failure.advice, _CHECK_ADDRESS_OF_WORKER))
        return f"PostgreSQL {self.outcome.value} at {host}:{port}"

    def _read_connection(self, conn_id: str, conn_type: str, options: str) -> str:
        try:
            connection = BaseHook.get_connection(conn_id)
        except AirflowNotFoundException:
            _check_backends(conn_id)
            problem = "Airflow does not have it, neither in its database, nor in a secrets backend or the environment."
            raise BurlaProviderError(f"{problem} Add it: airflow connections add {conn_id} {options}") from None
        extra = {name: str(value) for name, value in read_extra(connection).items()}
        self.secrets.append({**extra, "password": connection.password or ""})
        if connection.conn_type != conn_type:
            problem = f"It is of type {connection.conn_type}, not {conn_type}."
            raise BurlaProviderError(f"{problem} Name another connection, or change the type.")
        return f"of type {conn_type}"

    def _run(self, task: Callable[..., bytes], requirements: Mapping[str, str]) -> bytes:
        """Run a job of one call, and return its result."""
        job = Job(
            name=f"burla-doctor-{uuid.uuid4().hex[:12]}",
            pickled_callable=pickle_for_workers(task),
            items={0: pickle.dumps(None)},
            options=JobOptions(max_parallelism=1, grow=self.options.grow),
            requirements=requirements,
        )
        result = b""
        with closing(self.hook.run(job, queue_timeout=_QUEUE_SECONDS)) as events:
            for event in events:
                if isinstance(event, ItemCrashed):
                    raise BurlaProviderError(event.error.splitlines()[-1])
                if isinstance(event, ItemSucceeded):
                    result = event.result
        return result


def _check_backends(conn_id: str) -> None:
    """Raise if a place where Airflow looks for the connection cannot be read. Only Airflow's debug log says it."""
    for backend in ensure_secrets_loaded():
        try:
            backend.get_connection(conn_id=conn_id)
        except Exception as error:
            # The text of the error may have a part of the password.
            problem = f"Airflow cannot read it: {type(error).__name__} in {type(backend).__name__}."
            advice = "Correct the value, or Airflow's fernet_key and sql_alchemy_conn, or run `airflow db migrate`."
            raise BurlaProviderError(f"{problem} {advice}") from None


Check = Callable[[Checks], str | None]


@dataclass(frozen=True)
class Step:
    """One check of the doctor.

    :param title: its name in the output.
    :param needs: the checks without which this one is skipped.
    :param option: the option with which it is checked; None: always.
    :param remedy: added to errors of other packages, which do not say what to do.
    """

    title: str
    check: Check
    needs: tuple[Check, ...] = ()
    option: str | None = None
    remedy: str = ""


STEPS = (
    Step("Provider", Checks.provider),
    Step("Connection {postgres_conn_id}", Checks.postgres_connection),
    Step("Connection {burla_conn_id}", Checks.burla_connection),
    Step("Database from here", Checks.database, (Checks.postgres_connection,)),
    Step("Read {table}", Checks.read, (Checks.database,), option="table"),
    Step("Write {table}", Checks.write, (Checks.read,), option="write"),
    Step("Connection limit", Checks.connection_limit, (Checks.database,)),
    Step("Snapshot", Checks.snapshot, (Checks.connection_limit, Checks.read), remedy=_NO_SNAPSHOT),
    Step("Cluster", Checks.cluster, (Checks.burla_connection,)),
    Step("Login", Checks.login, (Checks.cluster,)),
    Step("Free node", Checks.node, (Checks.login,)),
    Step("Start a job", Checks.versions, (Checks.node,)),
    Step("Packages", Checks.packages, (Checks.versions,)),
    Step("Database from a worker", Checks.database_from_worker, (Checks.connection_limit, Checks.packages)),
)
"""All steps, in the order in which they are checked."""
