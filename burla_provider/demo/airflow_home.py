"""The Airflow home of the demo: settings, metadata database, log, and the processes that use it."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy.engine import URL

import burla_provider
from burla_provider.demo.children import end_group, end_with_parent
from burla_provider.demo.postgres import choose_port

_CONFIGURATION = """\
[core]
dags_folder = {dags}
load_examples = False
dags_are_paused_at_creation = False
parallelism = 4
test_connection = Enabled
simple_auth_manager_all_admins = True
# Where tasks find the API server. The default is port 8080, which another program may have.
execution_api_server_url = http://127.0.0.1:{port}/execution/
fernet_key = {fernet_key}

[database]
# SQLite has one writer at a time. On a busy machine, writers may wait longer than the default of 5 s.
sql_alchemy_conn = {database}

[api]
host = 127.0.0.1
port = {port}
secret_key = {secret_key}

[api_auth]
jwt_secret = {jwt_secret}
"""


class AirflowHome:
    """The directory ``path`` with all files of Airflow. It is private, because the database contains passwords."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "demo.log"
        self.port = choose_port("127.0.0.1", 8080)

    def prepare(self) -> None:
        """Create the directory and airflow.cfg, and the keys if they do not exist."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = self.path / "keys"
        if not keys.exists():
            # The demo may be killed, so the file gets its name when it is complete.
            partial = self.path / "keys.part"
            partial.touch(mode=0o600)
            partial.write_text("\n".join(secrets.token_hex(32) for _ in range(3)))
            partial.rename(keys)
        fernet, secret, jwt = keys.read_text().split()
        # SQLAlchemy decides which characters of a path it must encode.
        database = URL.create("sqlite", database=str(self.path / "airflow.db"), query={"timeout": "60"})
        configuration = self.path / "airflow.cfg"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _CONFIGURATION.format(
                database=_escaped(database.render_as_string()),
                dags=_escaped(str(find_dags())),
                port=self.port,
                fernet_key=base64.urlsafe_b64encode(bytes.fromhex(fernet)).decode(),
                secret_key=secret,
                jwt_secret=jwt,
            )
        )

    @contextmanager
    def session(self, *arguments: str) -> Iterator[Session]:
        """Start ``airflow_session.py``, with these arguments, in a child process."""
        command = [sys.executable, "-u", "-m", "burla_provider.demo.airflow_session", *arguments]
        with self.log.open("w") as log:
            child = self._start(
                command,
                signal.SIGTERM,
                {"AIRFLOW__LOGGING__JSON_LOGS": "True"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
            try:
                yield Session(child, log)
            finally:
                end_group(child, signal.SIGTERM, 10)
                for pipe in (child.stdin, child.stdout):
                    if pipe is not None:
                        pipe.close()

    @contextmanager
    def standalone(self) -> Iterator[Standalone]:
        """Run ``airflow standalone`` until the context ends."""
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "airflow", "standalone"]
            child = self._start(command, signal.SIGINT, {}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield Standalone(child, f"http://127.0.0.1:{self.port}")
            finally:
                # Airflow stops its children on SIGINT only.
                end_group(child, signal.SIGINT, 20)

    def _start(
        self, command: list[str], death_signal: signal.Signals, environment: Mapping[str, str], **pipes: Any
    ) -> subprocess.Popen[str]:
        # Settings of the user's own Airflow, such as its metadata database, must not reach this one.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        # `airflow standalone` starts its components by the name `airflow`.
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        return subprocess.Popen(
            command,
            text=True,
            env={**inherited, "PATH": path, "AIRFLOW_HOME": str(self.path), **environment},
            # Ctrl-C must reach the demo only, which stops the child afterwards.
            start_new_session=True,
            preexec_fn=end_with_parent(death_signal),
            **pipes,
        )


class Standalone:
    """A running Airflow: scheduler, DAG processor, triggerer and API server."""

    def __init__(self, child: subprocess.Popen[str], url: str) -> None:
        self._child = child
        self.url = url

    def wait_until_healthy(self) -> bool:
        """Wait until all components are healthy.

        :returns: False if Airflow has ended before.
        """
        while self._child.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=5) as response:  # noqa: S310
                    components = json.load(response)
                if all(component["status"] == "healthy" for component in components.values()):
                    return True
            except (OSError, ValueError):
                pass
            time.sleep(0.5)
        return False

    def wait(self) -> int:
        """Wait until Airflow ends, and return its exit status."""
        return self._child.wait()


class Session:
    """The connection to the child process: it reads one line of JSON and writes lines of JSON."""

    def __init__(self, child: subprocess.Popen[str], log: IO[str]) -> None:
        self._child = child
        self._log = log

    def send_connections(self, connections: list[dict[str, Any]]) -> None:
        """Send the connections to save; the child waits for them. They contain passwords, so they use a pipe."""
        assert self._child.stdin is not None  # noqa: S101 - a pipe
        self._child.stdin.write(json.dumps(connections) + "\n")
        self._child.stdin.flush()

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield Airflow's log records, messages (with the key "demo") and printed lines (with the key "printed")."""
        assert self._child.stdout is not None  # noqa: S101 - a pipe
        for line in self._child.stdout:
            self._log.write(line)
            self._log.flush()
            yield _parse(line)
        self._child.wait()


def find_dags() -> Path:
    """Return the folder of the example DAGs: next to the package in a checkout, inside it in a wheel."""
    package = Path(burla_provider.__file__).parent
    return next(folder for folder in (package / "example_dags", package.parent / "dags") if folder.is_dir())


def _escaped(text: str) -> str:
    """Return a text as a value of airflow.cfg, in which a percent sign is a reference."""
    return text.replace("%", "%%")


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"printed": line.rstrip()}
