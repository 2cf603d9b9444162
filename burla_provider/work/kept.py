"""A worker's connection, kept open from range to range."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row


class KeptConnection(threading.local):
    """At most one open connection a thread. It does not travel: a pickled copy starts with none."""

    connection: psycopg.Connection[Any] | None = None

    def __reduce__(self) -> tuple[type[KeptConnection], tuple[()]]:
        return type(self), ()

    def take(self, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """The kept connection, if it is still good, or a new one from ``connect()``."""
        connection = self.connection
        if connection is None or not _is_usable(connection):
            self.close()
            connection = self.connection = connect()
        connection.row_factory = tuple_row  # whatever the last range's code set
        return connection

    def close(self) -> None:
        """Closes what this thread keeps, and has the server stop what it is doing for it."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        # A server that cannot be reached any more is no news: whoever closes has an error of its own to tell.
        with closing(connection), suppress(psycopg.Error):
            if connection.info.transaction_status == TransactionStatus.ACTIVE:
                connection.cancel_safe(timeout=5)


def _is_usable(connection: psycopg.Connection[Any]) -> bool:
    if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    # An idle server has nothing to say, unless it says goodbye. No round trip.
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return not poll.poll(0)
