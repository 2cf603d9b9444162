"""The PostgreSQL server that tests share, and fresh databases on it."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.demo.postgres import EmbeddedPostgres

FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "autovacuum": "off",  # a test that needs statistics says ANALYZE, so that they are there at a known moment
}
"""Settings of a server whose data need not survive a crash."""

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 4 << 30
"""Free bytes, for the servers of all pytest processes."""


def matrix_server(version: int) -> Path:
    """Return the directory of the programs that ``make test-matrix`` installs for a major version."""
    return Path(__file__).parents[2] / "build" / f"postgres-{version}" / "package" / "native" / "bin"


class PostgresServer(EmbeddedPostgres):
    """The embedded server, with what tests ask of it. BURLA_TEST_POSTGRES chooses a server of the matrix."""

    def find_binaries(self) -> Path:
        binaries = matrix_server(self.version)
        is_chosen = os.environ.get("BURLA_TEST_POSTGRES") == str(self.version)
        return binaries if is_chosen and binaries.exists() else super().find_binaries()

    @property
    def dsn(self) -> str:
        return self.conninfo()

    @contextmanager
    def database(self, name: str | None = None, *, encoding: str = "UTF8", locale: str = "C") -> Iterator[str]:
        """Creates a database, yields its conninfo, and drops it, whoever is still connected."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        create = "CREATE DATABASE {} ENCODING {} TEMPLATE template0 LC_COLLATE {locale} LC_CTYPE {locale}"
        self._execute(sql.SQL(create).format(sql.Identifier(name), sql.Literal(encoding), locale=sql.Literal(locale)))
        try:
            yield self.conninfo(name)
        finally:
            self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)


def report_writes(connection: psycopg.Connection[Any]) -> None:
    """Let the session report its writes to the server's counters now, not up to ten seconds later.

    Before PostgreSQL 15 a session cannot be told to, and the provider does not use the counters.
    """
    if connection.info.server_version >= 150000:
        connection.execute("SELECT pg_stat_force_next_flush()")


@contextmanager
def running_server(**options: object) -> Iterator[PostgresServer]:
    """A server in a directory of its own, which is removed afterwards.

    The directory is in memory if there is enough. Each database has 300 files, and ext4 searches long for a free inode
    where many files were deleted in the last minute: on a disk, this took two fifths of the processors' time.

    :param options: of ``EmbeddedPostgres``; ``settings`` are added to the fast ones.
    """
    options.setdefault("version", int(os.environ.get("BURLA_TEST_POSTGRES", "16")))
    options["settings"] = {**FAST, **options.pop("settings", {})}
    # Not pytest's tmp_path, which is private to this user: as root, the server runs as somebody else.
    in_memory = MEMORY.exists() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    home = Path(tempfile.mkdtemp(prefix="burla-test-postgres-", dir=MEMORY if in_memory else None))
    home.chmod(0o755)
    try:
        with PostgresServer(home, **options) as server:
            yield server
    finally:
        shutil.rmtree(home)
