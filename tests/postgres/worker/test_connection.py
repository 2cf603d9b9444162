"""A worker's connection when the server behind it is gone."""

import psycopg

from burla_provider.worker.connection import CachedConnection
from tests.support.postgres import running_server


def test_a_query_of_a_server_that_is_gone_cannot_be_cancelled_and_the_connection_is_closed_all_the_same():
    cached = CachedConnection()
    with running_server() as server:
        connection = cached.get(lambda: psycopg.connect(server.dsn))
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
    cached.close()
    assert connection.closed
