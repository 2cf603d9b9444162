"""The demo on the real cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def directory():
    directory = Path(tempfile.mkdtemp(prefix="burla-test-demo-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_the_demo_runs_on_the_cluster(directory):
    command = [sys.executable, "-m", "burla_provider.demo", "--engine", "burla", "--rows", "100000"]
    demo = subprocess.run([*command, "--directory", str(directory)], capture_output=True, text=True, check=False)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    summary = json.loads(demo.stdout.splitlines()[-1])
    assert (summary["row_count"], summary["exact"]) == (100_000, True)
