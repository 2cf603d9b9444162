"""The Airflow of a soak: its processes, its scheduler, and what its metadata database says."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from burla_provider.demo.children import end_with_parent
from burla_provider.task.watermark import WINDOW
from tests.support.airflow_server import AirflowServer
from tests.support.chaos import command

PARALLELISM = 5
SETTINGS = {
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",  # until Airflow has the connections
    "CORE__PARALLELISM": str(PARALLELISM),
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",  # the tasks of a killed scheduler
}
_TASK = re.compile(r"airflow worker -- ([0-9a-f-]{36})")
_OF_PROVIDER = ("/client.py", "/local_worker.py")
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Run:
    """A DAG run.

    :param value: what its task has pushed to XCom.
    """

    dag: str
    id: str
    state: str
    minute: int
    started: float
    value: Any


class SoakAirflow:
    """:param metadata: conninfo of the metadata database.

    :ivar killed_tries: the ids of the tries whose task was killed.
    """

    def __init__(self, server: AirflowServer, metadata: str) -> None:
        self.server = server
        self.killed_tries: set[str] = set()
        self._metadata = psycopg.connect(metadata, autocommit=True)
        self._scheduler: subprocess.Popen[bytes] | None = None

    def kill_scheduler(self) -> None:
        """Kill the scheduler and its tasks, but not the clients and workers of these tasks. Start another one."""
        dead = [process for process in descendants() if command(process)[-1:] == ["scheduler"]]
        for child in [child for process in dead for child in process.children(recursive=True)]:
            dead += [] if is_of_provider(child) else [child]
        self.killed_tries |= {found[1] for process in dead if (found := task_of(process))}
        for process in dead:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        log = self.server.log.with_name(f"scheduler-{int(time.time())}.log")
        with log.open("w") as output:
            self._scheduler = subprocess.Popen(
                [sys.executable, "-m", "airflow", "scheduler"],
                env=self.server.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=end_with_parent(signal.SIGKILL),
            )

    def is_complete(self) -> bool:
        """Return whether the scheduler has all its workers, and half of the DAGs have succeeded."""
        workers = [process for process in descendants() if "LocalExecutor" in " ".join(command(process))]
        query = "SELECT count(DISTINCT dag_id) >= 5 FROM dag_run WHERE state = 'success'"
        return len(workers) >= PARALLELISM and self.ask(query) == [(True,)]

    def close(self) -> None:
        """End what ``airflow standalone`` does not end."""
        self._metadata.close()
        if self._scheduler is not None:
            self._scheduler.kill()
            for child in descendants():
                if "airflow" in " ".join(command(child)):
                    with suppress(psutil.NoSuchProcess):
                        child.kill()

    def ask(self, query: str) -> list[Any]:
        """Return the rows of a query on the metadata database."""
        return self._metadata.execute(query.encode()).fetchall()

    def runs(self) -> list[Run]:
        """Return all DAG runs."""
        query = """
            SELECT dag_run.dag_id, dag_run.run_id, dag_run.state, extract(minute FROM dag_run.run_after)::integer,
                   coalesce(extract(epoch FROM dag_run.start_date), 0)::double precision, xcom.value
            FROM dag_run LEFT JOIN xcom ON (xcom.dag_run_id, xcom.key) = (dag_run.id, 'return_value')
            ORDER BY dag_run.dag_id, dag_run.id
        """
        return [Run(*fields, value=_value(value)) for *fields, value in self.ask(query)]

    def runs_without_callback(self) -> set[tuple[str, str]]:
        """Return DAG and run of each task that was killed after Airflow had set its state to success.

        Its callbacks, which come after that, may not have run.
        """
        tries = self.ask("SELECT dag_id, run_id, id::text FROM task_instance WHERE state = 'success'")
        return {(dag, run) for dag, run, number in tries if number in self.killed_tries}

    def state_rows(self) -> Counter[str]:
        """Return the keys in the state stores, and how often they are there.

        What a callback would have deleted is left out: Airflow deletes it with the DAG run, or after 30 days.
        """
        rows = self.ask("""
            SELECT key, dag_id, run_id FROM task_state_store UNION ALL SELECT 'watermark', '', '' FROM asset_state_store
        """)
        without = self.runs_without_callback()
        return Counter(key for key, dag, run in rows if key == WINDOW or (dag, run) not in without)

    def watermark(self, asset: str) -> Any:
        """Return the end of the last window of an incremental task, or None if no window is stored."""
        rows = self.ask(f"""
            SELECT value FROM asset_state_store JOIN asset ON asset.id = asset_id WHERE asset.name = '{asset}'
        """)
        return _value(_value(rows[0][0]))["end"] if rows else None

    def trigger(self, dag: str) -> None:
        """Start a run."""
        self.server.start_run(dag)

    def unpause(self, count: int) -> None:
        """Wait until Airflow knows this number of DAGs, and start them."""
        self.server.wait_for("the DAGs", lambda: self.ask("SELECT count(*) FROM dag") == [(count,)], 300)
        self.server.call("PATCH", "/dags?dag_id_pattern=soak_%25", {"is_paused": False})

    def pause(self, dag: str, is_paused: bool) -> None:
        """Pause a DAG, or go on. A paused DAG starts no run, and its running run starts no task."""
        self.server.call("PATCH", f"/dags/{dag}", {"is_paused": is_paused})


def adopt_orphans() -> None:
    """Make processes whose parent is killed children of this process, so that it sees them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[psutil.Process]:
    """Return the processes below this one, without those of PostgreSQL, and forget orphans that have ended."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found += [process] if process.name() != "postgres" else []
            elif process.ppid() == os.getpid():
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.NoSuchProcess, ChildProcessError):
            pass
    return found


def task_of(process: psutil.Process) -> re.Match[str] | None:
    """Return a match whose first group is the id of the try, if the process is a task."""
    return _TASK.match(" ".join(command(process)))


def is_of_provider(process: psutil.Process) -> bool:
    """Return whether it is a client or a worker of the local engine."""
    return any(part.endswith(_OF_PROVIDER) for part in command(process))


def _value(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) else stored
