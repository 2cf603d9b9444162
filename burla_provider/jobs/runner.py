"""Run a job in client processes, until every item is done."""

from __future__ import annotations

import collections
import pickle
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from burla_provider.exceptions import (
    BurlaNotInstalledError,
    BurlaProviderError,
    ClusterBusyError,
    ClusterUnauthorizedError,
    ClusterUnreachableError,
    InvalidParameterError,
    JobCanceledError,
    JobLostError,
    WorkerSetupError,
)
from burla_provider.jobs.client.client import FailureKind
from burla_provider.jobs.client_process import ClientProcess
from burla_provider.jobs.job import (
    DEFAULT_JOB_RETRIES,
    DEFAULT_QUEUE_TIMEOUT,
    Engine,
    ItemBegan,
    ItemCrashed,
    ItemSucceeded,
    Job,
    JobEvent,
    JobStarted,
    JobWaiting,
    OutputLine,
    Tick,
)

_CLIENT = Path(__file__).parent / "client"
_MAX_CRASHED_ITEMS = 5  # if more items crash their workers, the items are not the cause


def start_client(engine: Engine, modules: Sequence[str] = ()) -> ClientProcess:
    """Start a client process, which prepares itself for a job. End it, whether it gets a job or not.

    It imports what it needs and checks its interpreter; it starts no job.

    :param modules: modules that every worker process imports. The local engine imports them once.
    :raises InvalidParameterError: if the interpreter cannot be run.
    """
    client = ClientProcess(engine.python, engine.python_parameter)
    # Plain data only: another interpreter, which does not have this package, may read it.
    client.prepare(
        {
            "engine_file": str(_CLIENT / f"{engine.name}_engine.py"),
            "python": sys.version_info[:2],
            "engine": asdict(engine),
            "modules": tuple(modules),
        }
    )
    return client


def check_client(client: ClientProcess) -> None:
    """Check that a client has reported no failure so far. Does not wait.

    :raises BurlaProviderError: as ``run_job``.
    """
    failure = client.failure()
    if failure is not None and failure[1] != "lost":  # run_job starts another client if one is lost
        raise _make_error(_ClientEnd(*failure[1:]))


def run_job(
    job: Job,
    engine: Engine,
    *,
    client: ClientProcess | None = None,
    queue_timeout: float = DEFAULT_QUEUE_TIMEOUT,
    job_retries: int = DEFAULT_JOB_RETRIES,
    tick_seconds: float = 1.0,
) -> Generator[JobEvent]:
    """Run a job in client processes and yield its events, results as they arrive.

    Iterate in the main thread. If the generator ends early (``close``, an exception thrown into it or raised in it by
    a signal handler), the job is canceled and all its processes are ended within 5 seconds. If the task is killed, the
    client process notices and does the same.

    :param client: a client of this engine. If it has no job yet, it gets this one.
    :param queue_timeout: seconds to wait for a free node.
    :param job_retries: how often missing items are run again after the cluster or the client lost the job. Each time
        is another Burla job and yields ``JobStarted`` again.
    :param tick_seconds: maximum seconds between two ``Tick`` events.
    :raises InvalidParameterError: if a value of the connection or of the options cannot be used.
    :raises BurlaNotInstalledError: if the interpreter has no burla, or a version that is not supported.
    :raises ClusterUnauthorizedError: if the credentials are wrong.
    :raises ClusterUnreachableError: if the cluster does not respond.
    :raises ClusterBusyError: if no node is free within ``queue_timeout``.
    :raises JobCanceledError: if the job was canceled on the cluster.
    :raises WorkerSetupError: if workers of the local engine die while they load the callable.
    :raises JobLostError: if the job was lost more than ``job_retries`` times.
    """
    missing = _MissingItems(job.items, job_retries)
    is_retry = False
    while indexes := missing.next_indexes():
        if client is None or client.has_job:
            client = start_client(engine)
        make_frame = partial(_job_frame, job, missing, indexes, queue_timeout, is_retry)
        end = yield from _run_client(make_frame, client, missing, tick_seconds)
        # Results count even if the client failed after it sent them.
        if not missing.next_indexes() or (end.kind == "done" and missing.has_none_of(indexes)):
            continue
        is_retry = True
        yield from missing.handle_loss(end)


