"""Run a side in a child process and measure its runs."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.data import Data
from benchmarks.environments import INTERPRETERS, ROOT
from benchmarks.meter import Meter, Wire
from benchmarks.sides import SIDES, Side
from benchmarks.sides.batches import BATCHERS
from benchmarks.sides.large import LARGE
from benchmarks.sides.writing import WRITERS
from benchmarks.task import Task
from burla_provider.demo.children import end_with_parent

TIMEOUT = 240.0
"""Seconds for a start-up, and for a run without another limit."""


SHUTDOWN_SECONDS = 20.0
"""Time for a side to end by itself before it is terminated."""


class SideFailed(RuntimeError):
    """Raised when a side fails or does not respond in time."""


class SideBusy(SideFailed):
    """Raised when a side does not respond in time. It cannot run another task."""


class RunningSide:
    """A started side.

    :ivar start_up: seconds from the start of its interpreter until it was ready.
    :ivar timeout: seconds to wait for a response.
    """

    def __init__(self, process: subprocess.Popen[str], meter: Meter, log: Path) -> None:
        self._process = process
        self._meter = meter
        self._log = log
        self.start_up = 0.0
        self.timeout = TIMEOUT

    def prepare(self, task: Task, started: float) -> None:
        self._send(task)
        self.start_up = time.perf_counter() - started

    def run(self, task: Task) -> dict[str, Any]:
        """Run a task.

        :returns: ``rows``, ``value``, ``seconds``, ``details``, and the figures of ``Meter.end``.
        :raises SideFailed: if the side fails.
        """
        self._meter.begin()
        result = self._send(task)
        return result | self._meter.end()

    def _send(self, task: Task) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # the side has ended, which the next lines report
            self._process.stdin.write(json.dumps(asdict(task)) + "\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], self.timeout)[0]:
            raise SideBusy(f"not done after {self.timeout:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(f"ended: {last_line(self._log)}")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise SideFailed(result["error"])
        return result


@contextmanager
def running_side(name: str, data: Data, task: Task, wire: Wire) -> Iterator[RunningSide]:
    """Start a side and prepare it. At the end, stop it and all its children."""
    side = find_side(name)
    log = data.server.home.parent / f"side-{name}.log"
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            [INTERPRETERS[side.environment], "-m", "benchmarks.side", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
    nodes = find_nodes() if side.cluster else []
    meter = Meter(process.pid, nodes, data.process, data.server.conninfo(), wire.read)
    try:
        running = RunningSide(process, meter, log)
        running.prepare(task, started)
        yield running
    finally:
        meter.close()
        end(process)


def find_side(name: str) -> Side:
    """Return the side of a module in ``benchmarks.sides``."""
    group, _, module = name.rpartition(".")
    return {"": SIDES, "batches": BATCHERS, "large": LARGE, "writing": WRITERS}[group][module]


def end(process: subprocess.Popen[str]) -> None:
    """Let the side shut down, then kill the rest of its process group."""
    assert process.stdin is not None
    try:
        process.stdin.close()
        process.wait(SHUTDOWN_SECONDS)
    except (subprocess.TimeoutExpired, BrokenPipeError):
        process.terminate()
        time.sleep(1)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def find_nodes() -> list[int]:
    """Return the process ids of the nodes of this machine's cluster. Workers are their children.

    The list is empty without a cluster or Docker.
    """
    label = f"label=burla-cluster-member={os.environ.get('BURLA_CLUSTER_NAME') or 'kit'}"
    try:
        nodes = run_docker("ps", "--quiet", "--filter", label)
        return [int(pid) for pid in run_docker("inspect", "--format", "{{.State.Pid}}", *nodes)] if nodes else []
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []


def run_docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.split()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:400] if lines else "no output"
