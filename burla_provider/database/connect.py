"""Taking a connection's credentials to another machine, and opening one there."""

from __future__ import annotations

import codecs
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

CARRIED = frozenset(
    """
    host port dbname user password options connect_timeout target_session_attrs client_encoding
    keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout
    sslmode sslnegotiation sslrootcert sslcert sslkey sslpassword sslcrl sslsni
    ssl_min_protocol_version ssl_max_protocol_version channel_binding require_auth
    gssencmode krbsrvname gsslib
    """.split()  # noqa: SIM905
)
"""The libpq parameters that mean the same on another machine. ``hostaddr``, ``service`` and ``passfile`` do not."""

TLS_FILES = {"sslrootcert": "root.crt", "sslcert": "postgresql.crt", "sslkey": "postgresql.key", "sslcrl": "root.crl"}
"""The parameters that name a file, with the file that libpq takes from ``~/.postgresql`` when they are not given."""

UNLESS_GIVEN = {
    "connect_timeout": "30",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_encoding": "UTF8",
    "options": "",
}
"""Notices within a minute that nobody answers or acknowledges, keeps firewalls from forgetting a quiet connection,
makes text text whatever the database's encoding is, and ignores a worker's own PGOPTIONS."""


def connection_parameters(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """What a worker needs to connect to the server (and as the user) of an open connection.

    Host and port are those that this connection reached, so that all workers read the same server. Certificates and
    keys are in it as their content, because their files exist on this machine only.

    :returns: libpq parameters; secrets among them, so never to be printed.
    """
    info = connection.info
    given = info.get_parameters()
    carried = {name: value for name, value in given.items() if name in CARRIED and name not in TLS_FILES}
    carried |= {"host": info.host, "port": str(info.port), "dbname": info.dbname, "user": info.user}
    if info.password:
        carried["password"] = info.password
    return UNLESS_GIVEN | carried | _tls_contents(given)


def open_connection(parameters: Mapping[str, str], *, application_name: str, **options: Any) -> psycopg.Connection[Any]:
    """A connection from what ``connection_parameters`` answered, perhaps on another machine.

    :param options: of ``psycopg.connect``, such as ``autocommit``.
    :raises psycopg.OperationalError: the server did not let us in.
    """
    with ExitStack() as files:
        tls = {name: _private_file(files, parameters[name]) for name in TLS_FILES if _is_content(parameters, name)}
        conninfo = make_conninfo(**{**parameters, **tls, "application_name": application_name})
        connection = psycopg.connect(conninfo, **options)
        # From version 17 on, libpq reads them again to cancel a query.
        weakref.finalize(connection, files.pop_all().close)
    return connection


def is_alive(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server still answers in this session: asks it."""
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def codec_of(connection: psycopg.Connection[Any]) -> str:
    """Python's name of the encoding that text must fit into, on its way and in the database."""
    if connection.info.encoding != "utf-8":
        return connection.info.encoding
    server = connection.info.parameter_status("server_encoding") or ""
    try:
        return "utf-8" if server == "SQL_ASCII" else codecs.lookup(server).name  # the former keeps whatever it gets
    except LookupError:  # one that Python calls otherwise
        return "ascii"


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler (pgbouncer and its like) stands between: it answers with a process id of its own making."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is not None and row[0] != connection.info.backend_pid


def _tls_contents(given: Mapping[str, str]) -> dict[str, str]:
    contents = {}
    for name, default in TLS_FILES.items():
        value = given.get(name)
        path = Path(value) if value else Path.home() / ".postgresql" / default
        if path.is_file():
            contents[name] = path.read_text()
        elif value:
            contents[name] = value  # "system", say: a word that libpq understands everywhere
    return contents


def _is_content(parameters: Mapping[str, str], name: str) -> bool:
    return "-----BEGIN" in parameters.get(name, "")


def _private_file(files: ExitStack, content: str) -> str:
    """The path of a file that only this user can read, there until ``files`` are closed.

    On Linux it has no name in any directory, so that it goes with the process, even one that is killed.
    """
    directory = Path("/proc/self/fd")
    nameless = directory.is_dir()
    make = tempfile.TemporaryFile if nameless else tempfile.NamedTemporaryFile
    file = files.enter_context(make("w"))
    file.write(content)
    file.flush()
    return str(directory / str(file.fileno()) if nameless else file.name)
