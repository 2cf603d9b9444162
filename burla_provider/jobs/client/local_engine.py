"""The local engine: run a job in worker processes on this machine, with the same contract as Burla's engine.

``client.py`` loads this file by path. A worker processes the items of a batch in their order and sends each result at
once, so the item that killed it is known.
"""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from multiprocessing.connection import Connection, wait
from typing import Any

_MAX_CRASHES = 3  # workers that one item may kill, or that may die one after another while they load
_CRASHES = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV}
_END_SECONDS = 5.0  # a worker that exits waits for the threads of the user's function, possibly forever
_HERE = os.path.dirname(os.path.abspath(__file__))


class Setup:
    """The process that forks the workers. It imports the modules that all workers need while the task plans.

    :param setup: the frame that ``runner.py`` sends first.
    """

    def __init__(self, setup: dict[str, Any], client: Any) -> None:
        self._modules: tuple[str, ...] = setup["modules"]
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None
        self._server: socket.socket | None = None

    def prepare(self) -> None:
        """Start the process."""
        self._server, theirs = socket.socketpair()
        with theirs:
            descriptor = theirs.fileno()
            files = [f"{_HERE}/local_worker.py", str(descriptor), f"{_HERE}/call.py"]
            command = [sys.executable, "-u", "-P", *files, *self._modules]
            self._process = subprocess.Popen(command, pass_fds=[descriptor], stdin=subprocess.DEVNULL)

    def end(self) -> None:
        """End the process. Workers that still run end with the client's process group."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def start_worker(self) -> tuple[int, Connection]:
        """Return the id of a new worker process, and the connection to it."""
        ours, theirs = socket.socketpair()
        with theirs:
            pid = self._request(0, 0.0, theirs.fileno())
        return pid, Connection(ours.detach())

    def wait_for_worker(self, pid: int, seconds: float) -> int:
        """Wait for the exit of a worker, then kill it. Return the exit status."""
        return self._request(pid, max(0.0, seconds))

    def _request(self, pid: int, seconds: float, *descriptors: int) -> int:
        assert self._server is not None  # noqa: S101 (``prepare`` was called)
        with contextlib.suppress(ConnectionError):
            socket.send_fds(self._server, [struct.pack("!id", pid, seconds)], descriptors)
            if answer := self._server.recv(4):
                return int.from_bytes(answer, "big", signed=True)
        raise self._client.JobFailedError("lost", "The process that starts the workers died.")


class JobRun:
    """The run of one job."""

    def __init__(self, job: dict[str, Any], client: Any, setup: Setup) -> None:
        self._pickled_callable: bytes = job["pickled_callable"]
        self._items: dict[int, bytes] = job["items"]
        self._waiting = collections.deque(self._items)
        self._postponed: collections.deque[int] = collections.deque()
        self._crashes: collections.Counter[int] = collections.Counter()
        self._failed_loads = 0
        self._workers: dict[Connection, _Worker] = {}
        self._stopping: list[_Worker] = []
        parallelism = job["options"]["max_parallelism"] or os.cpu_count() or 1
        self._parallelism = min(parallelism, len(self._items))
        self._batched_for = job["batched_for"] and parallelism
        self._batch_size = client.load_file(f"{_HERE}/batches.py").batch_size
        self._client = client
        self._setup = setup

    def run(self) -> None:
        """Run every item, and wait for the workers to exit."""
        self._client.send("started", f"local-{os.getpid()}", None)
        while self._has_waiting or self._workers:
            self._start_workers()
            ready = wait(list(self._workers))
            for worker in [worker for connection, worker in self._workers.items() if connection in ready]:
                self._handle_result(worker)
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._stopping:
            worker.end(deadline)

    def end(self, cancel: bool) -> None:
        """Do nothing: the workers end with the client's process group."""

    @property
    def _has_waiting(self) -> bool:
        return bool(self._waiting or self._postponed)

    def _start_workers(self) -> None:
        while self._has_waiting and len(self._workers) < self._parallelism:
            worker = _Worker(self._setup, self._pickled_callable)
            self._workers[worker.connection] = worker
            self._send_batch(worker)

    def _send_batch(self, worker: _Worker) -> None:
        if self._postponed:  # they take long, so that each has a call of its own
            batch = [self._postponed.popleft()]
        else:
            size = self._batch_size(len(self._waiting), self._batched_for) if self._batched_for else 1
            batch = [self._waiting.popleft() for _ in range(size)]
        worker.send_batch([(index, self._items[index]) for index in batch])

    def _handle_result(self, worker: _Worker) -> None:
        try:
            answer = worker.read_result()
        except (EOFError, OSError):  # OSError: the worker died while it sent a result
            self._handle_crash(worker)
            return
        if answer == "loaded":
            self._failed_loads, worker.has_loaded = 0, True
            return
        if answer is None:
            self._postponed.extend(worker.indexes)
            worker.indexes.clear()
        else:
            index, outcome, result = answer
            self._client.send(outcome, index, result, *([] if outcome == "succeeded" else [self._crashes[index] + 1]))
            del self._items[index]
        if worker.indexes:
            return
        if self._has_waiting:
            self._send_batch(worker)
        else:
            self._remove(worker)
            self._stopping.append(worker)

    def _handle_crash(self, worker: _Worker) -> None:
        self._remove(worker)
        status = worker.end(time.monotonic() + _END_SECONDS)
        if not worker.has_loaded:
            self._handle_failed_load(worker, _describe(status))
            return
        index = worker.indexes.popleft()
        self._waiting.extendleft(reversed(worker.indexes))
        self._crashes[index] += 1
        if self._crashes[index] < _MAX_CRASHES:
            self._client.send("line", f"A worker process died ({_describe(status)}); running its item again.", index)
            self._waiting.append(index)
        else:
            error = f"Its worker died {_MAX_CRASHES} times ({_describe(status)})."
            self._client.send("crashed", index, error, _MAX_CRASHES)
            del self._items[index]

    def _handle_failed_load(self, worker: _Worker, status: str) -> None:
        # No item is the cause: all workers may die so.
        self._failed_loads += 1
        if self._failed_loads == _MAX_CRASHES:
            problem = f"{_MAX_CRASHES} worker processes died one after another ({status}) while they loaded it."
            raise self._client.JobFailedError("not loaded", problem)
        self._client.send("line", f"A worker process died ({status}) while it loaded the function.", None)
        self._waiting.extendleft(reversed(worker.indexes))

    def _remove(self, worker: _Worker) -> None:
        del self._workers[worker.connection]
        worker.connection.close()


