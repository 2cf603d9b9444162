"""Running a job to its end: one client process after another, until every item has its answer."""

from __future__ import annotations

import collections
import pickle
import sys
from collections.abc import Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from burla_provider.exceptions import (
    BurlaNotInstalledError,
    BurlaProviderError,
    ClusterBusyError,
    ClusterUnauthorizedError,
    ClusterUnreachableError,
    InvalidParameterError,
    JobCanceledError,
    JobError,
    JobLostError,
)
from burla_provider.jobs.client_process import ClientProcess
from burla_provider.jobs.job import Engine, ItemCrashed, ItemSucceeded, Job, JobEvent, Line, Started, Tick

_ENGINE_FILES = {name: str(Path(__file__).parent / "client" / f"{name}_engine.py") for name in ("burla", "local")}
_MAX_CULPRITS = 5  # more items than this that kill their workers: it is not the items, or the job is hopeless


def run_job(
    job: Job,
    engine: Engine,
    *,
    queue_timeout: float = 600,
    job_retries: int = 2,
    tick_seconds: float = 1.0,
) -> Generator[JobEvent]:
    """Run a job in client processes of their own and yield what happens, answers in the order of their coming.

    Drive it in the main thread. Whatever ends the generator early (``close``, an exception thrown into it or raised
    in it by a signal handler) ends the job within 5 seconds: cancelled on the cluster, and no process left. When the
    whole task is killed, the client process notices and does the same.

    :param queue_timeout: seconds to wait for a free node.
    :param job_retries: how often what is missing is run again after the cluster or the client lost the job. ``Started``
        comes again each time: it is another Burla job.
    :param tick_seconds: a ``Tick`` comes at least this often.
    :raises InvalidParameterError: the connection or the options name something that cannot be.
    :raises BurlaNotInstalledError: the interpreter has no burla, or an unknown version of it.
    :raises ClusterUnauthorizedError: wrong credentials.
    :raises ClusterUnreachableError: no answer from the head.
    :raises ClusterBusyError: no free node within ``queue_timeout``.
    :raises JobCanceledError: somebody cancelled the job.
    :raises JobLostError: the cluster lost the job once too often.
    """
    missing = _Missing(job.items, job_retries)
    losses = 0
    while batch := missing.batch():
        frame = _job_frame(job, engine, batch, queue_timeout, again=losses > 0)
        ending = yield from _run_client(frame, engine, missing, tick_seconds)
        # An answer counts, whatever became of the client that brought it.
        if not missing.batch() or (ending.kind == "done" and missing.has_none_of(batch)):
            continue
        losses += 1
        yield from missing.note_loss(ending)


class _Ending(NamedTuple):
    # How a client process ended: "done" or one of client.KINDS.
    kind: str
    message: str = ""
    about: Any = None


class _Missing:
    """The items without an answer, and what is known of why."""

    def __init__(self, items: Mapping[int, Any], retries: int) -> None:
        self._items = {index: pickle.dumps(item, protocol=5) for index, item in items.items()}
        self._total = len(self._items)
        self._retries = retries
        self._losses = 0
        self._deaths: collections.Counter[int] = collections.Counter()

    def batch(self) -> dict[int, bytes]:
        """What to run next: whatever killed its worker waits until the others are done."""
        innocent = {index: item for index, item in self._items.items() if index not in self._deaths}
        return innocent or dict(self._items)

    def has_none_of(self, batch: Mapping[int, bytes]) -> bool:
        return self._items.keys().isdisjoint(batch)

    def remove(self, index: int) -> bool:
        """False when it had been answered before: a call may run twice."""
        return self._items.pop(index, None) is not None

    def note_loss(self, ending: _Ending) -> Generator[JobEvent]:
        """Yields what the loss comes to.

        :raises JobError: it was one too many, or of a kind that another try cannot mend.
        """
        if ending.kind not in ("lost", "done"):
            raise _error(ending)
        message = ending.message or "The client ended before every item had an answer."
        if ending.about in self._items and len(self._deaths.keys() | {ending.about}) <= _MAX_CULPRITS:
            yield from self._note_death(ending.about, message)
            return
        self._losses += 1
        if self._losses > self._retries:
            raise JobLostError(
                f"The job was lost {self._losses} times, and {len(self._items):,} of {self._total:,} items are still "
                f"missing. The job's page may say more; run the task again for what is missing. {message}"
            )
        yield Line(f"The job was lost; running {len(self._items):,} missing items again. {message}")

    def _note_death(self, index: int, message: str) -> Generator[JobEvent]:
        self._deaths[index] += 1
        if self._deaths[index] > self._retries:
            self.remove(index)
            yield ItemCrashed(index, f"Its worker died {self._deaths[index]} times. {message}")
        else:
            yield Line(f"The worker died; running the others first, then this one again. {message}", index)


def _run_client(
    frame: Mapping[str, Any], engine: Engine, missing: _Missing, tick_seconds: float
) -> Generator[JobEvent, None, _Ending]:
    process = ClientProcess(engine.python)
    ending = None
    try:
        process.start(frame)
        for event in process.events(tick_seconds):
            match event:
                case Line() | Tick():
                    yield event
                case ("answered", index, answer):
                    if missing.remove(index):
                        yield ItemSucceeded(index, answer)
                case ("broken", index, error):
                    if missing.remove(index):
                        yield ItemCrashed(index, error)
                case ("started", job_id, url):
                    yield Started(job_id, url)
                case ("line", text, *about):
                    yield Line(text, *about)
                case ("done",):
                    ending = _Ending("done")
                case ("failed", kind, message, about):
                    ending = _Ending(kind, message, about)
    finally:
        status = process.end()
    return ending or _Ending("lost", f"The client process ended by itself (exit status {status}).")


def _job_frame(
    job: Job, engine: Engine, batch: dict[int, bytes], queue_timeout: float, *, again: bool
) -> dict[str, Any]:
    # Plain data only: the client may be another interpreter, and knows nothing of this package.
    return {
        "engine_file": _ENGINE_FILES[engine.name],
        "python": sys.version_info[:2],
        "name": job.name,
        "work": job.work,
        "items": batch,
        "options": asdict(job.options),
        "requirements": None if job.requirements is None else dict(job.requirements),
        "engine": asdict(engine),
        "queue_timeout": queue_timeout,
        "again": again,
    }


def _error(ending: _Ending) -> BurlaProviderError:
    message = ending.message
    if ending.kind == "refused":
        about = str(ending.about or "job")
        return InvalidParameterError(
            about, message, _REFUSED.get(about, "Change what the job asks for, or the cluster.")
        )
    errors: dict[str, JobError] = {
        "busy": ClusterBusyError(
            f"{message} No node was free within queue_timeout: wait longer, add nodes, or pass grow=True."
        ),
        "unauthorized": ClusterUnauthorizedError(
            f"{message} Check login and password (e-mail, token) of the connection."
        ),
        "unreachable": ClusterUnreachableError(f"{message} Check the host of the Burla connection and the network."),
        "canceled": JobCanceledError(f"{message} Somebody cancelled the job on the cluster."),
        "not installed": BurlaNotInstalledError(message),
    }
    return errors[ending.kind]


_REFUSED = {
    "host": "Give the cluster's https:// URL as host of the Burla connection: cluster_dashboard_url of"
    " burla_credentials.json.",
    "python": "Use an image with this version of Python (image=..., or the cluster's own).",
    "function": "Keep large data out of the function, and read it on the worker.",
}
"""What to do about a parameter that the cluster refuses."""
