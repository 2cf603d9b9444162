"""Read the libpq parameters of an Airflow Postgres connection, with which workers connect."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from burla_provider.exceptions import InvalidParameterError


def read_libpq_parameters(postgres_conn_id: str) -> dict[str, str]:
    """Return the libpq parameters with which Airflow's Postgres hook connects.

    It opens a connection with the hook and closes it, so that the parameters include TLS settings, options, timeouts
    and IAM or Azure tokens. The hook's ``get_uri()`` omits them.

    :returns: libpq parameters, secrets included. Do not print them.
    :raises AirflowNotFoundException: if the connection does not exist.
    :raises InvalidParameterError: if the server refuses the connection.
    :raises psycopg.OperationalError: if the server cannot be reached.
    """
    import psycopg

    from burla_provider.database.connect import connection_parameters

    with closing(_connect(postgres_conn_id)) as connection:
        if isinstance(connection, psycopg.Connection):
            return connection_parameters(connection)
        parameters = _psycopg2_parameters(connection)
    with psycopg.connect(**parameters) as reopened:
        return connection_parameters(reopened)


def _connect(postgres_conn_id: str) -> Any:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from burla_provider.database.errors import is_refused

    hook = PostgresHook(postgres_conn_id=postgres_conn_id)
    try:
        return hook.get_conn()
    except Exception as error:
        # The hook uses psycopg or psycopg2.
        if type(error).__name__ != "OperationalError" or not is_refused(str(error)):
            raise
        problem = f"the server refused the connection {postgres_conn_id!r}: {str(error).strip()}."
        advice = "Check its host, database, login and password."
        raise InvalidParameterError("postgres_conn_id", problem, advice) from None


def _psycopg2_parameters(connection: Any) -> dict[str, Any]:
    # The hook opens psycopg2 connections if Airflow runs on SQLAlchemy 1.4. If its libpq is newer than psycopg's, it
    # reports parameters, with their defaults, that psycopg's libpq does not know.
    from psycopg import pq

    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    parameters = {name: value for name, value in connection.info.dsn_parameters.items() if name in known}
    return {**parameters, "password": connection.info.password or ""}