class _Worker:
    def __init__(self, setup: Setup, pickled_callable: bytes) -> None:
        self._setup = setup
        self._pid, self.connection = setup.start_worker()
        self.indexes: collections.deque[int] = collections.deque()  # of the items without a result
        self.has_loaded = False
        self._send(pickled_callable)

    def send_batch(self, batch: list[tuple[int, bytes]]) -> None:
        self.indexes.extend(index for index, _ in batch)
        self._send(pickle.dumps(batch, protocol=5))

    def read_result(self) -> Any:
        """Return ``(index, outcome, result)`` of the next item; "loaded"; or None if the rest of the batch was left."""
        answer = pickle.loads(self.connection.recv_bytes())  # noqa: S301 - from call.py
        if not isinstance(answer, tuple):
            return answer
        self.indexes.popleft()
        return answer

    def end(self, deadline: float) -> int:
        """Wait for the exit until the deadline, then kill the process. Return the exit status. Call this once."""
        return self._setup.wait_for_worker(self._pid, deadline - time.monotonic())

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the worker died, which the next read reports
            self.connection.send_bytes(message)


def _describe(status: int) -> str:
    text, number = (f"signal {-status}", -status) if status < 0 else (f"exit status {status}", status - 128)
    if number == signal.SIGKILL:
        return f"{text}: killed, usually because memory ran out"
    return f"{text}: a crash in native code" if number in _CRASHES else text
