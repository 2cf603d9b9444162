"""Measure a run from outside: processor time, memory, connections, bytes over the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg

from benchmarks.processes import ProcessTrees

INTERVAL = 0.2
"""Seconds between two samples."""

MEMORY_EVERY = 5
"""Memory is measured once per this number of samples: it slows down processes that use much memory."""

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"


class Memory(NamedTuple):
    """MB in use."""

    task: float
    workers: float


class Meter:
    """Take a sample every ``INTERVAL`` seconds. Call ``begin`` before a run and ``end`` after it.

    :param task: process id of the side. Its children are included.
    :param workers: process ids of the cluster's nodes, which are idle.
    :param database: process id of the server.
    :param conninfo: used to count the server's connections.
    :param wire: returns the number of bytes sent so far; None if unknown.
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
        self._samples: list[Memory] = []
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
            self._samples, self._connections = [self._memory()], [self._count_connections()]

    def end(self) -> dict[str, Any]:
        """Return the cost since ``begin``: seconds of CPU, and the maximum of memory and connections.

        The memory of workers is in addition to their memory before the side's first job.
        """
        with self._lock:
            after, sent = self._cpu(), self._wire()
            samples, connections = [*self._samples, self._memory()], [*self._connections, self._count_connections()]
        return {
            **{f"cpu_{name}": after[name] - self._before[name] for name in after},
            "memory_task": max(sample.task for sample in samples),
            "memory_workers": max(0.0, *(sample.workers - self._idle for sample in samples)),
            "connections": max(connections),
            "bytes": None if sent is None or self._bytes is None else sent - self._bytes,
        }

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            with self._lock:
                self._cpu()
                self._connections.append(self._count_connections())
                if len(self._connections) % MEMORY_EVERY == 0:
                    self._samples.append(self._memory())

    def _cpu(self) -> dict[str, float]:
        return {name: part.cpu() for name, part in self._parts.items()}

    def _memory(self) -> Memory:
        return Memory(self._parts["task"].memory(), self._parts["workers"].memory())

    def _count_connections(self) -> int:
        row = self._connection.execute(_CONNECTIONS).fetchone()
        return row[0] if row else 0


class Wire:
    """Count the bytes between the server and its clients, headers included, with two iptables rules without a target.

    Without root or iptables nothing is counted. The rules are removed at the end.
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
        result = subprocess.run(["iptables", "-w", "-nvxL", chain], capture_output=True, text=True, check=True)
        return next((int(line.split()[1]) for line in result.stdout.splitlines() if line.rstrip().endswith(mark)), 0)

    def _change(self, action: str, chain: str, side: str, _mark: str, port: int) -> bool:
        command = ["iptables", "-w", action, chain, "-p", "tcp", side, str(port)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
