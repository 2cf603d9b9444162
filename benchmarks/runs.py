"""One side, running in a process of its own, with everything that its runs cost."""

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
from benchmarks.sides import SIDES
from benchmarks.task import Task
from burla_provider.demo.children import end_with_parent

PATIENCE = 240.0
"""Seconds for a start-up, and for a run of which nothing else is known."""


SHUTDOWN_SECONDS = 20.0
"""Time for a side to end by itself before it is terminated."""


class SideFailed(RuntimeError):
    """The side said no, or nothing in time."""


class SideBusy(SideFailed):
    """It has not answered yet, so that it cannot be asked for anything else."""


class RunningSide:
    """A side that is ready.

    :ivar start_up: seconds from the start of its interpreter until it was ready.
    :ivar patience: seconds to wait for an answer.
    """

    def __init__(self, process: subprocess.Popen[str], meter: Meter, log: Path) -> None:
        self._process = process
        self._meter = meter
        self._log = log
        self.start_up = 0.0
        self.patience = PATIENCE

    def get_ready(self, task: Task, begun: float) -> None:
        self._ask(task)
        self.start_up = time.perf_counter() - begun

    def run(self, task: Task) -> dict[str, Any]:
        """:returns: ``rows``, ``value``, ``seconds``, ``details``, and what ``Meter.end`` says.
        :raises SideFailed: it could not; the text says why.
        """
        self._meter.begin()
        answer = self._ask(task)
        return answer | self._meter.end()

    def _ask(self, task: Task) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # its end is what there is to read then
            self._process.stdin.write(json.dumps(asdict(task)) + "\n")
            self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], self.patience)[0]:
            raise SideBusy(f"not done after {self.patience:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise SideFailed(f"ended: {last_line(self._log)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer


@contextmanager
def running_side(name: str, data: Data, task: Task, wire: Wire) -> Iterator[RunningSide]:
    """Starts a side and gets it ready; ends it and all its children afterwards."""
    side = SIDES[name]
    log = data.server.home.parent / f"side-{name}.log"
    begun = time.perf_counter()
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
        running.get_ready(task, begun)
        yield running
    finally:
        meter.close()
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Lets the side close down, and then ends what is left of its group."""
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
    """Process ids of the nodes of this machine's cluster: what their workers do, they and their children do.

    None where there is no cluster, or no Docker.
    """
    label = f"label=burla-cluster-member={os.environ.get('BURLA_CLUSTER_NAME') or 'kit'}"
    try:
        nodes = ask_docker("ps", "--quiet", "--filter", label)
        return [int(pid) for pid in ask_docker("inspect", "--format", "{{.State.Pid}}", *nodes)] if nodes else []
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []


def ask_docker(*arguments: str) -> list[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.split()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:400] if lines else "without a word"
