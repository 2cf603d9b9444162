"""A standby of a running server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.postgres import PostgresServer


@contextmanager
def running_standby(
    primary: PostgresServer, connection: psycopg.Connection[Any], settings: dict[str, Any]
) -> Iterator[PostgresServer]:
    """A copy of the primary's data that replays its WAL.

    :param settings: say where the WAL comes from.
    """
    home = Path(tempfile.mkdtemp(prefix="burla-test-standby-"))
    home.chmod(0o755)
    try:
        is_renamed = connection.info.server_version >= 150000
        start, stop = ("backup_start", "backup_stop") if is_renamed else ("start_backup", "stop_backup")
        # As "fast" and, before PostgreSQL 15, not "exclusive".
        connection.execute(f"SELECT pg_{start}('standby', true{'' if is_renamed else ', false'})")
        # The server renames files in archive_status meanwhile.
        ignored = shutil.ignore_patterns("postmaster.*", "pg_replslot", "archive_status")
        shutil.copytree(primary.data, home / "data", ignore=ignored)
        owner = primary.data.stat()
        [(label,)] = connection.execute(f"SELECT labelfile FROM pg_{stop}(false)").fetchall()
        (home / "data" / "backup_label").write_text(label)
        (home / "data" / "pg_replslot").mkdir()
        (home / "data" / "pg_wal" / "archive_status").mkdir()
        (home / "data" / "standby.signal").touch()
        for path in (home / "data", *(home / "data").rglob("*")):
            shutil.chown(path, owner.st_uid, owner.st_gid)
        (home / "data").chmod(0o700)
        shutil.copy(primary.home / "password", home / "password")
        with PostgresServer(home, version=primary.version, settings={"max_connections": "60", **settings}) as replica:
            yield replica
    finally:
        shutil.rmtree(home)
