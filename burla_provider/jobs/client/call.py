"""One call, in a worker process of either engine. Travels by value, so it needs the standard library only."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

Call = Callable[[int, bytes], tuple[int, bool, Any]]


def make_call(work: bytes) -> Call:
    """The function that a worker calls on every item.

    :param work: pickle of ``work(index, item) -> bytes``; unpickled at the first call, so once a worker process.
    :returns: ``call(index, pickled_item)``, which answers ``(index, True, answer)`` or, when anything at all was
        raised, ``(index, False, error)``. An exception object must not leave the worker: where its class is the
        user's own, Burla's worker dies of it.
    """
    loaded: list[Callable[[int, Any], bytes]] = []

    def call(index: int, item: bytes) -> tuple[int, bool, Any]:
        with _labelled_output(f"[{index}] "):
            try:
                if not loaded:
                    loaded.append(pickle.loads(work))  # noqa: S301 - the task's own bytes
                answer = loaded[0](index, pickle.loads(item))  # noqa: S301
                if not isinstance(answer, bytes):
                    raise TypeError(f"The work answered with {type(answer).__qualname__} where bytes were due.")
            except BaseException as error:  # SystemExit too
                return index, False, _describe(error)
            return index, True, answer

    return call


def _describe(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error} - the workers do not have it. Name its package in requirements=[...]; on the local engine,"
            " install it where Airflow runs."
        )
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the one of ``call``
    return "".join(traceback.format_exception(type(error), error, frames, limit=-8)).strip()


@contextlib.contextmanager
def _labelled_output(label: str) -> Iterator[None]:
    # One stream for both: Burla loses what comes on stderr after the call's end was marked on stdout.
    output = _Labelled(sys.stdout, label)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            yield
        finally:
            output.finish()


class _Labelled(io.TextIOBase):
    # Whole lines only, each in one write: several workers may share the stream.
    def __init__(self, stream: Any, label: str) -> None:
        self._stream = stream
        self._label = label
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._label}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def finish(self) -> None:
        if self._rest:
            self.write("\n")
