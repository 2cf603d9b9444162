"""A worker's connection, kept open from range to range."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row


class KeptConnection(threading.local):
    """At most one open connection a thread. It does not travel: a pickled copy starts with none.

    :ivar locked: the partitions that its open transaction has locked one by one; None: no transaction is open.
    :ivar is_lent: whether a user's function has had it.
    :ivar is_pooled: whether a pooler stands between.
    :cvar locked_at_most: partitions that one transaction locks: the server's table of locks is limited.
    :cvar cancel_seconds: to have a running query cancelled.
    """

    locked_at_most = 50
    cancel_seconds = 5.0

    connection: psycopg.Connection[Any] | None = None
    locked: set[tuple[str, str]] | None = None
    is_lent = False
    is_pooled = False

    def __reduce__(self) -> tuple[type[KeptConnection], tuple[()]]:
        return type(self), ()

    def take(self, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """The kept connection, if it is still good, or a new one from ``connect()``."""
        connection = self.connection
        if connection is None or not self._is_usable(connection):
            self.close()
            connection = self.connection = connect()
        connection.row_factory = tuple_row  # whatever the last range's code set
        return connection

    def close(self) -> None:
        """Close what this thread keeps, without waiting for the server: the network may be dead.

        The server rolls back as soon as it notices. A running query is cancelled where that can be given a time limit;
        elsewhere ``client_connection_check_interval`` ends it.
        """
        connection, self.connection = self.connection, None
        self.locked, self.is_lent = None, False
        if connection is None:
            return
        # A server that cannot be reached any more is no news: whoever closes has an error of its own to tell.
        with closing(connection), suppress(psycopg.Error):
            is_active = connection.info.transaction_status == TransactionStatus.ACTIVE
            if is_active and psycopg.capabilities.has_cancel_safe():
                connection.cancel_safe(timeout=self.cancel_seconds)

    def end_transaction(self) -> None:
        """End the transaction that lasts from range to range, and with it its locks."""
        if self.connection is not None:
            self.connection.rollback()
        self.locked = None

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close the connection when the block fails, so that nothing else is sent on it, not even a ROLLBACK."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _is_usable(self, connection: psycopg.Connection[Any]) -> bool:
        status = TransactionStatus.IDLE if self.locked is None else TransactionStatus.INTRANS
        if connection.closed or connection.info.transaction_status != status:
            return False
        # An idle server has nothing to say, unless it says goodbye. No round trip.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)
