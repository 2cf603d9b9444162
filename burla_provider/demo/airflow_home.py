"""An Airflow home of the demo's own: settings, metadata database, log, and the processes that live in it."""

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
fernet_key = {fernet_key}

[database]
# SQLite has one writer at a time. On a busy machine the others' turn may come after its usual 5 s.
sql_alchemy_conn = sqlite:///{home}/airflow.db?timeout=60

[api]
host = 127.0.0.1
port = {port}
secret_key = {secret_key}

[api_auth]
jwt_secret = {jwt_secret}
"""


class AirflowHome:
    """Everything of Airflow's is in ``path``, which is private: the metadata database holds the connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "demo.log"
        self.port = choose_port("127.0.0.1", 8080)

    def prepare(self) -> None:
        """Makes the directory, its keys (once) and its airflow.cfg."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        keys = self.path / "keys"
        if not keys.exists():
            keys.touch(mode=0o600)
            keys.write_text("\n".join(secrets.token_hex(32) for _ in range(3)))
        fernet, secret, jwt = keys.read_text().split()
        configuration = self.path / "airflow.cfg"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _CONFIGURATION.format(
                home=self.path,
                dags=find_dags(),
                port=self.port,
                fernet_key=base64.urlsafe_b64encode(bytes.fromhex(fernet)).decode(),
                secret_key=secret,
                jwt_secret=jwt,
            )
        )

    @contextmanager
    def session(self, *arguments: str) -> Iterator[Session]:
        """A Python that has Airflow loaded: ``airflow_session.py``, with these arguments."""
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
        """``airflow standalone``, for as long as the context lasts."""
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "airflow", "standalone"]
            child = self._start(command, signal.SIGINT, {}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield Standalone(child, f"http://127.0.0.1:{self.port}")
            finally:
                # It ends its own children on SIGINT only.
                end_group(child, signal.SIGINT, 20)

    def _start(
        self, command: list[str], ending: signal.Signals, environment: Mapping[str, str], **pipes: Any
    ) -> subprocess.Popen[str]:
        # Nothing of an Airflow that the user has may reach this one, its metadata database least of all.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        # Standalone starts its parts by the name `airflow`.
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        return subprocess.Popen(
            command,
            text=True,
            env={**inherited, "PATH": path, "AIRFLOW_HOME": str(self.path), **environment},
            # Ctrl-C reaches us only, and we end it in our own order.
            start_new_session=True,
            preexec_fn=end_with_parent(ending),
            **pipes,
        )


class Standalone:
    """A whole Airflow: scheduler, DAG processor, triggerer, and the server of its UI."""

    def __init__(self, child: subprocess.Popen[str], url: str) -> None:
        self._child = child
        self.url = url

    def wait_until_healthy(self) -> bool:
        """:return: False when it ended instead."""
        while self._child.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310
                    parts = json.load(answer)
                if all(part["status"] == "healthy" for part in parts.values()):
                    return True
            except (OSError, ValueError):
                pass
            time.sleep(0.5)
        return False

    def wait(self) -> int:
        """Its exit status, when it ends."""
        return self._child.wait()


class Session:
    """The child's end of the conversation: one line of orders to it, lines of JSON from it."""

    def __init__(self, child: subprocess.Popen[str], log: IO[str]) -> None:
        self._child = child
        self._log = log

    def order(self, connections: list[dict[str, Any]]) -> None:
        """The connections to save, in whose place the child waits: through a pipe, because they hold passwords."""
        assert self._child.stdin is not None  # noqa: S101 - a pipe
        self._child.stdin.write(json.dumps(connections) + "\n")
        self._child.stdin.flush()

    def records(self) -> Iterator[dict[str, Any]]:
        """Airflow's log records, our own answers (with the key "demo"), and printed lines (with the key "printed")."""
        assert self._child.stdout is not None  # noqa: S101 - a pipe
        for line in self._child.stdout:
            self._log.write(line)
            self._log.flush()
            yield _parse(line)
        self._child.wait()


def find_dags() -> Path:
    """The example DAGs: beside the package in a checkout, within it in a wheel."""
    package = Path(burla_provider.__file__).parent
    return next(place for place in (package / "example_dags", package.parent / "dags") if place.is_dir())


def _parse(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    return record if isinstance(record, dict) else {"printed": line.rstrip()}
