"""A limit on the time that a range may take, whatever it is doing."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

from burla_provider.exceptions import RangeTimeoutError

AGAIN_SECONDS = 30.0
"""User code with a bare ``except:`` may swallow an interruption: there is another one after so long, which
is time enough for code that only cleans up."""


def time_limit(seconds: float | None) -> AbstractContextManager[None]:
    """Interrupts what its block does after ``seconds``: Python code, a query, or a call that waits.

    By SIGALRM, so in a process's main thread only, which is where the engines run work; in another one nothing happens.

    :raises RangeTimeoutError: from inside the block, again and again; at its end, if all of them were swallowed.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _Alarm(seconds)


def unlimited_sleep(seconds: float) -> None:
    """Sleep without using up the time of the limit that this runs under, if it does."""
    if threading.current_thread() is not threading.main_thread():
        time.sleep(seconds)
        return
    left, again = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        time.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, left, again)


class _Alarm:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_late = False
        self._is_over = False

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._interrupt)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, AGAIN_SECONDS)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        if self._is_late and kind is None:  # what was interrupted may be half done
            raise self._error()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        self._is_late = True
        # Raised there, it would leave the alarm on for whatever comes after the block.
        if not self._is_entering_or_leaving(frame):
            raise self._error()

    def _is_entering_or_leaving(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code in (_Alarm.__enter__.__code__, _Alarm.__exit__.__code__):
                return True
            frame = frame.f_back
        return False

    def _error(self) -> RangeTimeoutError:
        return RangeTimeoutError(f"The range took longer than range_timeout={self._seconds:g} seconds.")
