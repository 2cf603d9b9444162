"""Kill parts of a running task: its client, its workers, their sessions on the server, or itself."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import psutil
import psycopg


class Chaos:
    """Kills something of a running task now and then."""

    def __init__(self, seed: int, connection: psycopg.Connection[Any]) -> None:
        self.random = random.Random(seed)
        self.connection = connection
        self.next = time.monotonic() + self.random.uniform(0.2, 0.6)
        self.killed: list[str] = []

    def __call__(self) -> bool:
        if time.monotonic() >= self.next:
            self.next = time.monotonic() + self.random.uniform(0.1, 0.5)
            before = len(self.killed)
            kinds = [self.kill_worker, self.kill_backend, self.kill_client, self.kill_task]
            for kill in self.random.sample(kinds, len(kinds)):
                kill()  # before the job has started, there may be no such process
                if len(self.killed) > before:
                    break
        return False

    def kill_worker(self) -> None:
        self._kill("local_worker.py", signal.SIGKILL)

    def kill_client(self) -> None:
        self._kill("client.py", signal.SIGKILL)

    def kill_task(self) -> None:
        # The task is a fork of this process; the database server is a child too, and stays.
        us = psutil.Process()
        for task in [child for child in us.children() if _command(child) == us.cmdline()]:
            task.send_signal(self.random.choice([signal.SIGTERM, signal.SIGKILL]))
            self.killed.append("task")

    def kill_backend(self) -> None:
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'test_dag.t%#%'"
        )
        row = self.connection.execute(query).fetchone()
        self.killed += ["backend"] * (row[0] if row else 0)

    def _kill(self, program: str, number: int) -> None:
        processes = psutil.Process().children(recursive=True)
        victims = [one for one in processes if any(part.endswith(program) for part in _command(one))]
        if victims:
            self.random.choice(victims).send_signal(number)
            self.killed.append(program)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
