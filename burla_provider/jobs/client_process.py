"""Start the client process, read its events and output, and end it."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.client import client
from burla_provider.jobs.client.call import MARK
from burla_provider.jobs.client.client import Frame, FrameReader, write_frame
from burla_provider.jobs.job import ItemBegan, OutputLine, Tick

_END_SECONDS = 4.0  # client.py takes up to 3 to cancel the job
_ORPHANS_SECONDS = 2.5
_REAP_SECONDS = 0.3
_BURST_LINES = 500
_LINES_PER_SECOND = 20.0
_MAX_LINE_LENGTH = 2_000
_CONTROL_CHARACTERS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
_MESSAGE = re.compile(rf"\[(\d+)\] {MARK}(began|isolating) (\S+:\d+)(?: (\d+\.\d))?$")
_MAX_MESSAGE_LENGTH = 400
_INCOMPLETE_MESSAGE = re.compile(rf"\[(\d+(\]( ({MARK}.*)?)?)?)?$")
_NO_RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_INHERITED = {
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV"),
    *("LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    # Burla finds its cluster and its saved login with these. They contain no secrets.
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "BURLA_CLUSTER_DASHBOARD_URL", "BURLA_CLOUD", "BURLA_PRIVATE"),
    *("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "AZURE_CONFIG_DIR", "CLOUDSDK_CONFIG"),
    *("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"),
}
"""Variables that a child process inherits from the task. Others may contain secrets of Airflow."""


class ClientProcess:
    """A child process that runs one job. It leads a process group.

    :param python: its interpreter; None: this one.
    :param python_parameter: parameter or connection field that names the interpreter, for the error.
    :ivar has_job: whether the job was sent.
    :raises InvalidParameterError: if the interpreter cannot be run.
    """

    def __init__(self, python: str | None, python_parameter: str = "python") -> None:
        self._python = python or sys.executable
        self._python_parameter = python_parameter
        with contextlib.ExitStack() as pipes:
            # Other child processes do not inherit these pipes: only the task keeps the client alive.
            control, self._control = map(pipes.enter_context, _pipe())
            self._frames, frames = map(pipes.enter_context, _pipe())
            self._output, output = map(pipes.enter_context, _pipe())
            self._process = self._spawn(control.fileno(), frames.fileno(), output.fileno())
            pipes.pop_all()
        for child_end in (control, frames, output):
            child_end.close()
        self._reader = FrameReader()
        self._unread: list[Frame] = []
        self._ends_its_group = False
        self.has_job = False
        os.set_blocking(self._output.fileno(), False)
        os.set_blocking(self._frames.fileno(), False)

    @property
    def pid(self) -> int:
        """The id of the process and of its group."""
        return self._process.pid

    def prepare(self, setup: Mapping[str, Any]) -> None:
        """Send what the client can prepare before there is a job."""
        self._send(setup)

    def start(self, job: Mapping[str, Any]) -> None:
        """Send the job. If the client has already died, ``events`` ends at once."""
        self.has_job = True
        self._send(job)

    def failure(self) -> Frame | None:
        """Return the frame about the failure that the client has reported so far, if it has. Does not wait."""
        while data := _read(self._frames.fileno()):
            self._unread += self._read_frames(data)
        return next((frame for frame in self._unread if frame[0] == "failed"), None)

    def events(self, tick_seconds: float) -> Iterator[Frame | ItemBegan | OutputLine | Tick]:
        """Yield frames, the output and the messages in it until the client has ended, and ticks.

        :param tick_seconds: maximum seconds between two ticks.
        """
        lines = LineReader()
        yield from self._unread
        with selectors.DefaultSelector() as selector:
            selector.register(self._frames, selectors.EVENT_READ)
            selector.register(self._output, selectors.EVENT_READ)
            is_alive = True
            next_tick = time.monotonic() + tick_seconds
            while is_alive:
                ready = {key.fileobj for key, _ in selector.select(max(0, next_tick - time.monotonic()))}
                output = _read(self._output.fileno()) if self._output in ready else None
                # Read after the output: the job has started before it prints anything, and is reported before.
                data = _read(self._frames.fileno())
                is_alive = data != b""
                frames = self._read_frames(data or b"")
                until_start = next((number for number, frame in enumerate(frames, 1) if frame[0] == "started"), 0)
                yield from frames[:until_start]
                if output == b"":
                    selector.unregister(self._output)
                yield from lines.feed(output or b"")
                yield from frames[until_start:]
                if time.monotonic() >= next_tick:
                    yield from lines.report_dropped()
                    yield Tick()
                    next_tick = time.monotonic() + tick_seconds
        while data := _read(self._output.fileno()):
            yield from lines.feed(data)
        yield from lines.end()

    def end(self) -> int:
        """End the client and its process group within 5 seconds. Cancels the job if it still runs.

        :returns: the client's exit status, negative for a signal.
        """
        if self._process.returncode is not None:  # its id may be another process's by now
            return self._process.returncode
        try:
            self._control.close()
            if not self._frames.closed and self._wait_for_client() and not self._ends_its_group:
                # The client was killed. Its child processes notice and cancel the job: see burla_engine.py.
                self._process.wait()
                self._wait_for_group(_ORPHANS_SECONDS)
        finally:
            self._signal_group(signal.SIGKILL)
            self._frames.close()
            self._output.close()
        status = self._process.wait()
        self._wait_for_group(_REAP_SECONDS)
        return status

    def _send(self, frame: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            write_frame(self._control.fileno(), (dict(frame),))

    def _spawn(self, control: int, frames: int, output: int) -> subprocess.Popen[bytes]:
        command = [self._python, client.__file__, str(control), str(frames)]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(control, frames),
                env=child_environment(os.environ),
                start_new_session=True,
            )
        except OSError as error:
            if error.errno in _NO_RESOURCES:  # of this machine, not of the interpreter
                raise
            problem = f"{self._python} cannot be run: {error.strerror}."
            raise InvalidParameterError(
                self._python_parameter, problem, "Use a Python interpreter that has burla."
            ) from None

    def _read_frames(self, data: bytes) -> list[Frame]:
        frames = list(self._reader.feed(data))
        self._ends_its_group = self._ends_its_group or ("ended",) in frames
        return [frame for frame in frames if frame != ("ended",)]

    def _wait_for_client(self) -> bool:
        # Only the client holds the other end of this pipe: the pipe ends when the client ends.
        deadline = time.monotonic() + _END_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._frames, selectors.EVENT_READ)
            while (remaining := deadline - time.monotonic()) > 0:
                data = _read(self._frames.fileno()) if selector.select(remaining) else None
                if data == b"":
                    return True
                self._read_frames(data or b"")
        return False

    def _wait_for_group(self, seconds: float) -> None:
        # If no process reaps orphans, as in some containers, the group never disappears: wait for a limited time.
        deadline = time.monotonic() + seconds
        while self._signal_group(0) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _signal_group(self, number: int) -> bool:
        # False: the group has no processes.
        try:
            os.killpg(self._process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS raises the latter if all processes are dead
            return False
        return True


class LineReader:
    """Splits output into lines for the task's log, without control characters and rate-limited.

    A burst of 500 lines passes, then 20 lines per second. Messages that an item has begun are not lines, and have no
    limit.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._incomplete = ""
        self._allowed = float(_BURST_LINES)
        self._refilled_at = time.monotonic()
        self._dropped = 0

    def feed(self, data: bytes) -> Iterator[OutputLine | ItemBegan]:
        """Yield the lines and messages that ``data`` completes."""
        *lines, self._incomplete = (self._incomplete + self._decoder.decode(data)).split("\n")
        if len(self._incomplete) > _MAX_LINE_LENGTH:
            end = _start_of_message(self._incomplete)
            lines.append(self._incomplete[:end])
            self._incomplete = self._incomplete[end:]
        for line in lines:
            text, message = _find_message(line)
            if message:
                yield message
            if (text := _clean(text)) and self._is_within_limit():
                yield OutputLine(text)

    def report_dropped(self) -> Iterator[OutputLine]:
        """Yield a line with the number of lines that were dropped since the last call, if there were any."""
        if self._dropped:
            yield OutputLine(f"... {self._dropped:,} more lines exceeded the rate limit and were dropped.")
            self._dropped = 0

    def end(self) -> Iterator[OutputLine | ItemBegan]:
        """Yield the remaining lines."""
        yield from self.feed(b"\n")
        yield from self.report_dropped()

    def _is_within_limit(self) -> bool:
        now = time.monotonic()
        self._allowed = min(_BURST_LINES, self._allowed + (now - self._refilled_at) * _LINES_PER_SECOND)
        self._refilled_at = now
        if self._allowed < 1:
            self._dropped += 1
            return False
        self._allowed -= 1
        return True


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of the task's environment that the client process and its children inherit."""
    inherited = {name: value for name, value in environment.items() if name in _INHERITED or name.startswith("LC_")}
    # Safe path: no module next to client.py, or in the working directory, shadows one of the standard library.
    return {**inherited, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _find_message(line: str) -> tuple[str, ItemBegan | None]:
    # A program that a worker has started may have written the beginning of the line.
    found = _MESSAGE.search(line) if MARK in line else None
    if found is None:
        return line, None
    index, stage, worker, seconds = found.groups()
    is_isolating = stage == "isolating"
    began = ItemBegan(int(index), worker, float(seconds or 0), "isolating" if is_isolating else "working")
    return line[: found.start()], began


def _start_of_message(text: str) -> int:
    # Of a message that is not complete yet; otherwise the end of the text.
    found = _INCOMPLETE_MESSAGE.search(text, len(text) - _MAX_MESSAGE_LENGTH)
    return len(text) if found is None else found.start()


def _clean(line: str) -> str:
    # Text after the last carriage return is what a terminal would show.
    shown = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROL_CHARACTERS.sub("", shown).rstrip()[:_MAX_LINE_LENGTH]


def _pipe() -> tuple[Any, Any]:
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)


def _read(descriptor: int) -> bytes | None:
    # None: no data yet. Empty: all writers have closed the pipe.
    try:
        return os.read(descriptor, 1 << 20)
    except BlockingIOError:
        return None
