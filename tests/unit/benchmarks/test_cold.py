"""Restarts that leave the tables on disk only."""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from pathlib import Path

import psycopg
import pytest

from benchmarks.cold import SHARED_BUFFERS_MB, default_buffers, drop_from_cache, restart_cold
from benchmarks.data import Data


def cached_pages(path: Path) -> int:
    """The pages of a file that are in the page cache."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
    return sum(page & 1 for page in pages)


def test_a_dropped_file_is_not_in_the_page_cache() -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as directory:  # /tmp may be in memory
        path = Path(directory) / "file"
        path.write_bytes(os.urandom(100 * mmap.PAGESIZE))
        if cached_pages(path) < 100:
            pytest.skip("this file system has no page cache")
        drop_from_cache([path])
        assert cached_pages(path) == 0


def shared_buffers(data: Data) -> str:
    with psycopg.connect(data.server.conninfo()) as connection:
        return connection.execute("SHOW shared_buffers").fetchall()[0][0]


def test_the_default_buffers_end_with_the_block_and_tables_stay(data: Data) -> None:
    table, usual = data.orders(), shared_buffers(data)
    with default_buffers(data.server):
        restart_cold(data.server)
        assert shared_buffers(data) == f"{SHARED_BUFFERS_MB}MB" != usual
        with psycopg.connect(data.server.conninfo()) as connection:
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (1_000,)
    assert shared_buffers(data) == usual
