"""A worker process of the local engine: ``python local_worker.py FILE_DESCRIPTOR PATH_OF_CALL``.

It reads the pickled callable from the connection, then batches of items until the connection ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
from importlib.machinery import SourceFileLoader
from multiprocessing.connection import Connection
from types import ModuleType


def main(descriptor: int, call_file: str) -> None:
    """Send the pickled result of each item as soon as it is processed, and None if the rest of a batch was left."""
    threading.Thread(target=_end_with_engine, args=[os.getppid()], daemon=True).start()
    module = ModuleType("call")
    SourceFileLoader("call", call_file).exec_module(module)
    connection = Connection(descriptor)
    call = module.make_call(connection.recv_bytes())
    while True:
        batch = pickle.loads(connection.recv_bytes())  # noqa: S301 - from the engine
        left = len(batch)
        for result in call(batch):
            connection.send_bytes(pickle.dumps(result, protocol=5))
            left -= 1
        if left:
            connection.send_bytes(pickle.dumps(None))


def _end_with_engine(engine: int) -> None:
    # A worker in the middle of a call does not notice that the connection ended.
    while os.getppid() == engine:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):  # the engine has ended
        main(int(sys.argv[1]), sys.argv[2])
