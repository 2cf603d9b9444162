"""From an ordinary Airflow Postgres connection to what a worker needs to connect."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from burla_provider.exceptions import InvalidParameterError


def read_parameters(postgres_conn_id: str) -> dict[str, str]:
    """The libpq parameters of an Airflow connection, as the Postgres hook itself would connect.

    One connection is opened and closed for it, so that TLS settings, options, timeouts and IAM or Azure tokens are what
    the hook makes of them (its ``get_uri()`` drops them all).

    :returns: libpq parameters, secrets among them: never to be printed.
    :raises AirflowNotFoundException: there is no such connection.
    :raises InvalidParameterError: the server does not let us in.
    :raises psycopg.OperationalError: there is no connection to the server.
    """
    import psycopg

    from burla_provider.database.connect import connection_parameters

    with closing(_connect(postgres_conn_id)) as connection:
        if isinstance(connection, psycopg.Connection):
            return connection_parameters(connection)
        given = _psycopg2_parameters(connection)
    with psycopg.connect(**given) as reopened:
        return connection_parameters(reopened)


def _connect(postgres_conn_id: str) -> Any:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from burla_provider.database.errors import is_refused

    hook = PostgresHook(postgres_conn_id=postgres_conn_id)
    try:
        return hook.get_conn()
    except Exception as error:
        # Of psycopg or psycopg2: the hook decides.
        if type(error).__name__ != "OperationalError" or not is_refused(str(error)):
            raise
        problem = f"the server refused the connection {postgres_conn_id!r}: {str(error).strip()}."
        advice = "Check its host, database, login and password."
        raise InvalidParameterError("postgres_conn_id", problem, advice) from None


def _psycopg2_parameters(connection: Any) -> dict[str, Any]:
    # What the hook opens where Airflow still runs on SQLAlchemy 1.4. Its libpq may be newer than psycopg's, and lists
    # what psycopg's does not know, with the defaults.
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    given = {name: value for name, value in connection.info.dsn_parameters.items() if name in known}
    return {**given, "password": connection.info.password or ""}
