"""Run one side in this process: ``python -m benchmarks.side NAME``. ``runs.py`` uses its stdin and stdout.

Each line of input is a task in JSON. The first one prepares the side; each further one is run, and its result is
written as one line. Only the standard library is imported, because each side has its own interpreter.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from typing import IO, Any

from benchmarks.task import Task


def main(name: str) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that engines shut down
    responses = redirect_stdout()
    side = importlib.import_module(f"benchmarks.sides.{name}")
    with side.ready(read_task()) as run:
        send(responses, ready=True)
        while (task := read_task()) is not None:
            started = time.perf_counter()
            try:
                rows, value, details = run(task)
            except Exception as error:
                send(responses, error=f"{type(error).__name__}: {error}"[:400])
                continue
            seconds = time.perf_counter() - started
            send(responses, seconds=seconds, rows=rows, value=None if value is None else str(value), details=details)


def redirect_stdout() -> IO[str]:
    """Send all later output of tools and engines to stderr, and return the original stdout."""
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return stdout


def read_task() -> Task | None:
    line = sys.stdin.readline()
    if not line:
        return None
    fields = json.loads(line)
    return Task(**{**fields, "columns": tuple(fields["columns"])})


def send(responses: IO[str], **response: Any) -> None:
    responses.write(json.dumps(response) + "\n")
    responses.flush()


if __name__ == "__main__":
    main(sys.argv[1])
