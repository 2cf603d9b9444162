"""An engine that runs a job's calls in this process, one after another: an example takes milliseconds."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from burla_provider.jobs.job import ItemCrashed, ItemSucceeded, Job, JobEvent, JobStarted

MOST = 60
"""Calls of a job."""


class TooMany(Exception):
    """A job of so many calls takes too long."""


@dataclass
class InProcessEngine:
    """What ``BurlaHook.run`` gives, without a client process. The work is pickled and unpickled, as a worker has it.

    :param workers: how many copies of the work there are, each with a connection of its own.
    :param twice: run every call twice, as a cluster may.
    :param broken: how many of the next job's calls, the last ones, never answer.
    """

    workers: int = 1
    twice: bool = False
    broken: int = 0

    def run(self, job: Job, **__: Any) -> Iterator[JobEvent]:
        if len(job.items) > MOST:
            raise TooMany
        yield JobStarted("in-process", None)
        works = [pickle.loads(job.pickled_callable) for _ in range(self.workers)]
        broken = list(job.items)[len(job.items) - self.broken :] if self.broken else []
        self.broken = 0
        try:
            for place, (index, item) in enumerate(job.items.items()):
                if index in broken:
                    yield ItemCrashed(index, "the worker died")
                    continue
                for again in range(1 + self.twice):
                    work = works[(place + again) % len(works)]
                    yield ItemSucceeded(index, work(index, pickle.loads(pickle.dumps(item))))
        finally:
            for work in works:
                work.close()
