"""Random kills during a soak."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import psycopg

from tests.cluster.jobs.conftest import Cluster
from tests.soak.airflow import SoakAirflow, descendants, task_of
from tests.support.chaos import Chaos
from tests.support.postgres import PostgresServer

_NODE_LOST_SECONDS = 200
"""Burla gives up a node that does not answer after about 190 seconds."""
_NODE_MINUTES = 13
"""Shorter chaos does not kill nodes."""
_NODE_BACK_SECONDS = 400
"""From the kill of a node until the cluster works again."""


class SoakChaos(Chaos):
    """Kill parts of running tasks, the scheduler, the server and the cluster's node, each at its own random times.

    :param seconds: how long kills go on.
    :param airflow: its scheduler is killed.
    :param server: the server of the tables; it is restarted, and its sessions are killed.
    :param cluster: its node is killed; None: no cluster.
    """

    def __init__(
        self, seed: int, seconds: float, airflow: SoakAirflow, server: PostgresServer, cluster: Cluster | None
    ) -> None:
        super().__init__(seed)
        self._airflow = airflow
        self._server = server
        self._cluster = cluster
        self._began = time.monotonic()
        self._end = self._began + seconds
        self._cluster_restart: float | None = None
        # Mean seconds between two kills of a kind.
        kinds: dict[Callable[[], None], float] = {
            self.kill_worker: 20,
            self.kill_client: 30,
            self.kill_task: 25,
            self.kill_backend: 20,
            self.restart_server: 100,
            self.kill_scheduler: 600,
        }
        if cluster is not None and seconds > _NODE_MINUTES * 60:
            kinds[self.kill_node] = 1200
        self._intervals = kinds
        # The first one comes early enough for a short run.
        first = {kill: min(interval, seconds / 2) for kill, interval in kinds.items()}
        self._due = {kill: self._began + self.random.uniform(0.5, 1) * interval for kill, interval in first.items()}

    def __call__(self) -> bool:
        """Kill what is due. Return whether kills go on."""
        now = time.monotonic()
        if self._cluster is not None and self._cluster_restart is not None and now >= self._cluster_restart:
            self._cluster.restart()
            self._cluster_restart = None
        if now >= self._end:
            return self._cluster_restart is not None
        for kill, due in self._due.items():
            if now >= due:
                before = len(self.killed)
                # The server is recovering, or the process has ended: later.
                with suppress(psycopg.OperationalError, psutil.Error):
                    kill()
                for killed in self.killed[before:]:
                    print(f"[{time.monotonic() - self._began:5.0f} s] killed: {killed}", flush=True)
                if len(self.killed) > before:  # otherwise there is no such process at the moment
                    self._due[kill] = time.monotonic() + self._intervals[kill] * self.random.uniform(0.5, 1.5)
        return True

    def kill_task(self) -> None:
        tasks = [(process, found[1]) for process in descendants() if (found := task_of(process))]
        if tasks:
            number = self.random.choice([signal.SIGTERM, signal.SIGKILL])
            process, try_id = self.random.choice(tasks)
            process.send_signal(number)
            self._airflow.killed_tries.add(try_id)
            self.killed.append(f"task ({number.name})")

    def kill_backend(self) -> None:
        query = "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE 'soak%' ORDER BY pid"
        with psycopg.connect(self._server.dsn, autocommit=True) as connection:
            sessions = connection.execute(query).fetchall()
            if sessions:
                pid, name = self.random.choice(sessions)
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                self.killed.append(f"backend of {name}")

    def restart_server(self) -> None:
        if self.random.random() < 0.5:
            self._server.restart()
            self.killed.append("PostgreSQL (restart)")
            return
        # The server ends all sessions and recovers if one of its processes is killed.
        with psycopg.connect(self._server.dsn) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
        self.killed.append("PostgreSQL (crash)")

    def kill_scheduler(self) -> None:
        self._airflow.kill_scheduler()
        self.killed.append("scheduler")

    def kill_node(self) -> None:
        if time.monotonic() + _NODE_BACK_SECONDS > self._end:
            return
        nodes = subprocess.run(["docker", "ps", "-q", "--filter", "name=node_"], capture_output=True, text=True)
        if containers := sorted(nodes.stdout.split()):
            container = self.random.choice(containers)
            subprocess.run(["docker", "kill", container], check=True, capture_output=True)
            self.killed.append(f"node {container}")
            self._cluster_restart = time.monotonic() + _NODE_LOST_SECONDS
