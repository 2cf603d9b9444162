"""A PID namespace, as a container has one: its first process is PID 1, and all others end with it.

PID 1 adopts orphans. Unless it is an init, it never reaps them, and the kernel ignores signals without a handler.
"""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_NEW_MOUNTS, _NEW_PIDS, _NEW_USER = 0x0002_0000, 0x2000_0000, 0x1000_0000
_RECURSIVE_PRIVATE = 0x4000 | 0x4_0000
_LIBC = ctypes.CDLL(None, use_errno=True)


def outside(function: Callable[[], Any]) -> Any:
    """Return what ``function()`` returns in another process, whose next child is PID 1 of a new namespace.

    :raises AssertionError: with the traceback of the other process.
    :raises PermissionError: if this user cannot create namespaces.
    """

    def call() -> Any:
        try:
            _check(_LIBC.unshare(_NEW_PIDS | (0 if os.geteuid() == 0 else _NEW_USER)))
        except OSError as error:
            if error.errno == errno.EINVAL:
                # A hook of a library has started a thread after the fork: the process cannot have a new user namespace.
                raise PermissionError(*error.args) from None
            raise
        return function()

    return in_another_process(call)


def in_another_process(function: Callable[[], Any]) -> Any:
    """Return what ``function()`` returns in a fork of this process."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        receiver.close()
        try:
            answer = (True, function())
        except PermissionError as error:
            answer = (False, error)
        except BaseException:
            answer = (False, AssertionError(traceback.format_exc()))
        sender.send(answer)
        os._exit(0)
    sender.close()
    succeeded, value = receiver.recv()
    os.waitpid(pid, 0)
    if not succeeded:
        raise value
    return value


def enter() -> None:
    """Mount /proc of the namespace. To be called by its PID 1."""
    assert os.getpid() == 1
    _check(_LIBC.unshare(_NEW_MOUNTS))
    _check(_LIBC.mount(None, b"/", None, _RECURSIVE_PRIVATE, None))
    _check(_LIBC.mount(b"proc", b"/proc", b"proc", 0, None))


def processes() -> dict[int, str]:
    """Return the state of each process of this namespace, such as "S", and "Z" after its end."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                found[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _check(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
