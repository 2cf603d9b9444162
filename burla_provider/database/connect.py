"""Taking a connection's credentials to another machine, and opening one there."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
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
}
"""Notices within a minute that nobody answers, and keeps firewalls from forgetting a quiet connection."""


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
    # libpq reads these files while it connects and never again.
    with tempfile.TemporaryDirectory(prefix="burla-tls-") as directory:
        files = _write_tls_files(parameters, Path(directory))
        conninfo = make_conninfo(**{**parameters, **files, "application_name": application_name})
        return psycopg.connect(conninfo, **options)


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


def _write_tls_files(parameters: Mapping[str, str], directory: Path) -> dict[str, str]:
    files = {}
    for name in TLS_FILES:
        content = parameters.get(name, "")
        if "-----BEGIN" in content:
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(content)
            files[name] = str(path)
    return files
