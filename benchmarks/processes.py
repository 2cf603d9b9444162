"""What processes and all below them use, seen from outside."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import psutil


class Spent(NamedTuple):
    """Of one process, as last seen: seconds of its own, and of the children that it has waited for."""

    parent: int
    own: float
    reaped: float


class ProcessTrees:
    """Processes and all below them, from one look to the next.

    Their processor time (user and system) is each process's own, and for its children that ended the larger of two
    sums: what the kernel added to its times when it waited for them, and what was last seen of them. The first knows
    nothing of the children of a process that ignores SIGCHLD, as Ray's raylet does; the second nothing of those that
    came and went between two looks. So nothing is counted twice. What is missed, where a parent does not wait for its
    children: what they did after the last look at them, and those that no look has seen; where it waits for some, the
    smaller of the two sums. Orphans are watched for as long as they live, if a look has seen them with their parent.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = [psutil.Process(pid) for pid in roots]
        self._living: dict[psutil.Process, Spent] = {}
        self._ended: defaultdict[psutil.Process | None, float] = defaultdict(float)
        self._most = 0.0

    def cpu(self) -> float:
        """Looks, and answers with the seconds so far. They never fall."""
        living = self._look()
        parents = {process.pid: process for process in self._living}
        # Children come after their parents: what a child leaves to a parent that ended too goes on to the next one.
        for process, spent in reversed(self._living.items()):
            if process not in living:
                self._ended[parents.get(spent.parent)] += spent.own + max(spent.reaped, self._ended.pop(process, 0.0))
        self._living = living
        seconds = sum(spent.own + max(spent.reaped, self._ended[process]) for process, spent in living.items())
        self._most = max(self._most, seconds + self._ended[None])
        return self._most

    def memory(self) -> float:
        """MB of the processes of the last look; what processes share is counted once."""
        return sum(map(memory, self._living)) / 2**20

    def _look(self) -> dict[psutil.Process, Spent]:
        found: dict[psutil.Process, Spent] = {}
        for root in (*self._roots, *self._living):
            for process in family(root) if root not in found else ():
                # A parent is read before its children: a child that is still there is not in the parent's times yet.
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                    times = process.cpu_times()
                    reaped = times.children_user + times.children_system
                    found.setdefault(process, Spent(process.ppid(), times.user + times.system, reaped))
        return found


def family(root: psutil.Process) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        below = root.children(recursive=True)
        yield root
        yield from below


def memory(process: psutil.Process) -> int:
    """Bytes; 0 where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return int(process.memory_full_info().pss)
    return 0
