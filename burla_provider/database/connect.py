"""Read the parameters of a connection, so that another machine can connect with them, and connect."""

from __future__ import annotations

import codecs
import os
import socket
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from burla_provider.database.settings import set_config, unreachable_client_settings

_PORTABLE_PARAMETERS = frozenset(
    """
    host port dbname user password options connect_timeout target_session_attrs client_encoding
    keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
    sslmode sslnegotiation sslrootcert sslcert sslkey sslpassword sslcrl sslsni
    ssl_min_protocol_version ssl_max_protocol_version channel_binding require_auth
    gssencmode krbsrvname gsslib
    """.split()  # noqa: SIM905
)
"""libpq parameters that mean the same on another machine; ``hostaddr``, ``service`` and ``passfile`` do not."""

_TLS_FILES = {"sslrootcert": "root.crt", "sslcert": "postgresql.crt", "sslkey": "postgresql.key", "sslcrl": "root.crl"}
"""Parameters that name a file, with the file in ``~/.postgresql`` that libpq uses by default."""

_DEFAULT_PARAMETERS = {
    "connect_timeout": "30",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_encoding": "UTF8",
    "options": "",
}
"""These values detect a dead network within a minute, keep idle connections open through firewalls, decode text also
from a database in SQL_ASCII, and override PGOPTIONS of the worker."""


def connection_parameters(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return the libpq parameters with which a worker connects to the same server as the same user.

    Host and port are those that this connection uses, so that all workers read the same server. Certificates and keys
    are included as contents, because their files exist only on this machine.

    :returns: libpq parameters with secrets: never print them.
    """
    info = connection.info
    given = info.get_parameters()
    carried = {name: value for name, value in given.items() if name in _PORTABLE_PARAMETERS and name not in _TLS_FILES}
    carried |= {"host": info.host, "port": str(info.port), "dbname": info.dbname, "user": info.user}
    if info.password:
        carried["password"] = info.password
    return _DEFAULT_PARAMETERS | carried | _tls_contents(given)


def open_connection(parameters: Mapping[str, str], *, application_name: str, **options: Any) -> psycopg.Connection[Any]:
    """Connect with ``connection_parameters``, on this or another machine.

    :param options: options of ``psycopg.connect``, such as ``autocommit``.
    :raises psycopg.OperationalError: if the connection failed.
    """
    with ExitStack() as files:
        tls = {name: _private_file(files, parameters[name]) for name in _TLS_FILES if _is_content(parameters, name)}
        conninfo = make_conninfo(**{**parameters, **tls, "application_name": application_name})
        connection = psycopg.connect(conninfo, **options)
        # From version 17 on, libpq reads the files again to cancel a query.
        weakref.finalize(connection, files.pop_all().close)
    return connection


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Return whether the session can still run a query."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def codec_of(connection: psycopg.Connection[Any]) -> str:
    """Return Python's name of the encoding that text must fit into, for the connection and the database."""
    if connection.info.encoding != "utf-8":
        return connection.info.encoding
    server = connection.info.parameter_status("server_encoding") or ""
    try:
        return "utf-8" if server == "SQL_ASCII" else codecs.lookup(server).name  # SQL_ASCII stores any bytes
    except LookupError:  # Python has another name for it
        return "ascii"


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Return whether a pooler such as pgbouncer is in between. It does not report the process id of the backend."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def limit_unreachable_client(connection: psycopg.Connection[Any]) -> None:
    """Let the server end this idle session a minute after this machine has become unreachable.

    Behind a pooler nothing is set: its sessions have other clients, too.
    """
    if not is_pooled(connection):
        connection.execute(set_config(unreachable_client_settings(connection), local=False))


@contextmanager
def no_user_timeout(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Let the server leave unread, for any time, what this client sends inside the block.

    While a COPY waits for a lock, the server does not read the following rows. Linux then ends the connection after
    ``tcp_user_timeout``, although the server is reachable.
    """
    before = _set_user_timeout(connection, 0)
    try:
        yield
    finally:
        if not connection.closed:
            _set_user_timeout(connection, before)


def _set_user_timeout(connection: psycopg.Connection[Any], milliseconds: int) -> int:
    """Set the limit of a connection by TCP on Linux, and return the one before."""
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        if line.family == socket.AF_UNIX or not hasattr(socket, "TCP_USER_TIMEOUT"):
            return 0
        before = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        return before


def _tls_contents(given: Mapping[str, str]) -> dict[str, str]:
    contents = {}
    for name, default in _TLS_FILES.items():
        value = given.get(name)
        path = Path(value) if value else Path.home() / ".postgresql" / default
        if path.is_file():
            contents[name] = path.read_text()
        elif value:
            contents[name] = value  # a keyword of libpq, such as "system"
    return contents


def _is_content(parameters: Mapping[str, str], name: str) -> bool:
    return "-----BEGIN" in parameters.get(name, "")


def _private_file(files: ExitStack, content: str) -> str:
    """Return the path of a file that only this user can read and that exists until ``files`` is closed.

    On Linux the file is in no directory, so it disappears with the process, even if the process is killed.
    """
    directory = Path("/proc/self/fd")
    is_unnamed = directory.is_dir()
    file = files.enter_context((tempfile.TemporaryFile if is_unnamed else tempfile.NamedTemporaryFile)("w"))
    file.write(content)
    file.flush()
    return str(directory / str(file.fileno()) if is_unnamed else file.name)
