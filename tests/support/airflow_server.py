"""A complete Airflow in a separate home, as ``airflow standalone`` runs it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from burla_provider.demo.children import end_group, end_with_parent

SETTINGS = {
    "CORE__LOAD_EXAMPLES": "False",
    "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    "CORE__TEST_CONNECTION": "Enabled",
    "CORE__PARALLELISM": "3",
    # On a busy machine the API server takes longer than Airflow's 5 s, and a task then fails without a word.
    "WORKERS__EXECUTION_API_TIMEOUT": "120",
    "API__WORKERS": "1",
    "API__HOST": "127.0.0.1",
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
    # On a busy machine a DAG file may take long to parse, and a DAG whose file was not parsed in time has no runs.
    "CORE__DAGBAG_IMPORT_TIMEOUT": "120",
    "DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "180",
    "DAG_PROCESSOR__STALE_DAG_THRESHOLD": "600",
}


class ApiError(OSError):
    """An answer of the REST API that tells of a failure."""

    def __init__(self, request: str, status: int, text: str) -> None:
        super().__init__(f"{request}: HTTP {status} {text[:500]}")
        self.status = status


class NotUp(RuntimeError):
    """Airflow did not come up; the text has the end of its log."""


@dataclass(frozen=True)
class AirflowServer:
    """A running Airflow.

    :param url: where the UI and the REST API are, without a slash at the end.
    :param environment: of its processes.
    """

    url: str
    token: str
    log: Path
    environment: Mapping[str, str] = field(repr=False)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A request to the REST API, ``path`` from after ``/api/v2``; its answer from JSON, None where it is empty."""
        # SQLite refuses a write at once if another one came between its transaction's read and its write.
        attempts = Retrying(retry=retry_if_exception(_is_database_error), stop=stop_after_attempt(5), reraise=True)
        headers = {"Authorization": f"Bearer {self.token}"}
        return attempts(_request, method, f"{self.url}/api/v2{path}", body, headers)

    def find(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """As ``call(method, path, body)``, but None where there is nothing."""
        try:
            return self.call(method, path, body)
        except ApiError as answered:
            if answered.status == 404:
                return None
            raise

    def start_run(self, dag: str, **options: Any) -> Any:
        """Start a run of a DAG as soon as Airflow has parsed its file, and return the run.

        It tries until Airflow starts one: a DAG that can be found can still be stale, and then has no runs.

        :param options: of the run, besides its logical date, which is None.
        """
        path, body = f"/dags/{dag}/dagRuns", {"logical_date": None, **options}
        return self.wait_for(f"a run of {dag}", lambda: self.find(path, "POST", body), 300)

    def wait_for(self, what: str, ready: Any, seconds: float) -> Any:
        """What ``ready()`` answers once that is true; asked twice a second."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := ready():
                return found
            time.sleep(0.5)
        raise TimeoutError(f"Waited {seconds:.0f} s in vain: {what}. Airflow's log ends:\n{_tail(self.log)}")


@contextmanager
def running_airflow(
    home: Path, dags: Path, connections: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]
) -> Iterator[AirflowServer]:
    """Starts ``airflow standalone`` and yields it when it is healthy.

    :param home: an empty directory, for AIRFLOW_HOME.
    :param dags: folder of the DAGs.
    :param connections: id -> fields, saved before it is yielded.
    :param environment: further variables, for the DAGs.
    """
    api, worker_logs, triggerer_logs = _free_ports(3)
    url = f"http://127.0.0.1:{api}"
    settings = {
        **SETTINGS,
        "CORE__DAGS_FOLDER": str(dags),
        # SQLite has one writer at a time. On a busy machine the others' turn may come after its usual 5 s.
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout=60",
        "API__PORT": str(api),
        "API__BASE_URL": url,
        # Another Airflow may run on this machine.
        "LOGGING__WORKER_LOG_SERVER_PORT": str(worker_logs),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggerer_logs),
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    ours = {
        "AIRFLOW_HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }
    log = home / "standalone.log"
    complete = {**inherited, **ours, **environment}
    with log.open("w") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=complete,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            start_new_session=True,
            preexec_fn=end_with_parent(signal.SIGINT),
        )
        try:
            server = AirflowServer(url, _wait_until_healthy(url, child, log), log, complete)
            for conn_id, fields in connections.items():
                server.call("POST", "/connections", {"connection_id": conn_id, **fields})
            yield server
        finally:
            # It ends its own children on SIGINT only.
            end_group(child, signal.SIGINT, 10)


def postgres_connection(conninfo: str) -> dict[str, Any]:
    """The fields of Airflow's connection to a database."""
    known = conninfo_to_dict(conninfo)
    return {
        "conn_type": "postgres",
        "host": known["host"],
        "port": int(known["port"]),
        "login": known["user"],
        "password": known["password"],
        "schema": known["dbname"],
    }


def _wait_until_healthy(url: str, child: subprocess.Popen[str], log: Path) -> str:
    end = time.monotonic() + 600
    while child.poll() is None and time.monotonic() < end:
        try:
            health = _request("GET", f"{url}/api/v2/monitor/health")
            if all(health[part]["status"] == "healthy" for part in ("metadatabase", "scheduler", "dag_processor")):
                return str(_request("GET", f"{url}/auth/token")["access_token"])
        except (OSError, KeyError):
            pass
        time.sleep(0.5)
    raise NotUp(f"Airflow did not come up. Its log, {log}, ends:\n{_tail(log)}")


def _request(method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
    request = urllib.request.Request(
        url,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **(headers or {})},
    )
    try:
        # Longer than SQLite, which has one writer at a time, lets Airflow wait for its turn.
        with urllib.request.urlopen(request, timeout=150) as response:
            content = response.read()
    except urllib.error.HTTPError as error:
        raise ApiError(f"{method} {url}", error.code, error.read().decode()) from None
    return json.loads(content) if content else None


def _is_database_error(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.status == 500 and "Database error" in str(error)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])
