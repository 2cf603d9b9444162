"""What a run costs, seen from outside: processor time, memory, connections, bytes over the wire."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg

from benchmarks.processes import ProcessTrees

PAUSE = 0.2
"""Seconds between two looks."""

MEMORY_EVERY = 5
"""One look at memory in so many looks: the kernel adds it up page by page, which slows those that have much of it."""

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class Look(NamedTuple):
    """What is in use at one moment; memory in MB."""

    task: float
    workers: float


class Meter:
    """Looks every ``PAUSE`` seconds; ``begin`` and ``end`` are around what is to be measured.

    :param task: process id of the side: its children are counted with it.
    :param workers: process ids of the cluster's nodes, which nobody has given work yet.
    :param database: process id of the server.
    :param conninfo: how to ask it for its connections.
    :param wire: reads how many bytes went over the wire so far; None: not known.
    """

    def __init__(
        self, task: int, workers: list[int], database: int, conninfo: str, wire: Callable[[], int | None]
    ) -> None:
        self._parts = {
            "task": ProcessTrees([task]),
            "workers": ProcessTrees(workers),
            "database": ProcessTrees([database]),
        }
        self._connection = psycopg.connect(conninfo, autocommit=True)
        self._wire = wire
        self._lock = threading.Lock()
        self._before = self._cpu()
        self._idle = self._memory().workers
        self._looks: list[Look] = []
        self._connections: list[int] = []
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
            self._before, self._bytes = self._cpu(), self._wire()
            self._looks, self._connections = [self._memory()], [self._connected()]

    def end(self) -> dict[str, Any]:
        """The cost since ``begin``: CPU in seconds; of memory and connections the most that was seen at one time.

        The workers' memory is what they have above their idle state, which is that of before the side's first job.
        """
        with self._lock:
            after, sent = self._cpu(), self._wire()
            looks, connections = [*self._looks, self._memory()], [*self._connections, self._connected()]
        return {
            **{f"cpu_{name}": after[name] - self._before[name] for name in after},
            "memory_task": max(look.task for look in looks),
            "memory_workers": max(0.0, *(look.workers - self._idle for look in looks)),
            "connections": max(connections),
            "bytes": None if sent is None or self._bytes is None else sent - self._bytes,
        }

    def _watch(self) -> None:
        while not self._stop.wait(PAUSE):
            with self._lock:
                self._cpu()
                self._connections.append(self._connected())
                if len(self._connections) % MEMORY_EVERY == 0:
                    self._looks.append(self._memory())

    def _cpu(self) -> dict[str, float]:
        return {name: part.cpu() for name, part in self._parts.items()}

    def _memory(self) -> Look:
        return Look(self._parts["task"].memory(), self._parts["workers"].memory())

    def _connected(self) -> int:
        row = self._connection.execute(_CONNECTIONS).fetchone()
        return row[0] if row else 0


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
