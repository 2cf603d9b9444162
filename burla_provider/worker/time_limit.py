"""Interrupt a range that takes too long, whatever it is doing."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

from burla_provider.exceptions import RangeTimeoutError

REPEAT_SECONDS = 30.0
"""Seconds until the next interruption, because a bare ``except:`` in user code may catch the first one. Code that only
cleans up has enough time."""


def time_limit(seconds: float | None) -> AbstractContextManager[None]:
    """Return a context manager that interrupts its block after ``seconds``: Python code, a query, or a waiting call.

    It uses SIGALRM, so it has no effect outside the main thread. The engines run tasks in the main thread.

    :param seconds: None: no limit.
    :raises RangeTimeoutError: repeatedly inside the block, and at its end if the block caught them all.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _Alarm(seconds)


def sleep_outside_limit(seconds: float) -> None:
    """Sleep without using up the time of the surrounding ``time_limit``, if there is one."""
    if threading.current_thread() is not threading.main_thread():
        time.sleep(seconds)
        return
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        time.sleep(seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, remaining, interval)


class _Alarm:
    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._is_late = False
        self._is_over = False

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._interrupt)
        signal.setitimer(signal.ITIMER_REAL, self._seconds, REPEAT_SECONDS)

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        if self._is_late and error_type is None:  # the interrupted code may be half done
            raise self._error()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._is_over:
            return
        self._is_late = True
        # An error raised there would leave the alarm on after the block.
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
