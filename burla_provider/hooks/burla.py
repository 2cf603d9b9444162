"""The hook for Airflow connections of type ``burla``."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook

from burla_provider.exceptions import BurlaProviderError, InvalidParameterError
from burla_provider.hooks.connection_form import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from burla_provider.jobs.job import (
    DEFAULT_JOB_RETRIES,
    DEFAULT_QUEUE_TIMEOUT,
    ENGINES,
    Engine,
    Job,
    JobEvent,
    split_url,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

    from burla_provider.jobs.client_process import ClientProcess
    from burla_provider.jobs.cluster_api import Nodes


class BurlaHook(BaseHook):
    """Run jobs on the Burla cluster (or the local engine) of an Airflow connection.

    The connection's host is the URL of the cluster, login the user's e-mail, password the auth token. The extra may
    contain ``engine`` ("burla", the default, or "local"), ``project_id``, ``python`` (an interpreter that has burla)
    and ``telemetry`` (default false). Without a host, Burla uses the saved login, or else looks for
    a cluster in the cloud account that is active on the task's machine. If there is none, Burla may start one, which
    boots VMs with that account's credentials.

    :param burla_conn_id: id of the connection.
    :param python: interpreter of the client process; None: the interpreter that the connection names.
    """

    conn_name_attr = "burla_conn_id"
    default_conn_name = "burla_default"
    conn_type = "burla"
    hook_name = "Burla"

    def __init__(self, burla_conn_id: str = default_conn_name, *, python: str | None = None) -> None:
        super().__init__()
        self.burla_conn_id = burla_conn_id
        self.python = python

    @cached_property
    def engine(self) -> Engine:
        """The engine of the connection.

        :raises AirflowNotFoundException: if the connection does not exist.
        :raises InvalidParameterError: if the connection contains a value that cannot be used.
        """
        try:
            engine = read_engine(self.get_connection(self.burla_conn_id))
        except InvalidParameterError as error:
            raise error.of_connection(self.burla_conn_id) from None
        if self.python:
            return replace(engine, python=self.python, python_parameter="burla_python")
        return replace(engine, python_parameter=f"connection {self.burla_conn_id!r}, python")

    def get_conn(self) -> Engine:
        """Return the engine of the connection."""
        return self.engine

    def check_login(self) -> Nodes | None:
        """Check that the cluster responds, and accepts the login. Return its nodes within 8 seconds.

        Nothing is checked on the local engine, or if the connection has no host or no login.

        :returns: None if nothing was checked.
        :raises InvalidParameterError: if the host cannot be the URL of a cluster.
        :raises ClusterUnauthorizedError: if the cluster refuses the login.
        :raises ClusterUnreachableError: if no cluster responds.
        """
        from burla_provider.jobs.cluster_api import check_login

        try:
            return check_login(self.engine)
        except InvalidParameterError as error:
            raise error.of_connection(self.burla_conn_id) from None

    @contextmanager
    def open_client(self, modules: Sequence[str] = ()) -> Iterator[ClientProcess]:
        """Start a client process, which prepares itself for ``run`` while the caller does other things.

        At the end, the process and all that it started are ended.

        :param modules: modules that every worker process imports. The local engine imports them once.
        """
        from burla_provider.jobs.runner import start_client

        client = start_client(self.engine, modules)
        try:
            yield client
        finally:
            client.end()

    def run(
        self,
        job: Job,
        *,
        client: ClientProcess | None = None,
        queue_timeout: float = DEFAULT_QUEUE_TIMEOUT,
        job_retries: int = DEFAULT_JOB_RETRIES,
    ) -> Generator[JobEvent]:
        """Run a job and yield its events, results as they arrive. Closing the generator cancels the job.

        :param client: a client that was opened before. It runs one job.
        :param queue_timeout: seconds to wait for a free node.
        :param job_retries: how often the missing items of a lost job are run again.
        :raises JobError: see ``exceptions``.
        """
        from burla_provider.jobs.runner import run_job

        return run_job(job, self.engine, client=client, queue_timeout=queue_timeout, job_retries=job_retries)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the cluster can be used, and its state or the error as a text."""
        from burla_provider.jobs.cluster_api import check_cluster

        try:
            # Errors name the field only: Airflow tests a copy of the connection, which has another id.
            return True, check_cluster(read_engine(self.get_connection(self.burla_conn_id)))
        except BurlaProviderError as error:
            return False, str(error)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the fields of the connection form. Airflow 3.2 and later read them from the provider info."""
        from burla_provider.hooks.connection_form import form_widgets

        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return labels and placeholders of the connection form, for Airflow 3.1."""
        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def read_engine(connection: Connection) -> Engine:
    """Return the engine that a ``burla`` connection describes.

    :raises InvalidParameterError: if a field of the connection cannot be used.
    """
    extra = read_extra(connection)
    unknown = sorted(set(extra) - set(CONNECTION_FIELDS))
    if unknown:
        problem = f"unknown field {unknown[0]!r}."
        raise InvalidParameterError("extra", problem, f"Use {', '.join(CONNECTION_FIELDS)}.")
    given_name = _read_text(connection, "engine") or "burla"
    name = next((name for name in ENGINES if name == given_name), None)
    if name is None:
        raise InvalidParameterError(
            "engine", f"unknown engine {given_name!r}.", f"Use {' or '.join(map(repr, ENGINES))}."
        )
    email, token = _read_stripped(connection, "login"), _read_stripped(connection, "password")
    if bool(email) != bool(token):
        present, missing = ("login", "password") if email else ("password", "login")
        problem = f"must be set, because {present} is set."
        advice = "Use the Burla user's e-mail as login and the auth token as password, or set neither."
        raise InvalidParameterError(missing, problem, advice)
    return Engine(
        name=name,
        url=_cluster_url(connection),
        email=email,
        token=token,
        project_id=_read_text(connection, "project_id"),
        python=_read_text(connection, "python"),
        telemetry=_read_bool(connection, "telemetry"),
    )


