"""Child processes that end with the demo, however the demo ends."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def end_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """Return a ``preexec_fn``: the kernel sends the child this signal when the thread that started it ends.

    Linux only. On other systems, return None: the child continues after its parent was killed.
    """
    if sys.platform != "linux":
        return None

    def set_death_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal)

    return set_death_signal


def end_group(child: subprocess.Popen[str], stop_signal: signal.Signals, timeout: float) -> None:
    """Send the child a signal, wait up to ``timeout`` seconds for it, and kill the rest of its process group."""
    if child.poll() is None:
        child.send_signal(stop_signal)
    try:
        child.wait(timeout)
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
