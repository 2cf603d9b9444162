"""From an ordinary Airflow Postgres connection to what a worker needs to connect."""

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
