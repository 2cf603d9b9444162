"""From an Airflow connection of type ``burla`` to a running job."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.providers.common.compat.sdk import BaseHook

from burla_provider.exceptions import BurlaProviderError, InvalidParameterError
from burla_provider.hooks.connection_form import CONNECTION_FIELDS, FIELD_BEHAVIOUR
from burla_provider.jobs.job import Engine, Job, JobEvent

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Connection

ENGINES = ("burla", "local")


class BurlaHook(BaseHook):
    """A Burla cluster (or the local engine), as an Airflow connection describes it.

    The connection's host is the URL of the cluster's head, login the user's e-mail, password the auth token. Its extra
    may hold ``engine`` ("burla", the default, or "local"), ``project_id``, ``python`` (the interpreter that has burla,
    where Airflow's own has not) and ``telemetry`` (false). Without a host, Burla looks itself: in the saved login, and
    then in the cloud account that is active on the task's machine. The head that it may start boots VMs with that
    account's credentials.

    :param burla_conn_id: id of that connection.
    :param python: interpreter of the client process, in place of the connection's.
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
        """Where jobs of this connection run.

        :raises AirflowNotFoundException: there is no such connection.
        :raises InvalidParameterError: the connection holds something that cannot be used.
        """
        engine = read_engine(self.get_connection(self.burla_conn_id))
        return replace(engine, python=self.python) if self.python else engine

    def get_conn(self) -> Engine:
        return self.engine

    def run(self, job: Job, *, queue_timeout: float = 600, job_retries: int = 2) -> Generator[JobEvent, None, None]:
        """Run a job and yield what happens, answers as they come. Closing the generator ends the job.

        :param queue_timeout: seconds to wait for a node while all are taken or none is up.
        :param job_retries: how often what a lost job left undone is run again.
        :raises JobError: see ``exceptions``.
        """
        from burla_provider.jobs.runner import run_job

        return run_job(job, self.engine, queue_timeout=queue_timeout, job_retries=job_retries)

    def test_connection(self) -> tuple[bool, str]:
        """Ask the cluster's head how it is, and say it in a sentence. Quick, and without burla."""
        from burla_provider.jobs.cluster_api import check_head

        try:
            return True, check_head(self.engine)
        except BurlaProviderError as error:
            return False, str(error)

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The fields of the connection form, for Airflow 3.1; later ones read them from the provider info."""
        from burla_provider.hooks.connection_form import form_widgets

        return form_widgets()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Labels and placeholders of the connection form, for Airflow 3.1."""
        return {name.replace("-", "_"): value for name, value in FIELD_BEHAVIOUR.items()}


def read_engine(connection: Connection) -> Engine:
    """What a ``burla`` connection says, checked.

    :raises InvalidParameterError: naming the field of the connection.
    """
    extra = connection.extra_dejson
    unknown = sorted(set(extra) - set(CONNECTION_FIELDS))
    if unknown:
        raise _invalid(
            connection,
            "extra",
            f"unknown field {unknown[0]!r}.",
            f"The fields are {', '.join(CONNECTION_FIELDS)}.",
        )
    name = _text(connection, "engine") or "burla"
    if name not in ENGINES:
        raise _invalid(connection, "engine", f"{name!r} is no engine.", 'Use "burla" or "local".')
    email, token = _pasted(connection, "login"), _pasted(connection, "password")
    if bool(email) != bool(token):
        present, missing = ("login", "password") if email else ("password", "login")
        raise _invalid(
            connection,
            missing,
            f"there is a {present} but no {missing}.",
            "Give the Burla user's e-mail as login and the auth token as password, or neither.",
        )
    return Engine(
        name="local" if name == "local" else "burla",
        url=_head_url(connection),
        email=email,
        token=token,
        project_id=_text(connection, "project_id"),
        python=_text(connection, "python"),
        telemetry=_switch(connection, "telemetry"),
    )


def _invalid(connection: Connection, field: str, problem: str, advice: str) -> InvalidParameterError:
    return InvalidParameterError(f"connection {connection.conn_id!r}, {field}", problem, advice)


def _pasted(connection: Connection, field: str) -> str | None:
    value = (getattr(connection, field) or "").strip()
    if not value.isprintable():
        # Not the value: it may be the token.
        problem = "it holds a line break, or another character that cannot be printed."
        raise _invalid(connection, field, problem, "Copy it again.")
    return value or None


def _text(connection: Connection, field: str) -> str | None:
    value = connection.extra_dejson.get(field)
    if value is not None and not (isinstance(value, str) or type(value) is int):
        raise _invalid(connection, field, f"{value!r} is no text.", "Quote it.")
    return str(value or "") or None


def _switch(connection: Connection, field: str) -> bool:
    # In a connection's URI everything is text.
    value = connection.extra_dejson.get(field)
    word = value.lower() if isinstance(value, str) else value
    if word in (None, "", "false", "0", 0):
        return False
    if word in ("true", "1", 1):
        return True
    raise _invalid(connection, field, f"{value!r} is unknown.", "Use true or false.")


def _head_url(connection: Connection) -> str | None:
    if not connection.host:
        return None
    # A connection given as a URI keeps the head's scheme in "schema" and its port apart.
    host = connection.host.rstrip("/")
    url = urlsplit(host if "://" in host else f"{connection.schema or 'https'}://{host}")
    if connection.port and url.port is None:
        url = url._replace(netloc=f"{url.netloc}:{connection.port}")
    return url.geturl()
