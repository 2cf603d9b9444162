"""The function that worker processes of both engines call. Pickled by value; needs the standard library only."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
import pickle
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Batch = Sequence[tuple[int, bytes]]
Result = tuple[int, str, Any]
"""Index, the name of a frame of ``client.py``, and the result or the error."""

BATCH_SECONDS = 1.0
_BATCH_BYTES = 1_000_000
"""A call starts no other item of its batch when it has taken this time, or has results of this size."""

MARK = "\x1f"
"""Begins a message in the output. Printed output does not contain it."""

_ANNOUNCE_SECONDS = 0.25
_LINE_ENDS = re.compile("[\v\f\x1c-\x1f\x85\u2028\u2029]")
"""``str.splitlines``, with which Burla splits the output, splits at these characters and loses the rest of the line."""


class Call:
    """What a worker process calls on each batch of items.

    :param pickled_callable: see ``Job``; unpickled once per worker process.
    """

    def __init__(self, pickled_callable: bytes) -> None:
        self._pickled_callable = pickled_callable
        self._loaded: list[Any] = []
        self._announcer = _Announcer()

    def __call__(self, batch: Batch) -> Iterator[Result]:
        """Process a batch: a list of ``(index, pickled_item)``.

        Yields ``(index, "succeeded", result)`` or, if anything was raised, ``(index, "crashed", error)``, and if the
        callable cannot be unpickled, ``(index, "not loaded", error)``. The error is text: if the class of an exception
        is defined by the user, an exception object kills Burla's worker. Yields nothing for the items at the end of the
        batch that it did not start.
        """
        self.load(batch[0][0])
        deadline = time.monotonic() + BATCH_SECONDS
        size = 0
        for number, (index, item) in enumerate(batch, start=1):
            result = self._process(index, item)
            size += len(result[2])
            is_last = number == len(batch) or size >= _BATCH_BYTES or time.monotonic() >= deadline
            # Before the last result is sent: the job may end when it arrives.
            if is_last and self._loaded and hasattr(self._loaded[0], "pause"):
                self._loaded[0].pause()
            yield result
            if is_last:
                return

    def close(self) -> None:
        """Let the callable release what it has loaded. Prints an error."""
        for loaded in self._loaded:
            if hasattr(loaded, "close"):
                try:
                    loaded.close()
                except BaseException:  # SystemExit too
                    print(traceback.format_exc(limit=-8), flush=True)

    def load(self, index: int) -> None:
        """Unpickle the callable, and let it load what it needs. Raises nothing: the first item has the error.

        :param index: the item that the output is about.
        """
        # Not in the time of the batch: a model may take long, and the rest of the batch would be left.
        if self._loaded:
            return
        # ``_process`` tries again, and returns the error.
        with _prefixed_output(index) as output, contextlib.suppress(BaseException):
            self._announcer.begin(index, output)
            self._loaded.append(pickle.loads(self._pickled_callable))  # noqa: S301 - pickled by the task
            if hasattr(self._loaded[0], "load"):
                self._loaded[0].load()

    def _process(self, index: int, item: bytes) -> Result:
        with _prefixed_output(index) as output:
            self._announcer.begin(index, output)
            try:
                if not self._loaded:
                    self._loaded.append(pickle.loads(self._pickled_callable))  # noqa: S301
                result = getattr(self._loaded[0], "process", self._loaded[0])(index, pickle.loads(item))  # noqa: S301
                if not isinstance(result, bytes):
                    raise TypeError(f"The callable must return bytes, got {type(result).__qualname__}.")
            except BaseException as error:  # SystemExit too
                return index, "crashed" if self._loaded else "not loaded", _describe(error)
            finally:
                self._announcer.end()
            return index, "succeeded", result


def make_list_call(pickled_callable: bytes) -> Callable[[Batch], list[Result]]:
    """Return the same as a function, for an engine whose calls return one value: the list of the results."""
    call = Call(pickled_callable)

    def list_call(batch: Batch) -> list[Result]:
        return list(call(batch))

    return list_call


def _describe(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        if (error.name or "").partition(".")[0] in ("airflow", "burla_provider"):
            return f"{error} - the workers have no Airflow. Give the function plain data instead of objects of Airflow."
        return (
            f"{error} - the workers do not have it. Name its package in requirements=[...]; on the local engine,"
            " install it where Airflow runs."
        )
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of ``process``
    return "".join(traceback.format_exception(type(error), error, frames, limit=-8)).strip()


class _Announcer:
    # Announces the item that this process has begun: at once, or, if the last announcement is not old, after a second,
    # so that short items cost nothing. A process of its own announces late items: a thread of this process could not
    # run while the user's function holds Python's lock, such as in a regular expression that takes forever.
    def __init__(self) -> None:
        self._last = (-1, -_ANNOUNCE_SECONDS)
        self._slot: mmap.mmap | None = None
        self._has_watcher = False

    def begin(self, index: int, output: _PrefixedOutput) -> None:
        now = time.monotonic()
        if now - self._last[1] >= _ANNOUNCE_SECONDS:
            self._last = (index, now)
            output.announce("began")
        elif index != self._last[0]:
            if not self._has_watcher:
                self._has_watcher = True
                with contextlib.suppress(Exception):  # the item is processed, announced or not
                    self._start_watcher(output)
            if self._slot is not None:
                struct.pack_into(_SLOT, self._slot, 0, index, now)

    def end(self) -> None:
        if self._slot is not None:
            struct.pack_into(_SLOT, self._slot, 0, 0, 0.0)

    def _start_watcher(self, output: _PrefixedOutput) -> None:
        # Started by a shell, which ends: the user's function may wait for all child processes of this process.
        with tempfile.TemporaryFile(buffering=0) as file:
            # Written, not truncated: if the disk is full, this raises, and not the first access, which is SIGBUS.
            file.write(bytes(struct.calcsize(_SLOT)))
            slot = mmap.mmap(file.fileno(), struct.calcsize(_SLOT))
            alive, ours = os.pipe()
            end_watcher = weakref.finalize(self, os.close, ours)
            with open(alive, "rb"):
                script = [sys.executable, "-I", "-S", "-c", _WATCHER, str(alive), str(file.fileno()), _worker_name()]
                subprocess.run(
                    ["/bin/sh", "-c", '"$@" &', "sh", *script],
                    stdin=subprocess.DEVNULL,
                    stdout=output.fileno(),
                    stderr=subprocess.DEVNULL,
                    pass_fds=[alive, file.fileno()],
                )
        self._slot = slot
        announcer = weakref.ref(self)

        def leave_watcher() -> None:  # the items of a fork are not the worker's
            end_watcher()
            if (found := announcer()) is not None:
                found._slot = None

        os.register_at_fork(after_in_child=leave_watcher)


_SLOT = "qd"
"""The item that the worker processes and is not yet announced, and when it began; 0.0: none."""

_WATCHER = f"""
import mmap, os, select, struct, sys, time
alive, slot, worker = int(sys.argv[1]), mmap.mmap(int(sys.argv[2]), {struct.calcsize(_SLOT)}), sys.argv[3]
announced = 0.0
while not select.select([alive], [], [], 0.5)[0]:
    index, began = struct.unpack("{_SLOT}", slot[:])
    seconds = time.monotonic() - began
    # Read twice: the worker may have written in between.
    if began not in (0.0, announced) and seconds >= 1 and struct.unpack("{_SLOT}", slot[:]) == (index, began):
        os.write(1, f"[{{index}}] {MARK}began {{worker}} {{seconds:.1f}}\\n".encode())
        announced = began
"""


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@contextlib.contextmanager
def _prefixed_output(index: int) -> Iterator[_PrefixedOutput]:
    # One stream for both: Burla loses stderr that arrives after the end of the call was marked on stdout.
    output = _PrefixedOutput(sys.stdout, f"[{index}] ")
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            yield output
        finally:
            output.finish()


class _PrefixedOutput(io.TextIOBase):
    # Writes complete lines, one write per call: several workers may share the stream.
    def __init__(self, stream: Any, prefix: str) -> None:
        self._stream = stream
        self._prefix = prefix
        self._incomplete = ""

    def write(self, text: str) -> int:
        *lines, self._incomplete = (self._incomplete + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._prefix}{_clean(line)}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def announce(self, stage: str) -> None:
        """Write the message that the item has begun this stage: "began" or "isolating"."""
        with contextlib.suppress(Exception):
            self._stream.write(f"{self._prefix}{MARK}{stage} {_worker_name()}\n")
            self._stream.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def finish(self) -> None:
        if self._incomplete:
            self.write("\n")


def _clean(line: str) -> str:
    # Text after the last carriage return is what a terminal would show.
    return _LINE_ENDS.sub(" ", line.rstrip("\r").rpartition("\r")[2])
