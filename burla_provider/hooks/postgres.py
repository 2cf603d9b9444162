"""Read the libpq parameters of an Airflow Postgres connection, with which workers connect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import psycopg


@contextmanager
def open_hook_connection(postgres_conn_id: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect as Airflow's Postgres hook does, and close the connection at the end.

    So TLS settings, options, timeouts and IAM or Azure tokens are what the hook makes of them (its ``get_uri()`` drops
    them). Where the hook uses psycopg2, its connection is closed and opened again with psycopg.

    :returns: an autocommit connection.
    :raises AirflowNotFoundException: there is no such Airflow connection.
    :raises InvalidParameterError: the server refuses the login.
    :raises psycopg.OperationalError: the server cannot be reached.
    """
    import psycopg

    with closing(_connect(postgres_conn_id)) as connection:
        if isinstance(connection, psycopg.Connection):
            connection.autocommit = True
            yield connection
            return
        given = _psycopg2_parameters(connection)
    with closing(psycopg.connect(**given, autocommit=True)) as reopened:
        yield reopened


def _connect(postgres_conn_id: str) -> Any:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from burla_provider.database.errors import is_login_rejected

    hook = PostgresHook(postgres_conn_id=postgres_conn_id)
    try:
        return hook.get_conn()
    except Exception as error:
        # The hook uses psycopg or psycopg2.
        if type(error).__name__ != "OperationalError" or not is_login_rejected(str(error)):
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
