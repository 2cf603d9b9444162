"""A worker's connection when the server behind it is gone."""

import psycopg

from burla_provider.worker.kept_connection import KeptConnection
from tests.support.postgres import running_server


def test_a_query_of_a_server_that_is_gone_cannot_be_cancelled_and_the_connection_is_closed_all_the_same():
    kept = KeptConnection()
    with running_server() as server:
        connection = kept.take(lambda: psycopg.connect(server.dsn))
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
    kept.close()
    assert connection.closed
