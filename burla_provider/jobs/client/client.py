"""The client process: run one job in a child process, and end with all processes that it started.

The task runs this file by its path, possibly with another interpreter, so it uses only the standard library. The
process leads a process group and kills the group at its end. Otherwise Burla's heartbeat process would keep the cluster
busy forever.

Two pipes connect it to the task. The task sends two frames: the setup, which contains what is known before the task has
planned, and later the job. The client prepares itself in between. When the task closes its end of the pipe (or dies),
this means "cancel". The client sends frames, tuples of plain data:

    ("waiting", reason, seconds)                    no node is free; the job waits for one, at most for this time
    ("started", job_id, url)                        the job exists; url is its page, or None
    ("succeeded", index, result)                    the call returned result, bytes
    ("crashed", index, error, attempts)             the call raised, or killed its worker several times
    ("not loaded", index, error, attempts)          the callable could not be unpickled
    ("line", text, index)                           a message for the log; index is the item it is about, or None
    ("done",)                                       every item has succeeded or crashed
    ("failed", kind, message, indexes, parameter)   see JobFailedError
    ("ended",)                                      the client kills its group now
"""

from __future__ import annotations

import io
import os
import pickle
import queue
import select
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, Literal, NoReturn

FailureKind = Literal[
    "busy", "unauthorized", "unreachable", "canceled", "refused", "not installed", "not loaded", "lost"
]
"""Why a job failed. Plain strings, because they cross the process boundary."""

Frame = tuple[Any, ...]
_LENGTH = struct.Struct("!Q")
_CANCEL_SECONDS = 3.0  # the task waits a little longer before it kills the group


class JobFailedError(Exception):
    """Raised when an engine knows why a job failed.

    :param kind: the reason.
    :param message: the error text for people.
    :param indexes: the items of the call that killed its worker, for "lost"; empty: unknown.
    :param parameter: the parameter that the cluster refuses, for "refused".
    """

    def __init__(
        self, kind: FailureKind, message: str, *, indexes: tuple[int, ...] = (), parameter: str | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.indexes = indexes
        self.parameter = parameter


class _PlainUnpickler(pickle.Unpickler):
    # Frames contain data from user code: they must not name anything that unpickling would call.
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"A frame names {module}.{name}.")


class FrameReader:
    """Splits the bytes of a pipe into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes."""
        self._data += data
        start = 0
        while (end := self._frame_end(start)) <= len(self._data):
            yield _PlainUnpickler(io.BytesIO(self._data[start + _LENGTH.size : end])).load()
            start = end
        del self._data[:start]

    def _frame_end(self, start: int) -> int:
        body = start + _LENGTH.size
        if body > len(self._data):
            return body
        return body + int(_LENGTH.unpack_from(self._data, start)[0])


def write_frame(pipe: int, frame: Frame) -> None:
    """Write a frame to a blocking pipe."""
    body = pickle.dumps(frame, protocol=5)
    view = memoryview(_LENGTH.pack(len(body)) + body)
    while view:
        view = view[os.write(pipe, view) :]


def load_file(path: str) -> ModuleType:
    """Load a module by path, without adding it to ``sys.modules``: cloudpickle then pickles its functions by value."""
    name = os.path.basename(path).removesuffix(".py")
    module = ModuleType(name)
    module.__file__ = path
    SourceFileLoader(name, path).exec_module(module)
    return module


class Client:
    """The client process: runs one job with an engine, and sends its frames."""

    # Engines are loaded by path and cannot import this file, so they find these names here.
    JobFailedError = JobFailedError
    load_file = staticmethod(load_file)

    def __init__(self, control: int, frames: int) -> None:
        self._control = control
        self._frames = frames
        for pipe in (control, frames):  # no child process inherits them: the pipes end with this process
            os.set_inheritable(pipe, False)
        self._parent = os.getppid()
        self._write_lock = threading.Lock()
        self._end_lock = threading.Lock()
        self._received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._setup: Any = None
        self._run: Any = None

    def send(self, *frame: Any) -> None:
        """Send a frame to the task. Any thread may call this."""
        with self._write_lock:
            write_frame(self._frames, frame)

    def main(self) -> None:
        """Prepare for the job, run it, and end."""
        threading.Thread(target=self._watch_task, daemon=True).start()
        frame = self._run_engine()
        self.send(*frame)
        self.end(cancel=frame[0] != "done")

    def finish(self) -> None:
        """Report the job as done and end, although the engine has not returned."""
        self.send("done")
        self.end()

    def end(self, cancel: bool = False) -> None:
        """End the job, this process and its process group."""
        if not self._end_lock.acquire(blocking=False):
            threading.Event().wait()  # another thread ends the process, and this thread with it
        threading.Timer(_CANCEL_SECONDS, _kill_group).start()
        try:
            try:
                if self._setup is not None:
                    self._setup.end()
            finally:
                if self._run is not None:
                    self._run.end(cancel)
            self.send("ended")
        finally:
            _kill_group()

    def _run_engine(self) -> Frame:
        try:
            setup = self._received.get()
            _check_python(setup["python"])
            engine = load_file(setup["engine_file"])
            self._setup = engine.Setup(setup, self)
            self._setup.prepare()
            self._run = engine.JobRun(self._received.get(), self, self._setup)
            self._run.run()
        except JobFailedError as error:
            return ("failed", error.kind, str(error), error.indexes, error.parameter)
        except BaseException:  # SystemExit and KeyboardInterrupt too: the task must get a frame about every end
            return ("failed", "lost", traceback.format_exc(limit=-8), (), None)
        return ("done",)

    def _watch_task(self) -> None:
        reader = FrameReader()
        # Check the parent's id too: a fork of the task may keep the pipe open after the task has ended.
        while os.getppid() == self._parent:
            if not select.select([self._control], [], [], 0.5)[0]:
                continue
            data = os.read(self._control, 1 << 20)
            if not data:
                break
            for (frame,) in reader.feed(data):
                self._received.put(frame)
        self.end(cancel=True)


def _check_python(expected: tuple[int, int]) -> None:
    if sys.version_info[:2] != tuple(expected):
        wanted = ".".join(map(str, expected))
        raise JobFailedError(
            "not installed",
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}, but functions pickled by this "
            f"Airflow need {wanted}. Create an environment with `python -m burla_provider.jobs.setup_client PATH`.",
        )


def _kill_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    Client(int(sys.argv[1]), int(sys.argv[2])).main()
