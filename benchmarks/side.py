"""Runs one side in this process: ``python -m benchmarks.side NAME``, spoken to by ``compare.py`` over stdin and stdout.

A line of JSON in is a task: the first says what to get ready for, each further one is worked and answered by a line.
Standard library only, because every side has its own interpreter.
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # engines are to be shut down
    answers = take_stdout()
    side = importlib.import_module(f"benchmarks.sides.{name}")
    with side.ready(read_task()) as run:
        say(answers, ready=True)
        while (task := read_task()) is not None:
            begun = time.perf_counter()
            try:
                rows, value, details = run(task)
            except Exception as error:
                say(answers, error=f"{type(error).__name__}: {error}"[:400])
                continue
            seconds = time.perf_counter() - begun
            say(answers, seconds=seconds, rows=rows, value=None if value is None else str(value), details=details)


def take_stdout() -> IO[str]:
    """The way to the harness. What tools and engines print goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def read_task() -> Task | None:
    line = sys.stdin.readline()
    if not line:
        return None
    fields = json.loads(line)
    return Task(**{**fields, "columns": tuple(fields["columns"])})


def say(answers: IO[str], **what: Any) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])