@dataclass(frozen=True)
class _ClientEnd:
    # indexes: the items of the call that crashed its worker, if known. parameter: the one that the cluster refused.
    kind: FailureKind | Literal["done"]
    message: str = ""
    indexes: tuple[int, ...] = ()
    parameter: str | None = None


class _MissingItems:
    """The items without a result, and how often they crashed a worker."""

    def __init__(self, items: Mapping[int, Any], retries: int) -> None:
        self._items = dict(items)
        self._total = len(self._items)
        self._retries = retries
        self._losses = 0
        self._crashes: collections.Counter[int] = collections.Counter()
        self._suspects: set[int] = set()
        self._crashed_batches = 0
        self._deaths = 0

    def next_indexes(self) -> list[int]:
        """Return the items to run next: suspects after all others, then the items that crashed a worker."""
        stage = min(map(self._stage, self._items), default=0)
        return [index for index in self._items if self._stage(index) == stage]

    def pickle_items(self, indexes: Iterable[int]) -> dict[int, bytes]:
        """Return these items for the client."""
        return {index: pickle.dumps(self._items[index], protocol=5) for index in indexes}

    def _stage(self, index: int) -> int:
        return 1 + self._crashes[index] if index in self._crashes else int(index in self._suspects)

    def has_suspects(self, indexes: Iterable[int]) -> bool:
        """Return whether an item may have crashed a worker."""
        return any(self._stage(index) for index in indexes)

    def has_none_of(self, indexes: Iterable[int]) -> bool:
        return self._items.keys().isdisjoint(indexes)

    def contains(self, index: int) -> bool:
        return index in self._items

    def crashes(self, index: int) -> int:
        """Return how often the item has crashed a worker."""
        return self._crashes[index]

    def remove(self, index: int) -> bool:
        """Return False if the item was already removed: a call may run twice."""
        if index not in self._items:
            return False
        del self._items[index]
        return True

    def handle_loss(self, end: _ClientEnd) -> Generator[JobEvent]:
        """Count the loss, and yield its events.

        :raises JobError: if the job must not be run again.
        """
        if end.kind not in ("lost", "done"):
            raise _make_error(end)
        message = end.message or "The client ended before every item had a result."
        self._deaths += bool(end.indexes)
        if end.indexes and (suspects := self._items.keys() & end.indexes):
            if len(end.indexes) > 1 and self._crashed_batches < _MAX_CRASHED_ITEMS:
                self._crashed_batches += 1
                self._suspects |= suspects
                yield OutputLine(
                    f"The worker died while it processed {len(end.indexes)} items in one call; running each of them in"
                    f" a call of its own after all others. {message}"
                )
                return
            if len(end.indexes) == 1 and len(self._crashes.keys() | suspects) <= _MAX_CRASHED_ITEMS:
                yield from self._handle_crash(end.indexes[0], message)
                return
        self._losses += 1
        if self._losses > self._retries:
            raise JobLostError(self._describe_loss(message))
        yield OutputLine(f"The job was lost; running {len(self._items):,} missing items again. {message}")

    def _describe_loss(self, message: str) -> str:
        missing = f"{len(self._items):,} of {self._total:,} items are still missing."
        if self._deaths > _MAX_CRASHED_ITEMS:
            return (
                f"Worker processes died {self._deaths} times, on different items, and {missing} {message} In most cases"
                " memory runs out: give each worker more (func_ram), or make the ranges or inputs smaller."
            )
        return (
            f"The job was lost {self._losses} times, and {missing} See the job's page, and run the task again to"
            f" process them. {message}"
        )

    def _handle_crash(self, index: int, message: str) -> Generator[JobEvent]:
        self._crashes[index] += 1
        if self._crashes[index] > self._retries:
            self.remove(index)
            attempts = self._crashes[index]
            yield ItemCrashed(index, f"Its worker died {attempts} times. {message}", attempts=attempts)
        else:
            yield OutputLine(f"The worker died; running this item again after all others. {message}", index)


