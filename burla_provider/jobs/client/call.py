"""The function that worker processes of both engines call. Pickled by value; needs the standard library only."""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Batch = Sequence[tuple[int, bytes]]
Result = tuple[int, str, Any]
"""Index, the name of a frame of ``client.py``, and the result or the error."""

BATCH_SECONDS = 1.0
BATCH_BYTES = 1_000_000
"""A call starts no other item of its batch when it has taken this time, or has results of this size."""


class Call:
    """What a worker process calls on each batch of items.

    :param pickled_callable: see ``Job``; unpickled once per worker process.
    """

    def __init__(self, pickled_callable: bytes) -> None:
        self._pickled_callable = pickled_callable
        self._loaded: list[Any] = []

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
            is_last = number == len(batch) or size >= BATCH_BYTES or time.monotonic() >= deadline
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
        with _prefixed_output(f"[{index}] "), contextlib.suppress(BaseException):
            self._loaded.append(pickle.loads(self._pickled_callable))  # noqa: S301 - pickled by the task
            if hasattr(self._loaded[0], "load"):
                self._loaded[0].load()

    def _process(self, index: int, item: bytes) -> Result:
        with _prefixed_output(f"[{index}] "):
            try:
                if not self._loaded:
                    self._loaded.append(pickle.loads(self._pickled_callable))  # noqa: S301
                result = getattr(self._loaded[0], "process", self._loaded[0])(index, pickle.loads(item))  # noqa: S301
                if not isinstance(result, bytes):
                    raise TypeError(f"The callable must return bytes, got {type(result).__qualname__}.")
            except BaseException as error:  # SystemExit too
                return index, "crashed" if self._loaded else "not loaded", _describe(error)
            return index, "succeeded", result


def make_list_call(pickled_callable: bytes) -> Callable[[Batch], list[Result]]:
    """Return the same as a function, for an engine whose calls return one value: the list of the results."""
    call = Call(pickled_callable)

    def list_call(batch: Batch) -> list[Result]:
        return list(call(batch))

    return list_call


def _describe(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return (
            f"{error} - the workers do not have it. Name its package in requirements=[...]; on the local engine,"
            " install it where Airflow runs."
        )
    frames = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of ``process``
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