def read_extra(connection: Connection) -> dict[str, Any]:
    """Return the extra of a connection. Airflow itself ignores an extra that is not JSON.

    :raises InvalidParameterError: if it is not a JSON object.
    """
    try:
        is_object = isinstance(json.loads(connection.extra or "{}"), dict)
    except ValueError:
        is_object = False
    if not is_object:
        # The message does not show the value, which may be a secret.
        raise InvalidParameterError("extra", "is not a JSON object.", 'Write it as in {"name": "value"}.')
    return connection.extra_dejson


def _read_stripped(connection: Connection, field: str) -> str | None:
    value = (getattr(connection, field) or "").strip()
    if not value.isprintable():
        # The message does not show the value, which may be the token.
        problem = "contains a line break or another character that cannot be printed."
        raise InvalidParameterError(field, problem, "Copy it again.")
    return value or None


def _read_text(connection: Connection, field: str) -> str | None:
    value = connection.extra_dejson.get(field)
    if value is not None and not (isinstance(value, str) or type(value) is int):
        raise InvalidParameterError(field, f"must be a string, got {value!r}.", "Put it in quotes.")
    return str(value or "") or None


def _read_bool(connection: Connection, field: str) -> bool:
    # All fields in a connection's URI are text.
    value = connection.extra_dejson.get(field)
    normalized = value.lower() if isinstance(value, str) else value
    if normalized in (None, "", "false", "0", 0):
        return False
    if normalized in ("true", "1", 1):
        return True
    raise InvalidParameterError(field, f"must be a boolean, got {value!r}.", "Use true or false.")


def _cluster_url(connection: Connection) -> str | None:
    host = (_read_stripped(connection, "host") or "").rstrip("/")
    if not host:
        return None
    # A connection that is given as a URI has the URL's scheme in "schema" and its port in "port".
    url = split_url(host if "://" in host else f"{connection.schema or 'https'}://{host}")
    if connection.port and url.port is None:
        if not 0 < connection.port < 2**16:
            problem = f"must be a number from 1 to 65535, got {connection.port}."
            raise InvalidParameterError("port", problem, "Leave it out if the cluster's URL has no port.")
        url = url._replace(netloc=f"{url.netloc}:{connection.port}")
    return url.geturl()