def _run_client(
    make_frame: Callable[[], Mapping[str, Any]], process: ClientProcess, missing: _MissingItems, tick_seconds: float
) -> Generator[JobEvent, None, _ClientEnd]:
    end = None
    try:
        process.start(make_frame())  # not kept: it has another copy of all items
        for event in process.events(tick_seconds):
            match event:
                case OutputLine() | Tick():
                    yield event
                case ItemBegan(index):
                    if missing.contains(index):  # its result may be faster than its output
                        yield event
                case ("succeeded", index, result):
                    if missing.remove(index):
                        yield ItemSucceeded(index, result)
                case ("crashed" | "not loaded" as outcome, index, error, attempts):
                    if missing.remove(index):
                        attempts += missing.crashes(index)
                        yield ItemCrashed(index, error, is_loaded=outcome == "crashed", attempts=attempts)
                case ("waiting", reason, seconds):
                    yield JobWaiting(reason, seconds)
                case ("started", job_id, url):
                    yield JobStarted(job_id, url)
                case ("line", text, index):
                    yield OutputLine(text, index)
                case ("done",):
                    end = _ClientEnd("done")
                case ("failed", kind, message, indexes, parameter):
                    end = _ClientEnd(kind, message, indexes, parameter)
    finally:
        status = process.end()
    return end or _ClientEnd("lost", f"The client process died (exit status {status}).")


def _job_frame(
    job: Job, missing: _MissingItems, indexes: Sequence[int], queue_timeout: float, is_retry: bool
) -> dict[str, Any]:
    return {
        "name": job.name,
        "pickled_callable": job.pickled_callable,
        "items": missing.pickle_items(indexes),
        # A call per suspect, so that the item that kills its worker is known.
        "batched_for": None if missing.has_suspects(indexes) else job.batched_for,
        "options": asdict(job.options),
        "requirements": None if job.requirements is None else dict(job.requirements),
        "queue_timeout": queue_timeout,
        "is_retry": is_retry,
    }


def _make_error(end: _ClientEnd) -> BurlaProviderError:
    message = end.message
    if end.kind == "refused":
        parameter = end.parameter or "job"
        advice = _REFUSED_ADVICE.get(parameter, "Change the job's parameters, or the cluster.")
        return InvalidParameterError(parameter, message, advice)
    errors: dict[str, BurlaProviderError] = {
        "busy": ClusterBusyError(
            f"{message} No node was free within queue_timeout. Wait longer, add nodes, or use grow=True."
        ),
        "unauthorized": ClusterUnauthorizedError(
            f"{message} Check login (e-mail) and password (token) of the Burla connection."
        ),
        "unreachable": ClusterUnreachableError(f"{message} Check the host of the Burla connection and the network."),
        "canceled": JobCanceledError(f"{message} The job was canceled on the cluster."),
        "not installed": BurlaNotInstalledError(message),
        "not loaded": WorkerSetupError(
            f"A worker could not load what the function needs. {message} If memory ran out, lower max_parallelism, or"
            " load less."
        ),
    }
    return errors[end.kind]


_REFUSED_ADVICE = {
    "host": "Set the host of the Burla connection to the cluster's https:// URL: cluster_dashboard_url in"
    " burla_credentials.json.",
    "python": "Use an image with this version of Python (image=..., or the cluster's default image).",
    "func_gpu": "Use a GPU that the cluster's cloud has, add nodes with it, or use grow=True.",
    "function": "Keep large data out of the function, and read it on the worker.",
}
"""Parameter that the cluster refuses -> remedy."""
