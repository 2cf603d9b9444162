"""A small edition of the benchmarks' tables, on a server of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.data import Data, running


@pytest.fixture(scope="package")
def data() -> Iterator[Data]:
    # Not pytest's tmp_path, which is private to this user: as root, PostgreSQL runs as somebody else.
    with tempfile.TemporaryDirectory(prefix="burla-test-benchmarks-") as home:
        Path(home).chmod(0o755)
        with running(Path(home), 1_000, cluster=False) as data:
            yield data
