"""Open a worker's connection, keep it between ranges, and reset it after a user's function."""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from burla_provider.database.connect import is_pooled, open_connection
from burla_provider.database.connection_limit import release_locks_except_slot, take_slot
from burla_provider.database.settings import set_config, unreachable_client_settings
from burla_provider.exceptions import ConnectionLimitError, UserFunctionError
from burla_provider.worker.time_limit import sleep_outside_limit

SLOT_TIMEOUT = 600
"""Seconds that a worker waits for another job to release a connection."""

_OLDEST_PSYCOPG = (3, 2, 11)
"""As in pyproject.toml. Older versions lose the cause of some errors: of a COPY, and of a session that was ended."""

_ORPHAN_SETTINGS = {"idle_session_timeout": "10min", "client_connection_check_interval": "10s"}
"""From PostgreSQL 14 on, the server ends the idle session or the running query of a worker that died."""

RESET_POOLED = sql.SQL(
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES; "
)
"""Starts a user function's transaction behind a pooler, whose session may have served an earlier range. Prepared
statements and advisory locks are not reset, because they may belong to another client."""


class CachedConnection(threading.local):
    """At most one open connection per thread. A pickled copy has none.

    :ivar locked: partitions that the open transaction has locked individually; None: no transaction is open.
    :ivar has_savepoint: whether the open transaction has the savepoint of the last range.
    :ivar needs_reset: whether a user's function has used the connection.
    :ivar is_pooled: whether a pooler is in between.
    :cvar max_locked: partitions that one transaction locks: the server's lock table is limited.
    :cvar cancel_seconds: time limit for canceling a running query.
    """

    max_locked = 50
    cancel_seconds = 5.0

    connection: psycopg.Connection[Any] | None = None
    locked: set[tuple[str, str]] | None = None
    has_savepoint = False
    needs_reset = False
    is_pooled = False

    def __reduce__(self) -> tuple[type[CachedConnection], tuple[()]]:
        return type(self), ()

    def get(self, connect: Callable[[], psycopg.Connection[Any]]) -> psycopg.Connection[Any]:
        """Return the cached connection if it is usable, else a new one from ``connect()``."""
        connection = self.connection
        if connection is None or not self._is_usable(connection):
            self.close()
            connection = self.connection = connect()
        connection.row_factory = tuple_row  # the user's function may have changed it
        return connection

    def close(self) -> None:
        """Close this thread's connection without waiting for the server: the network may be down.

        The server rolls back as soon as it notices. A running query is canceled if libpq can limit the time for that;
        otherwise ``client_connection_check_interval`` ends it.
        """
        connection, self.connection = self.connection, None
        self.locked, self.has_savepoint, self.needs_reset = None, False, False
        if connection is None:
            return
        # An unreachable server is ignored: the caller has its own error to report.
        with closing(connection), suppress(psycopg.Error):
            is_active = connection.info.transaction_status == TransactionStatus.ACTIVE
            if is_active and psycopg.capabilities.has_cancel_safe():
                connection.cancel_safe(timeout=self.cancel_seconds)

    def end_transaction(self) -> None:
        """Roll back the transaction that spans ranges, which releases its locks."""
        if self.connection is not None:
            self.connection.rollback()
        self.locked, self.has_savepoint = None, False

    @contextmanager
    def close_on_error(self) -> Iterator[None]:
        """Close the connection if the block fails, so that nothing else is sent on it, not even a ROLLBACK."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _is_usable(self, connection: psycopg.Connection[Any]) -> bool:
        status = TransactionStatus.IDLE if self.locked is None else TransactionStatus.INTRANS
        if connection.closed or connection.info.transaction_status != status:
            return False
        # An idle server sends nothing unless it ends the session. This takes no round trip.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)


def connect_worker(
    parameters: Mapping[str, str],
    name: str,
    *,
    read_only: bool,
    slots: int | None,
    settings: Mapping[str, str] = MappingProxyType({}),
    reads_slowly: bool = True,
) -> psycopg.Connection[Any]:
    """Connect; transactions are read-only or read-write, and read committed.

    :param name: shown in ``pg_stat_activity`` between ranges.
    :param slots: connections of all jobs on the database together; None: no limit.
    :param settings: settings of the session. Behind a pooler each transaction must set them.
    :param reads_slowly: whether a function may compute for any time between two rows.
    :raises ConnectionLimitError: if other jobs used all slots for ten minutes.
    :raises UserFunctionError: if psycopg is too old.
    """
    _check_psycopg()
    # Not as a decorator: before tenacity 9.2, a decorated function cannot be pickled.
    retrying = Retrying(
        retry=retry_if_exception_type(ConnectionLimitError),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(SLOT_TIMEOUT),
        sleep=sleep_outside_limit,  # waiting for other jobs does not count as the range's time
        reraise=True,
    )
    return retrying(_connect, parameters, name, read_only, slots, settings, reads_slowly)


def reset_session(
    connection: psycopg.Connection[Any],
    *,
    read_only: bool,
    slots: int | None,
    settings: Mapping[str, str],
    pooled: bool,
) -> None:
    """Restore connection and session to their state before a user's function used them.

    In a transaction, a rollback already restored the rest. Behind a pooler, ``RESET_POOLED`` does it.

    :raises ConnectionLimitError: if another job took the slot.
    """
    pgconn = connection.pgconn
    vars(connection).clear()  # adapters, handlers, factories, the names of prepared statements
    psycopg.Connection.__init__(connection, pgconn)
    is_idle = pgconn.transaction_status == TransactionStatus.IDLE
    if pooled:
        connection.prepare_threshold = None
    elif is_idle:
        connection.autocommit = True
        connection.execute("DISCARD ALL")
        _set_up(connection, slots, settings, reads_slowly=True)
    else:
        connection.execute("DEALLOCATE ALL")
        if not release_locks_except_slot(connection, slots):
            raise _no_free_slot(slots)
    if is_idle:
        set_transaction_mode(connection, read_only=read_only)


def set_transaction_mode(
    connection: psycopg.Connection[Any],
    *,
    read_only: bool,
    isolation_level: psycopg.IsolationLevel = psycopg.IsolationLevel.READ_COMMITTED,
) -> None:
    """Set the mode of the next transactions.

    Read committed: a query that waits for a lock takes its snapshot after that. An older one would see no rows of a
    table that was truncated and loaded, or rewritten, by the session that held the lock.
    """
    connection.autocommit = False
    connection.read_only = read_only
    connection.isolation_level = isolation_level


def _check_psycopg() -> None:
    # Burla does not upgrade packages of a node's image.
    if tuple(map(int, re.findall(r"\d+", psycopg.__version__)[:3])) < _OLDEST_PSYCOPG:
        oldest = ".".join(map(str, _OLDEST_PSYCOPG))
        raise UserFunctionError(
            f"The workers have psycopg {psycopg.__version__}, which is too old: install psycopg[binary]>={oldest} in"
            " their image, or use an image without psycopg."
        )


def _connect(
    parameters: Mapping[str, str],
    name: str,
    read_only: bool,
    slots: int | None,
    settings: Mapping[str, str],
    reads_slowly: bool,
) -> psycopg.Connection[Any]:
    connection = open_connection(parameters, application_name=name, autocommit=True)
    try:
        if is_pooled(connection):
            # The next transaction may use another server process, so the session keeps no state. It takes no slot,
            # because the pooler limits connections.
            connection.prepare_threshold = None
        else:
            _set_up(connection, slots, settings, reads_slowly)
    except BaseException:
        connection.close()
        raise
    set_transaction_mode(connection, read_only=read_only)
    return connection


def _set_up(
    connection: psycopg.Connection[Any], slots: int | None, settings: Mapping[str, str], reads_slowly: bool
) -> None:
    if slots is not None and not take_slot(connection, slots):
        raise _no_free_slot(slots)
    orphan_settings = _ORPHAN_SETTINGS if connection.info.server_version >= 140000 else {}
    settings = {**unreachable_client_settings(connection, reads_slowly=reads_slowly), **settings}
    try:
        connection.execute(set_config({**settings, **orphan_settings}, local=False))
    except psycopg.errors.InvalidParameterValue:  # the server's operating system cannot check its clients
        orphan_settings = {k: v for k, v in orphan_settings.items() if k != "client_connection_check_interval"}
        connection.execute(set_config({**settings, **orphan_settings}, local=False))


def _no_free_slot(slots: int | None) -> ConnectionLimitError:
    return ConnectionLimitError(
        f"All {slots} available connections of the database are in use by other jobs. Run fewer tasks at the same time"
        " (with an Airflow pool), or lower their max_parallelism."
    )
