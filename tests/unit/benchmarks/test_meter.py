"""The measured cost of a run."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.data import Data
from benchmarks.meter import Meter

WORKER = """
import sys
print("idle", flush=True)
sys.stdin.readline()
filled = b"x" * 50 * 2**20
print("warm", flush=True)
sys.stdin.readline()
"""


def test_memory_of_warm_workers_is_relative_to_their_idle_state(data: Data) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdout.readline()
        meter = Meter(os.getpid(), [worker.pid], data.process, data.server.conninfo(), lambda: None)
        try:
            worker.stdin.write(b"\n")
            worker.stdin.flush()
            worker.stdout.readline()
            for _ in range(2):
                meter.begin()
                assert meter.end()["memory_workers"] >= 45
        finally:
            meter.close()
            worker.kill()
