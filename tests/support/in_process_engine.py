"""An engine that runs the calls of a job in this process, one after another, within milliseconds."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from burla_provider.jobs.job import ItemCrashed, ItemSucceeded, Job, JobEvent, JobStarted

MAX_CALLS = 60
"""Maximum number of calls per job."""


class TooManyCallsError(Exception):
    """Raised for a job that would take too long."""


@dataclass
class InProcessEngine:
    """Replaces ``open_client`` and ``run`` of ``BurlaHook``, without a client process.

    The callable is pickled and unpickled, as on a worker.

    :param workers: number of copies of the callable, each with its own connection.
    :param twice: run every call twice, as a cluster may.
    :param crashes: number of calls of the next job that crash; the last ones.
    """

    workers: int = 1
    twice: bool = False
    crashes: int = 0

    def open_client(self, *_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def run(self, job: Job, **__: Any) -> Iterator[JobEvent]:
        if len(job.items) > MAX_CALLS:
            raise TooManyCallsError
        yield JobStarted("in-process", None)
        functions = [pickle.loads(job.pickled_callable) for _ in range(self.workers)]
        crashed = list(job.items)[len(job.items) - self.crashes :] if self.crashes else []
        self.crashes = 0
        try:
            for number, (index, item) in enumerate(job.items.items()):
                if index in crashed:
                    yield ItemCrashed(index, "the worker died")
                    continue
                for repetition in range(1 + self.twice):
                    function = functions[(number + repetition) % len(functions)]
                    yield ItemSucceeded(index, function(index, pickle.loads(pickle.dumps(item))))
        finally:
            for function in functions:
                function.close()
