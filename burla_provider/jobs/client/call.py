"""The function that worker processes of both engines call. Pickled by value; needs the standard library only."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

Call = Callable[[int, bytes], tuple[int, bool, Any]]


def make_call(pickled_callable: bytes) -> Call:
    """Return the function that a worker calls on each item.

    :param pickled_callable: pickle of ``function(index, item) -> bytes``; unpickled once per worker process.
    :returns: ``call(index, pickled_item)``, which returns ``(index, True, result)`` or, if anything was raised,
        ``(index, False, error)``. The error is text: if the class of an exception is defined by the user, an exception
        object kills Burla's worker.
    """
    loaded: list[Callable[[int, Any], bytes]] = []

    def call(index: int, item: bytes) -> tuple[int, bool, Any]:
        with _prefixed_output(f"[{index}] "):
            try:
                if not loaded:
                    loaded.append(pickle.loads(pickled_callable))  # noqa: S301 - pickled by the task
                result = loaded[0](index, pickle.loads(item))  # noqa: S301
                if not isinstance(result, bytes):
                    raise TypeError(f"The callable must return bytes, got {type(result).__qualname__}.")
            except BaseException as error:  # SystemExit too
                return index, False, _describe(error)
            return index, True, result

    return call


def _describe(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error} - the workers do not have it. Name its package in requirements=[...]; on the local engine,"
            " install it where Airflow runs."
        )
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of ``call``
    return "".join(traceback.format_exception(type(error), error, frames, limit=-8)).strip()


@contextlib.contextmanager
def _prefixed_output(prefix: str) -> Iterator[None]:
    # One stream for both: Burla loses stderr that arrives after the end of the call was marked on stdout.
    output = _PrefixedOutput(sys.stdout, prefix)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            yield
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
            self._stream.write("".join(f"{self._prefix}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def finish(self) -> None:
        if self._incomplete:
            self.write("\n")
