"""Restart the server so that its tables are only on disk, and count what is read from there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from burla_provider.demo.postgres import EmbeddedPostgres

SHARED_BUFFERS_MB = 128
"""PostgreSQL's default."""


@contextmanager
def default_buffers(server: EmbeddedPostgres) -> Iterator[None]:
    """Use PostgreSQL's default of shared_buffers from the next restart on, and the server's own setting afterwards."""
    settings = server.settings
    server.settings = {**settings, "shared_buffers": f"{SHARED_BUFFERS_MB}MB"}
    try:
        yield
    finally:
        server.settings = settings
        server.restart()


def restart_cold(server: EmbeddedPostgres) -> None:
    """Restart the server, and remove its files from the page cache in between."""
    server.stop()
    drop_from_cache(path for path in server.data.rglob("*") if path.is_file())
    server.start()


def drop_from_cache(files: Iterable[Path]) -> None:
    """Remove files from the page cache.

    /proc/sys/vm/drop_caches requires root, and it would also remove Python and the packages of the sides.
    """
    os.sync()  # the kernel keeps pages that are not written yet
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def bytes_read() -> int:
    """Return how many bytes this machine has read from its disks since it started."""
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters["pgpgin"]) * 1024
