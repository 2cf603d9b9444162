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


def advice_for(error: BaseException, host: str = "", statement_timeout: float | None = None) -> str:
    """Return what to do about the error, or "".

    :param host: host of the server, as in the connection. The error of a target has its own.
    :param statement_timeout: the limit that the operator has set, in seconds; None: it has set none.
    """
    if not isinstance(error, psycopg.Error):
        return ""
    host = getattr(error, _TARGET_HOST, host)
    text, sqlstate = str(error), error.sqlstate or ""
    if sqlstate == "25006" and hasattr(error, _TARGET_HOST):
        return _TARGET_READ_ONLY
    if _is_connection_error(error):
        return _connecting_advice(text, host)
    if sqlstate == "40001" and "recovery" in text:
        return ON_STANDBY
    if sqlstate == _CANCELED:
        return _canceled_advice(text, statement_timeout)
    if sqlstate in _UNKNOWN_NAMES and (name := _UNKNOWN_NAME.search(text.partition("\n")[0])):
        return f"{_UNKNOWN_NAMES[sqlstate]} Check the name {name[1]}."
    return _ADVICE.get(sqlstate, _ADVICE.get(sqlstate[:2], ""))


def _connecting_advice(text: str, host: str) -> str:
    if "authentication failed" in text:
        return "Workers connect with the task's credentials: if they are a token, it may have expired."
    if "pg_hba.conf" in text:
        return "The server accepts the task, but not the workers: allow their addresses too."
    if is_this_machine(host) and "refused" in text:
        return f"On a worker, {host} is the worker's machine: give the connection a host name that workers can resolve."
    if _LOST.search(text):
        return _CONNECTION_LOST
    return ""


def _canceled_advice(text: str, statement_timeout: float | None) -> str:
    if "user request" in text:
        return "Another session canceled the statement (pg_cancel_backend), or an interruption of the worker did."
    if statement_timeout:
        return f"Raise statement_timeout ({statement_timeout:g} seconds), or make the ranges smaller."
    return (
        "The operator sets no statement_timeout: it is a setting of the connection's options, of the role, of the"
        " database, or of the server. Set statement_timeout of the operator, or make the ranges smaller."
    )


_UNKNOWN_NAME = re.compile(r'(?:column|function|relation) "?(.+?)"? does not exist')
_UNKNOWN_NAMES = {
    "42703": "A query names a column that the table does not have, or that was dropped or renamed.",
    "42P01": "A query names a table that does not exist, or whose schema is not on the search_path.",
    "42883": "A query calls a function that does not exist for these types, or whose schema is not on the search_path.",
}
"""SQLSTATE of an error that names what does not exist -> what to say about it."""

_LOST = re.compile("unexpectedly|connection is lost|could not (?:receive|send) data|SSL SYSCALL error")
_CONNECTION_LOST = (
    "The connection was lost: the server was restarted or has crashed, or the network, a firewall or tcp_user_timeout"
    " has ended it. See the log of the server. range_retries limits how often a range is tried again."
)
_SESSION_ENDED = (
    "The server was restarted, or an administrator ended the session (pg_terminate_backend). Retry the task when the"
    " server is available."
)
_FIND_ROW = "isolate_failures=True finds the rows."
_ADVICE = {
    "08": _CONNECTION_LOST,
    "22003": f"A number is outside of its type: cast it to bigint or numeric. {_FIND_ROW}",
    "22012": f"A divisor is 0: use NULLIF(divisor, 0), or leave out such rows with where. {_FIND_ROW}",
    "22P02": f"A text is not a value of the type that it is cast to. {_FIND_ROW}",
    "23505": (
        'The target has a row with this key. If it is from an earlier run, update it: write_mode="upsert", or'
        " INSERT ... ON CONFLICT. If it is from an earlier attempt of the same range, use a ledger."
    ),
    "25006": (
        "Ranges are read in a read-only transaction: to write, give the operator a ledger (exactly once)"
        ' or consistency="none" (at least once).'
    ),
    "25P02": (
        "An earlier statement of the same transaction has failed, and the function caught its error. Run a statement"
        " that may fail in a block with connection.transaction(), which is a savepoint."
    ),
    "25P03": (
        "The function computed for longer than the server allows an idle transaction: raise"
        " idle_in_transaction_session_timeout (0: no limit), or make the ranges smaller."
    ),
    "25P04": "The role's transaction_timeout is shorter than a range takes: raise it, or make the ranges smaller.",
    "40001": "Other sessions change the same rows meanwhile: raise range_retries, or run the task at another time.",
    "40P01": (
        "Two transactions waited for each other's locks: let all of them change rows in the same order, or raise"
        " range_retries."
    ),
    "42501": "The role of the connection has no such privilege: GRANT it, or use another connection.",
    "42703": _UNKNOWN_NAMES["42703"],
    "42883": _UNKNOWN_NAMES["42883"],
    "42P01": _UNKNOWN_NAMES["42P01"],
    "53100": "The disk of the server is full. Queries that sort or hash write temporary files: free space, then retry.",
    "53200": "The server has no memory left: lower max_parallelism, or work_mem of the role.",
    "53300": "Lower max_parallelism, or raise the server's (or the role's, or the database's) connection limit.",
    "55P03": "Another session holds or awaits a stronger lock on the table: see pg_locks, or raise range_retries.",
    "57P01": _SESSION_ENDED,
    "57P02": _SESSION_ENDED,
    "57P03": _SESSION_ENDED,
}
"""SQLSTATE, or the class of it -> what to do."""
