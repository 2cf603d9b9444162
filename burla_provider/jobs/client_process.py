"""The task's side of the client process: to start it, to hear it, to end it."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.client import client
from burla_provider.jobs.client.client import Frame, FrameReader, write_frame
from burla_provider.jobs.job import Line, Tick
from burla_provider.jobs.lines import LineReader

_END_SECONDS = 4.0  # client.py gives itself 3 to cancel the job
_ORPHANS_SECONDS = 2.5
_REAP_SECONDS = 0.3
_INHERITED = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    # Burla's own ways to find its cluster and its saved login. None of these is a secret.
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "BURLA_CLUSTER_DASHBOARD_URL", "BURLA_CLOUD", "BURLA_PRIVATE"),
    *("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AZURE_CONFIG_DIR", "CLOUDSDK_CONFIG"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"),
}
"""What a child sees of the task's environment; everything else may hold a secret of Airflow's."""


class ClientProcess:
    """A child process that runs one job, with the group of its own that it leads.

    :param python: its interpreter; None: this one.
    :raises InvalidParameterError: there is no such interpreter.
    """

    def __init__(self, python: str | None) -> None:
        self._python = python or sys.executable
        # Python's pipes do not pass to other child processes: nobody but us holds the end that keeps the client alive.
        control, self._control = _pipe()
        self._answers, answers = _pipe()
        self._output, output = _pipe()
        with control, answers, output:
            self._process = self._spawn(control.fileno(), answers.fileno(), output.fileno())
        self._reader = FrameReader()
        self._orderly = False  # whether the client has said that it ends its group itself
        os.set_blocking(self._output.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)

    @property
    def pid(self) -> int:
        """The client's process id, which is also its group's."""
        return self._process.pid

    def start(self, job: Mapping[str, Any]) -> None:
        """Send the job down. A client that is already dead is not an error here; its frames tell."""
        with contextlib.suppress(BrokenPipeError):
            write_frame(self._control.fileno(), (dict(job),))

    def events(self, tick_seconds: float) -> Iterator[Frame | Line | Tick]:
        """What happens until the client has ended; a tick at least every ``tick_seconds``."""
        lines = LineReader()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            alive = True
            ticked = time.monotonic()
            while alive:
                ready = {key.fileobj for key, _ in selector.select(max(0, ticked + tick_seconds - time.monotonic()))}
                if self._output in ready:
                    data = _read(self._output.fileno())
                    if data == b"":
                        selector.unregister(self._output)
                    yield from map(Line, lines.feed(data or b""))
                if self._answers in ready:
                    data = _read(self._answers.fileno())
                    alive = data != b""
                    yield from self._frames(data or b"")
                if time.monotonic() >= ticked + tick_seconds:
                    yield from map(Line, lines.tick())
                    yield Tick()
                    ticked = time.monotonic()
        while data := _read(self._output.fileno()):
            yield from map(Line, lines.feed(data))
        yield from map(Line, lines.end())

    def end(self) -> int:
        """End the client and its whole group, cancelling the job if it still runs; never longer than 5 seconds.

        :returns: the client's exit status, negative for a signal.
        """
        try:
            self._control.close()
            if self._client_ended() and not self._orderly:
                # It was killed. What it left behind notices, and cancels the job: see burla_engine.py.
                self._process.wait()
                self._group_ended(_ORPHANS_SECONDS)
        finally:
            self._signal_group(signal.SIGKILL)
            self._answers.close()
            self._output.close()
        status = self._process.wait()
        self._group_ended(_REAP_SECONDS)
        return status

    def _spawn(self, control: int, answers: int, output: int) -> subprocess.Popen[bytes]:
        command = [self._python, client.__file__, str(control), str(answers)]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(control, answers),
                env=child_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            problem = f"{self._python} cannot be run: {error.strerror}."
            raise InvalidParameterError("python", problem, "Name a Python interpreter that has burla.") from None

    def _frames(self, data: bytes) -> list[Frame]:
        frames = list(self._reader.feed(data))
        self._orderly = self._orderly or ("ended",) in frames
        return [frame for frame in frames if frame != ("ended",)]

    def _client_ended(self) -> bool:
        # The client is the only one to hold the other end of this pipe, so its end is the client's.
        deadline = time.monotonic() + _END_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                data = _read(self._answers.fileno()) if selector.select(left) else None
                if data == b"":
                    return True
                self._frames(data or b"")
        return False

    def _group_ended(self, seconds: float) -> None:
        # Where nobody reaps orphans (some containers), its number stays in use: so not for ever.
        deadline = time.monotonic() + seconds
        while self._signal_group(0) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _signal_group(self, number: int) -> bool:
        # False: nobody is left.
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group that is all dead
            return False
        return True


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What the client process and its children see of the task's environment."""
    inherited = {name: value for name, value in environment.items() if name in _INHERITED or name.startswith("LC_")}
    # No module beside client.py, or in the working directory, may pass for one of the standard library.
    return {**inherited, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _pipe() -> tuple[Any, Any]:
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)


def _read(descriptor: int) -> bytes | None:
    # None: nothing now. Empty: nobody is left to write.
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return None
