"""Child processes that end when the demo ends, whichever way it does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A ``preexec_fn``: the child gets this signal from the kernel when the thread that started it is gone.

    Linux only. None elsewhere, where a killed parent leaves its child behind.
    """
    if sys.platform != "linux":
        return None

    def ask_kernel() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number)

    return ask_kernel


def end_group(child: subprocess.Popen[str], number: signal.Signals, patience: float) -> None:
    """Asks the child to end, and after ``patience`` seconds, or when it is gone, ends what is left of its group."""
    if child.poll() is None:
        child.send_signal(number)
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _kill_group(child.pid)
        child.wait()


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
