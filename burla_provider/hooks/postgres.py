"""Read the libpq parameters of an Airflow Postgres connection, with which workers connect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import psycopg

_BAD_VALUE = re.compile(
    r"invalid connection option|bad value for|invalid \S+ value|invalid port number|invalid integer value"
    r"|definition of service|unrecognized configuration parameter|invalid value for parameter"
    r"|unsupported startup parameter"
)
"""Messages about a value of the connection that psycopg, libpq, a pooler or the server cannot use."""
_TLS = re.compile(
    "SSL was required|support SSL|SSL error|certificate|private key|channel binding|authentication method"
)
"""Messages about TLS and the other requirements of the client."""
_CHECK_TLS = "Check sslmode and the other parameters in the extra of the connection {!r}."


@contextmanager
def open_hook_connection(
    postgres_conn_id: str, parameter: str = "postgres_conn_id"
) -> Iterator[psycopg.Connection[Any]]:
    """Connect as Airflow's Postgres hook does, and close the connection at the end.

    The hook sets TLS, options, timeouts and IAM or Azure tokens, which its ``get_uri()`` does not contain. If the hook
    uses psycopg2, its connection is closed and opened again with psycopg.

    :param parameter: the operator parameter that names the connection, for the error.
    :returns: an autocommit connection.
    :raises AirflowNotFoundException: if there is no such Airflow connection.
    :raises InvalidParameterError: if the login is rejected, or the connection has a value that cannot be used.
    :raises psycopg.OperationalError: if the server cannot be reached.
    """
    from burla_provider.database.errors import is_login_rejected

    try:
        connection = _connect(postgres_conn_id)
    except Exception as error:
        # The hook uses psycopg or psycopg2.
        if not {"OperationalError", "ProgrammingError"} & {kind.__name__ for kind in type(error).__mro__}:
            raise
        text = str(error).strip()
        if _BAD_VALUE.search(text):
            problem = f"the connection {postgres_conn_id!r} has a value that cannot be used: {text}."
            raise InvalidParameterError(parameter, problem, "Correct it in its port or extra.") from None
        if not is_login_rejected(text):
            if _TLS.search(text):
                error.add_note(_CHECK_TLS.format(postgres_conn_id))
            elif "FATAL" not in text:  # it is not an answer of the server
                remedy = "the server's listen_addresses, and the firewall."
                error.add_note(f"Check host and port of the connection {postgres_conn_id!r}, {remedy}")
            raise
        problem = f"the login with the connection {postgres_conn_id!r} was rejected: {text}."
        if "no pg_hba.conf entry" in text:
            advice = "Allow this address in the server's pg_hba.conf, and reload the configuration."
        else:
            of_login = "Check its host, database, login and password."
            advice = _CHECK_TLS.format(postgres_conn_id) if _TLS.search(text) else of_login
        raise InvalidParameterError(parameter, problem, advice) from None
    with closing(connection):
        yield connection


def _connect(postgres_conn_id: str) -> psycopg.Connection[Any]:
    import psycopg
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    connection: Any = PostgresHook(postgres_conn_id=postgres_conn_id).get_conn()
    if isinstance(connection, psycopg.Connection):
        connection.autocommit = True
        return connection
    with closing(connection):
        parameters = _psycopg2_parameters(connection)
    return psycopg.connect(**parameters, autocommit=True)


def _psycopg2_parameters(connection: Any) -> dict[str, Any]:
    # The hook opens psycopg2 connections if Airflow runs on SQLAlchemy 1.4. If its libpq is newer than psycopg's, it
    # reports parameters, with their defaults, that psycopg's libpq does not know.
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parameters = {name: value for name, value in connection.info.dsn_parameters.items() if name in known}
    return {**parameters, "password": connection.info.password or ""}
