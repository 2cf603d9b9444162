"""Measure processes and their descendants from outside."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import psutil


class CpuTimes(NamedTuple):
    """Processor seconds of a process, and of the children that it has waited for, in the last sample."""

    parent: int
    process: float
    reaped: float


class ProcessTrees:
    """Processes and their descendants, from sample to sample.

    The processor time (user and system) of a process includes its ended children. It uses the larger of two sums: the
    time that the kernel added when the process waited for its children, and the time in their last sample. The kernel
    adds nothing for the children of a process that ignores SIGCHLD, such as Ray's raylet. Samples miss children that
    start and end between two samples. So no time is counted twice, but some can be missed: if a parent does not wait,
    the time of its children after their last sample; if it waits for some of them, the smaller sum. Orphans are
    followed until they end if they were in a sample together with their parent.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in roots]
        self._living: dict[psutil.Process, CpuTimes] = {}
        self._ended: defaultdict[psutil.Process | None, float] = defaultdict(float)
        self._maximum = 0.0

    def cpu(self) -> float:
        """Take a sample and return the seconds since the start. They never decrease."""
        living = self._sample()
        parents = {process.pid: process for process in self._living}
        # Children come after their parents, so the time of an ended child reaches the first ancestor that still runs.
        for process, times in reversed(self._living.items()):
            if process not in living:
                ended_children = max(times.reaped, self._ended.pop(process, 0.0))
                self._ended[parents.get(times.parent)] += times.process + ended_children
        self._living = living
        seconds = sum(times.process + max(times.reaped, self._ended[process]) for process, times in living.items())
        self._maximum = max(self._maximum, seconds + self._ended[None])
        return self._maximum

    def memory(self) -> float:
        """Return the MB of the processes in the last sample. Shared memory is counted once."""
        return sum(map(memory, self._living)) / 2**20

    def _sample(self) -> dict[psutil.Process, CpuTimes]:
        found: dict[psutil.Process, CpuTimes] = {}
        for root in (*self._roots, *self._living):
            for process in family(root) if root not in found else ():
                # Parents are read before their children, so a running child is not in the times of its parent yet.
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                    times = process.cpu_times()
                    reaped = times.children_user + times.children_system
                    found.setdefault(process, CpuTimes(process.ppid(), times.user + times.system, reaped))
        return found


def family(root: psutil.Process) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        descendants = root.children(recursive=True)
        yield root
        yield from descendants


def memory(process: psutil.Process) -> int:
    """Return the bytes of a process; 0 if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0
