"""The local engine: the same contract as Burla's, in worker processes on this machine.

Loaded by ``client.py`` by its path. Every worker works one item at a time, so that when one dies the item that it
died of is known.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection, wait
from typing import Any

_MAX_DEATHS = 3  # workers that one item may take with it
_END_SECONDS = 5.0  # an interpreter that ends waits for the threads that the user's function has left, maybe for ever
_HERE = os.path.dirname(os.path.abspath(__file__))


class Run:
    """One job. ``run`` returns when every item is answered."""

    def __init__(self, job: dict[str, Any], client: Any) -> None:
        self._work: bytes = job["work"]
        self._items: dict[int, bytes] = job["items"]
        self._waiting = collections.deque(self._items)
        self._deaths: collections.Counter[int] = collections.Counter()
        self._workers: dict[Connection, _Worker] = {}
        self._dismissed: list[_Worker] = []
        parallelism = job["options"]["max_parallelism"] or os.cpu_count() or 1
        self._parallelism = min(parallelism, len(self._items))
        self._client = client

    def run(self) -> None:
        self._client.send("started", f"local-{os.getpid()}", None)
        while self._waiting or self._workers:
            self._feed()
            ready = wait(list(self._workers))
            for worker in [worker for connection, worker in self._workers.items() if connection in ready]:
                self._take_answer(worker)
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._dismissed:
            worker.end(deadline)

    def end(self, cancel: bool) -> None:
        """Nothing to do: the workers are in the client's process group."""

    def _feed(self) -> None:
        while self._waiting and len(self._workers) < self._parallelism:
            worker = _Worker(self._work)
            self._workers[worker.connection] = worker
            self._give(worker)

    def _give(self, worker: _Worker) -> None:
        index = self._waiting.popleft()
        worker.give(index, self._items[index])

    def _take_answer(self, worker: _Worker) -> None:
        try:
            index, ok, answer = worker.answer()
        except (EOFError, OSError):  # OSError: in the middle of an answer
            self._bury(worker)
            return
        self._client.send("answered" if ok else "broken", index, answer)
        del self._items[index]
        if self._waiting:
            self._give(worker)
        else:
            self._dismiss(worker)

    def _bury(self, worker: _Worker) -> None:
        self._dismiss(worker)
        index, status = worker.index, worker.end(time.monotonic() + _END_SECONDS)
        self._deaths[index] += 1
        if self._deaths[index] < _MAX_DEATHS:
            self._client.send("line", f"A worker process died ({_died_of(status)}); trying again.", index)
            self._waiting.append(index)
        else:
            error = f"{_MAX_DEATHS} worker processes died of this item ({_died_of(status)})."
            self._client.send("broken", index, error)
            del self._items[index]

    def _dismiss(self, worker: _Worker) -> None:
        del self._workers[worker.connection]
        worker.connection.close()
        self._dismissed.append(worker)


class _Worker:
    def __init__(self, work: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            command = [sys.executable, "-u", "-P", f"{_HERE}/local_worker.py", str(descriptor), f"{_HERE}/call.py"]
            self.process = subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL)
        self.connection = Connection(ours.detach())
        self.index = -1
        self._send(work)

    def give(self, index: int, item: bytes) -> None:
        self.index = index
        self._send(pickle.dumps((index, item), protocol=5))

    def answer(self) -> tuple[int, bool, Any]:
        index, ok, answer = pickle.loads(self.connection.recv_bytes())  # noqa: S301 - from call.py
        return index, ok, answer

    def end(self, deadline: float) -> int:
        """Wait for its end until the deadline, then kill it. Its exit status."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(max(0, deadline - time.monotonic()))
        self.process.kill()
        return self.process.wait()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # it died; reading from it says so next
            self.connection.send_bytes(message)


def _died_of(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
