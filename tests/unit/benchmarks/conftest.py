"""Small tables of the benchmarks, on their own server."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.data import Data, running


@pytest.fixture(scope="package")
def data() -> Iterator[Data]:
    # pytest's tmp_path is private, but root's PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory(prefix="burla-test-benchmarks-") as home:
        Path(home).chmod(0o755)
        with running(Path(home), 1_000, cluster=False) as data:
            yield data
