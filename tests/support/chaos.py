"""Kill parts of a running task: its client, its workers, their sessions on the server, or itself."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil
import psycopg


class Chaos:
    """Kills something of a running task now and then.

    :param connections: one to each server.
    """

    def __init__(self, seed: int, *connections: psycopg.Connection[Any]) -> None:
        self.random = random.Random(seed)
        self.connections = connections
        self.next = time.monotonic() + self.random.uniform(0.2, 0.6)
        self.kill = self._draw()
        self.killed: list[str] = []

    def __call__(self) -> bool:
        if time.monotonic() >= self.next:
            before = len(self.killed)
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                self.kill()
            if len(self.killed) > before:  # before the job has started, there may be no such process
                self.next = time.monotonic() + self.random.uniform(0.1, 0.5)
                self.kill = self._draw()
        return False

    def _draw(self) -> Callable[[], None]:
        return self.random.choice([self.kill_worker, self.kill_backend, self.kill_client, self.kill_task])

    def kill_worker(self) -> None:
        self._kill("local_worker.py", signal.SIGKILL)

    def kill_client(self) -> None:
        self._kill("client.py", signal.SIGKILL)

    def kill_task(self) -> None:
        # The task is a fork of this process; the database server is a child too, and stays.
        us = psutil.Process()
        for task in [child for child in us.children() if command(child) == us.cmdline()]:
            task.send_signal(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
            self.killed.append("task")

    def kill_backend(self) -> None:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%#%'"
        )
        number = self.random.randrange(len(self.connections))
        [(killed,)] = self.connections[number].execute(query).fetchall()
        self.killed += [f"backend of server {number}"] * killed

    def _kill(self, program: str, number: int) -> None:
        processes = psutil.Process().children(recursive=True)
        chosen = [one for one in processes if any(part.endswith(program) for part in command(one))]
        if chosen:
            self.random.choice(chosen).send_signal(number)
            self.killed.append(program)


def command(process: psutil.Process) -> list[str]:
    """Return the command line of a process; [] if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
