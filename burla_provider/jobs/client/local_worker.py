"""The worker processes of the local engine: ``python local_worker.py FILE_DESCRIPTOR PATH_OF_CALL MODULE...``.

The first process imports the modules, and forks a worker for each connection that the engine sends: only one process
pays for the imports. It has one thread, so that it can be forked safely. A worker reads the pickled callable from its
connection, then batches of items until the connection ends.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

_REQUEST = struct.Struct("!id")


def main(engine: socket.socket, call_file: str, modules: list[str]) -> None:
    """Fork a worker for each request that has a connection; otherwise wait for a worker. Answer with its id or status.

    Returns when the engine has ended, and in each worker when its connection has ended.
    """
    for name in modules:
        with contextlib.suppress(ImportError):  # the call that needs it fails with the reason
            importlib.import_module(name)
    call = ModuleType("call")
    SourceFileLoader("call", call_file).exec_module(call)
    while True:
        request, descriptors, _, _ = socket.recv_fds(engine, _REQUEST.size, 1)
        if not request:
            return
        pid, seconds = _REQUEST.unpack(request)
        if not descriptors:
            answer = _wait(pid, seconds)
        elif (answer := os.fork()) == 0:
            engine.close()
            os.set_inheritable(descriptors[0], False)  # a program of the user's function must not keep it open
            _work(Connection(descriptors[0]), call)
            return
        else:
            os.close(descriptors[0])
        engine.send(answer.to_bytes(4, "big", signed=True))


def _work(connection: Connection, call_module: Any) -> None:
    """Send "loaded", the pickled result of each item as soon as it is processed, and None if a batch was left."""
    # A process that the user's function forks must not answer, or keep the connection open when the worker has died.
    os.register_at_fork(after_in_child=connection.close)
    threading.Thread(target=_end_with_parent, args=[os.getppid()], daemon=True).start()
    call, is_loaded = call_module.Call(connection.recv_bytes()), False
    while True:
        try:
            batch = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the engine
        except EOFError:  # the job needs this worker no more
            call.close()
            return
        if not is_loaded:
            call.load(batch[0][0])
            connection.send_bytes(pickle.dumps("loaded"))
            is_loaded = True
        left = len(batch)
        for result in call(batch):
            connection.send_bytes(pickle.dumps(result, protocol=5))
            left -= 1
        if left:
            connection.send_bytes(pickle.dumps(None))


def _wait(pid: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        time.sleep(0.001)


def _end_with_parent(parent: int) -> None:
    # A worker in the middle of a call does not notice that the connection ended.
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):  # the engine has ended
        main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
