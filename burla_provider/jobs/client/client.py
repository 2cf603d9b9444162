"""The client process: a Python of its own that runs one job, and ends with every process that it started.

The task runs this file by its path, maybe with another interpreter, so it needs the standard library only.
It is born as the leader of a process group. However it ends, the group ends with it: Burla's heartbeat child
would otherwise keep the cluster busy for ever.

Two pipes lead to the task. Down comes one frame, the job; after it the pipe stays silent, and its end (the task
said so, or the task is gone) means "cancel". Up go frames, tuples that begin with what they are:

    ("started", job_id, url)            the job exists; url is its page, or None
    ("answered", index, answer)         what the work returned, bytes
    ("broken", index, error)            the call raised, or killed its worker again and again
    ("line", text)                      something a person may want to read
    ("done",)                           every item has its answer
    ("failed", kind, message, about)    no more will come; kind is one of KINDS, about the culprit or None
    ("ended",)                          the group is about to be killed, and leaves nothing behind
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import struct
import sys
import threading
import traceback
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, NoReturn

KINDS = ("busy", "unauthorized", "unreachable", "canceled", "refused", "not installed", "lost")
"""Why a job ended before it was done."""

Frame = tuple[Any, ...]
_LENGTH = struct.Struct("!Q")
_CANCEL_SECONDS = 3.0  # the task waits a little longer than this before it kills the group itself


class JobFailedError(Exception):
    """An engine's word for an end that it understands.

    :param kind: one of ``KINDS``.
    :param message: for people.
    :param about: of what is "lost": the index of the item that killed its worker; of what is "refused": the name of
        the parameter; None where that is not known.
    """

    def __init__(self, kind: str, message: str, about: int | str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.about = about


class _PlainUnpickler(pickle.Unpickler):
    # What comes up the pipe has been near user code: it may carry data, but not name anything to call.
    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"A frame names {module}.{name}.")


class FrameReader:
    """Cuts the bytes of a pipe into frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with ``data``."""
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
    """Write all of a frame to a blocking pipe."""
    body = pickle.dumps(frame, protocol=5)
    view = memoryview(_LENGTH.pack(len(body)) + body)
    while view:
        view = view[os.write(pipe, view) :]


def load_file(path: str) -> ModuleType:
    """A module from its file alone, unknown to ``sys.modules``: cloudpickle then takes what is in it by value."""
    name = os.path.basename(path).removesuffix(".py")
    module = ModuleType(name)
    module.__file__ = path
    SourceFileLoader(name, path).exec_module(module)
    return module


class Client:
    """What an engine sees of its process."""

    failure = JobFailedError
    """What an engine raises; a class attribute because this file has no name to import it by."""

    load_file = staticmethod(load_file)

    def __init__(self, control: int, answers: int) -> None:
        self._control = control
        self._answers = answers
        for pipe in (control, answers):  # for this process alone: its end must be the end of the pipe
            os.set_inheritable(pipe, False)
        self._parent = os.getppid()
        self._writing = threading.Lock()
        self._ending = threading.Lock()
        self._run: Any = None

    def send(self, *frame: Any) -> None:
        """Tell the task. Any thread may."""
        with self._writing:
            write_frame(self._answers, frame)

    def main(self) -> None:
        """Run the job that comes down the pipe."""
        job = self._read_job()
        threading.Thread(target=self._watch, daemon=True).start()
        outcome = self._outcome(job)
        self.send(*outcome)
        self.end(cancel=outcome[0] != "done")

    def finish(self) -> None:
        """Call the job done and end, though the engine still has something to say to the cluster."""
        self.send("done")
        self.end()

    def end(self, cancel: bool = False) -> None:
        """End the job, then this process and its whole group."""
        if not self._ending.acquire(blocking=False):
            threading.Event().wait()  # another thread is at it; this one dies with the process
        threading.Timer(_CANCEL_SECONDS, _kill_group).start()
        try:
            if self._run is not None:
                self._run.end(cancel)
            self.send("ended")
        finally:
            _kill_group()

    def _read_job(self) -> dict[str, Any]:
        reader = FrameReader()
        while data := os.read(self._control, 1 << 20):
            for (job,) in reader.feed(data):
                return dict(job)
        os._exit(1)  # the task was gone before it had said what to do

    def _outcome(self, job: dict[str, Any]) -> Frame:
        try:
            _check_python(job["python"])
            self._run = load_file(job["engine_file"]).Run(job, self)
            self._run.run()
        except JobFailedError as error:
            return ("failed", error.kind, str(error), error.about)
        except BaseException:  # SystemExit and KeyboardInterrupt too: the task is to know of every end
            return ("failed", "lost", traceback.format_exc(limit=-8), None)
        return ("done",)

    def _watch(self) -> None:
        # The parent's number is asked for too: a fork of the task may hold the other end of the pipe open.
        while os.getppid() == self._parent:
            if select.select([self._control], [], [], 0.5)[0]:
                break
        self.end(cancel=True)


def _check_python(expected: tuple[int, int]) -> None:
    if sys.version_info[:2] != tuple(expected):
        wanted = ".".join(map(str, expected))
        raise JobFailedError(
            "not installed",
            f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}, but functions pickled by this "
            f"Airflow need {wanted}. Make an environment with `python -m burla_provider.jobs.setup_client PATH`.",
        )


def _kill_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    Client(int(sys.argv[1]), int(sys.argv[2])).main()
