"""A worker's connection to a dead server."""

import psycopg

from burla_provider.worker.connection import CachedConnection
from tests.support.postgres import running_server


def test_a_connection_to_a_dead_server_is_closed():
    cached = CachedConnection()
    with running_server() as server:
        connection = cached.get(lambda: psycopg.connect(server.dsn))
        connection.pgconn.send_query(b"SELECT pg_sleep(60)")
    cached.close()
    assert connection.closed
