"""How a worker connects: within what the database can spare, and fit for the transactions that follow."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from burla_provider.database.connect import is_pooled, open_connection
from burla_provider.database.settings import set_config
from burla_provider.database.slots import free_locks_but_slot, take_slot
from burla_provider.exceptions import ConnectionLimitError, UserFunctionError
from burla_provider.worker.time_limit import unlimited_sleep

PATIENCE = 600
"""Seconds that a worker waits for other jobs to give a connection back."""

LEFT_ALONE = {"idle_session_timeout": "10min", "client_connection_check_interval": "10s"}
"""From PostgreSQL 14 on: the server ends a session that its worker forgot, and a query whose worker died."""

RESET_POOLED = sql.SQL(
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES; "
)
"""Begins a transaction for a user's function behind a pooler, whose session may be the one of an earlier range.
Prepared statements and advisory locks of such a session may be somebody else's, and are left alone."""


def connect_worker(
    parameters: Mapping[str, str],
    name: str,
    *,
    read_only: bool,
    slots: int | None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> psycopg.Connection[Any]:
    """A connection whose transactions are read-only at one moment, or read-write.

    :param name: shown in ``pg_stat_activity`` between ranges.
    :param slots: connections that all jobs together may have; None: no such limit.
    :param settings: of the session. Behind a pooler each transaction must set them.
    :raises ConnectionLimitError: other jobs had them all for ten minutes.
    :raises UserFunctionError: psycopg is too old.
    """
    _check_psycopg()
    # Not as a decorator: before tenacity 9.2, what it makes cannot be pickled, and this travels to the workers.
    retrying = Retrying(
        retry=retry_if_exception_type(ConnectionLimitError),
        wait=wait_random_exponential(multiplier=0.2, max=5),
        stop=stop_after_delay(PATIENCE),
        sleep=unlimited_sleep,  # other jobs' time is not the range's
        reraise=True,
    )
    return retrying(_connect, parameters, name, read_only, slots, settings)


def renew(
    connection: psycopg.Connection[Any],
    *,
    read_only: bool,
    slots: int | None,
    settings: Mapping[str, str],
    pooled: bool,
) -> None:
    """Make connection and session as they were before a user's function had them.

    In a transaction, what a rollback takes back is not of concern here. Behind a pooler ``RESET_POOLED`` does the rest.

    :raises ConnectionLimitError: the slot went to another job meanwhile.
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
        _set_up(connection, slots, settings)
    else:
        connection.execute("DEALLOCATE ALL")
        if not free_locks_but_slot(connection, slots):
            raise _none_to_spare(slots)
    if is_idle:
        set_transactions(connection, read_only=read_only)


def _check_psycopg() -> None:
    # Burla leaves alone what a node's image has, whatever version the job asks for. ``capabilities`` came with 3.2.
    if not hasattr(psycopg, "capabilities"):
        raise UserFunctionError(
            f"The workers have psycopg {psycopg.__version__}, which is too old: install psycopg[binary]>=3.2.1 in their"
            " image, or take one without psycopg."
        )


def _connect(
    parameters: Mapping[str, str], name: str, read_only: bool, slots: int | None, settings: Mapping[str, str]
) -> psycopg.Connection[Any]:
    connection = open_connection(parameters, application_name=name, autocommit=True)
    try:
        _prepare(connection, slots, settings)
    except BaseException:
        connection.close()
        raise
    set_transactions(connection, read_only=read_only)
    return connection


def set_transactions(connection: psycopg.Connection[Any], *, read_only: bool) -> None:
    """Say what the next transactions are: read-only at one moment, or read-write."""
    connection.autocommit = False
    connection.read_only = read_only
    connection.isolation_level = (
        psycopg.IsolationLevel.REPEATABLE_READ if read_only else psycopg.IsolationLevel.READ_COMMITTED
    )


def _prepare(connection: psycopg.Connection[Any], slots: int | None, settings: Mapping[str, str]) -> None:
    if is_pooled(connection):
        # The next transaction may meet another server process: nothing may stay behind in this one. Nor are slots
        # needed, because the pooler limits connections.
        connection.prepare_threshold = None
    else:
        _set_up(connection, slots, settings)


def _set_up(connection: psycopg.Connection[Any], slots: int | None, settings: Mapping[str, str]) -> None:
    if slots is not None and not take_slot(connection, slots):
        raise _none_to_spare(slots)
    limits = LEFT_ALONE if connection.info.server_version >= 140000 else {}
    try:
        connection.execute(set_config({**settings, **limits}, local=False))
    except psycopg.errors.InvalidParameterValue:  # this server's operating system cannot watch its clients
        limits = {name: value for name, value in limits.items() if name != "client_connection_check_interval"}
        connection.execute(set_config({**settings, **limits}, local=False))


def _none_to_spare(slots: int | None) -> ConnectionLimitError:
    return ConnectionLimitError(
        f"All {slots} connections that the database can spare are taken by other jobs. Let fewer tasks run at"
        " once (an Airflow pool), or lower their max_parallelism."
    )
