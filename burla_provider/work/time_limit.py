"""A limit on the time that a range may take, whatever it is doing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class RangeTimedOut(BaseException):
    """The range took longer than ``range_timeout``. Not an Exception: ``except Exception`` in user code must not stop
    it."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Interrupts what its block does after ``seconds``: Python code, a query, or a call that waits.

    By SIGALRM, so in a process's main thread only, which is where the engines run work; in another one nothing happens.

    :raises RangeTimedOut: from inside the block.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise RangeTimedOut(f"The range took longer than range_timeout={seconds:g} seconds.")

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
