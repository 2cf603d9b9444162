"""Classify database errors as transient or not, and give advice about them."""

from __future__ import annotations

import re
from ipaddress import ip_address

import psycopg

_TRANSIENT = frozenset(
    [
        "40001",  # serialization failure; on a hot standby: conflict with recovery
        "40P01",  # deadlock
        "55P03",  # lock not available
        "57P01",  # admin shutdown, pg_terminate_backend
        "57P02",  # crash shutdown
        "57P03",  # cannot connect now: starting up, shutting down
        "57P05",  # idle session timeout
        "53300",  # too many connections
        "08000",
        "08001",
        "08003",
        "08004",
        "08006",
        "08P01",  # protocol violation: pgbouncer ends connections with it
    ]
)
_CANCELED = "57014"
"""Statement timeout, or canceled by a user. Retried once."""

_LOGIN_REJECTED = re.compile(
    r"authentication failed|no pg_hba\.conf entry|no password supplied|does not exist|permission denied"
    r"|certificate verify failed|does not support SSL|server certificate for|not permitted to log in",
)
"""Messages of a rejected login, for which libpq gives no SQLSTATE. In another language than English they count as
transient. libpq's "Connection refused" is not a rejected login: no server listens there, maybe because it restarts."""


def is_transient(error: BaseException) -> bool:
    """Return whether a retry on a new connection may succeed."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in _TRANSIENT
    return _is_connection_error(error) and not is_login_rejected(str(error))


def _is_connection_error(error: BaseException) -> bool:
    """Return whether the connection failed or was lost, so that the error has no SQLSTATE."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def is_login_rejected(text: str) -> bool:
    """Return whether the text of a connection error says that the server rejected the login to this database."""
    return _LOGIN_REJECTED.search(text) is not None


def is_this_machine(host: str) -> bool:
    """Return whether the host means the local machine on every machine: a loopback address or a socket."""
    if host.startswith(("/", "@")) or host.rstrip(".").lower().rpartition(".")[2] in ("localhost", "localdomain"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_canceled(error: BaseException) -> bool:
    """Return whether a statement was canceled, by a timeout or by a user."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _CANCELED


ON_STANDBY = (
    "The server is a hot standby whose replay needs what this job still reads: use smaller ranges, raise"
    " max_standby_streaming_delay or set hot_standby_feedback there, or read from the primary."
)


_TARGET_HOST = "burla_target_host"
"""Attribute of an error of the target's server: its host, as in the connection."""

_TARGET_READ_ONLY = "The server of the target does not accept writes now: it may have become a standby."


def mark_target_error(error: psycopg.Error, host: str) -> None:
    """Remember that the error is from the server of the target, for ``advice_for``."""
    setattr(error, _TARGET_HOST, host)


def advice_for(error: BaseException, host: str = "") -> str:
    """Return what to do about the error, or "".

    :param host: host of the server, as in the connection. The error of a target has its own.
    """
    if not isinstance(error, psycopg.Error):
        return ""
    host = getattr(error, _TARGET_HOST, host)
    if error.sqlstate == "25006" and hasattr(error, _TARGET_HOST):
        return _TARGET_READ_ONLY
    if _is_connection_error(error):
        return _connecting_advice(str(error), host)
    if error.sqlstate == "40001" and "recovery" in str(error):
        return ON_STANDBY
    return _ADVICE.get(error.sqlstate or "", "")


def _connecting_advice(text: str, host: str) -> str:
    if "authentication failed" in text:
        return "Workers connect with the task's credentials: if they are a token, it may have expired."
    if "pg_hba.conf" in text:
        return "The server accepts the task, but not the workers: allow their addresses too."
    if is_this_machine(host) and "refused" in text:
        return f"On a worker, {host} is the worker's machine: give the connection a host name that workers can resolve."
    return ""


_ADVICE = {
    "25006": (
        "Ranges are read in a read-only transaction: to write, give the operator a ledger (exactly once)"
        ' or consistency="none" (at least once).'
    ),
    "25P03": (
        "The function computed for longer than the server allows an idle transaction: raise"
        " idle_in_transaction_session_timeout (0: no limit), or make the ranges smaller."
    ),
    "25P04": "The role's transaction_timeout is shorter than a range takes: raise it, or make the ranges smaller.",
    "53300": "Lower max_parallelism, or raise the server's (or the role's, or the database's) connection limit.",
    "55P03": "Another session holds or awaits a stronger lock on the table: see pg_locks, or raise range_retries.",
    "57014": "Raise statement_timeout or range_timeout, or make the ranges smaller.",
}
