"""What a run costs, seen from outside: processor time, memory, connections, bytes over the wire."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psutil
import psycopg

PAUSE = 0.2
"""Seconds between two looks."""

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class Look(NamedTuple):
    """What is in use at one moment; memory in MB."""

    task_memory: float
    workers_memory: float
    connections: int


class Meter:
    """Looks every ``PAUSE`` seconds; ``begin`` and ``end`` are around what is to be measured.

    :param task: process id of the side: its children are counted with it.
    :param workers: process ids of the cluster's nodes.
    :param database: process id of the server.
    :param conninfo: how to ask it for its connections.
    :param wire: reads how many bytes went over the wire so far; None: not known.
    """

    def __init__(
        self, task: int, workers: list[int], database: int, conninfo: str, wire: Callable[[], int | None]
    ) -> None:
        self._parts = {
            "task": [psutil.Process(task)],
            "workers": [psutil.Process(pid) for pid in workers],
            "database": [psutil.Process(database)],
        }
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._wire = wire
        self._lock = threading.Lock()
        self._looks: list[Look] = []
        self._before: dict[str, float] = {}
        self._bytes: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def begin(self) -> None:
        with self._lock:
            self._looks = [self._look()]
            self._before, self._bytes = self._cpu(), self._wire()

    def end(self) -> dict[str, Any]:
        """The cost since ``begin``: CPU in seconds; of memory and connections the most that was seen at one time."""
        with self._lock:
            looks = [*self._looks, self._look()]
            after, sent = self._cpu(), self._wire()
        return {
            **{f"cpu_{name}": after[name] - self._before[name] for name in after},
            "memory_task": max(look.task_memory for look in looks),
            "memory_workers": max(look.workers_memory for look in looks) - looks[0].workers_memory,
            "connections": max(look.connections for look in looks),
            "bytes": None if sent is None or self._bytes is None else sent - self._bytes,
        }

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE):
            with self._lock:
                self._looks.append(self._look())

    def _look(self) -> Look:
        row = self._connection.execute(_CONNECTIONS).fetchone()
        return Look(memory(self._parts["task"]), memory(self._parts["workers"]), row[0] if row else 0)

    def _cpu(self) -> dict[str, float]:
        return {name: cpu(roots) for name, roots in self._parts.items()}


def cpu(roots: list[psutil.Process]) -> float:
    """Seconds of the processes and all below them; children that ended are in their parents' times."""
    return sum(sum(times[:4]) for times in seen(roots, lambda process: process.cpu_times()))


def memory(roots: list[psutil.Process]) -> float:
    """MB of the processes and all below them; what processes share is counted once."""
    return sum(seen(roots, lambda process: process.memory_full_info().pss)) / 2**20


def seen(roots: list[psutil.Process], look: Callable[[psutil.Process], Any]) -> list[Any]:
    """What ``look`` sees of every process of the trees that is still there."""
    found = []
    for process in [process for root in roots for process in family(root)]:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            found.append(look(process))
    return found


def family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Wire:
    """Counts the bytes between the server and everybody, headers included: two rules of iptables without a target.

    Needs root and iptables; otherwise nothing is counted. Leaves no rule behind.
    """

    def __init__(self, port: int) -> None:
        self._rules = [("OUTPUT", "--sport", f"spt:{port}", port), ("INPUT", "--dport", f"dpt:{port}", port)]
        self._works = os.geteuid() == 0 and shutil.which("iptables") is not None

    def __enter__(self) -> Wire:
        self._works = self._works and all(self._change("-I", *rule) for rule in self._rules)
        return self

    def __exit__(self, *_: object) -> None:
        for rule in self._rules if self._works else ():
            self._change("-D", *rule)

    def read(self) -> int | None:
        return sum(self._count(chain, mark) for chain, _, mark, _ in self._rules) if self._works else None

    def _count(self, chain: str, mark: str) -> int:
        done = subprocess.run(["iptables", "-w", "-nvxL", chain], capture_output=True, text=True, check=True)
        return next((int(line.split()[1]) for line in done.stdout.splitlines() if line.rstrip().endswith(mark)), 0)

    def _change(self, what: str, chain: str, side: str, _mark: str, port: int) -> bool:
        command = ["iptables", "-w", what, chain, "-p", "tcp", side, str(port)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
