"""A job, the engine that runs it, and the events of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit

from burla_provider.exceptions import InvalidParameterError

EngineName = Literal["burla", "local"]


class EngineKind(NamedTuple):
    """What the task must know about an engine.

    :param place: where it runs jobs, for the connection form.
    :param is_local: whether the workers are processes on the task's machine, with the client's interpreter.
    """

    place: str
    is_local: bool


ENGINES: Mapping[EngineName, EngineKind] = {
    "burla": EngineKind("on the cluster", is_local=False),
    "local": EngineKind("on the Airflow machine", is_local=True),
}
"""The engines. Each is a file, ``client/NAME_engine.py``."""

DEFAULT_QUEUE_TIMEOUT = 600
"""Seconds to wait for a free node."""
DEFAULT_JOB_RETRIES = 2
"""How often the missing items of a lost job are run again."""


@dataclass(frozen=True)
class JobOptions:
    """The resources of a job. Names and meanings are those of ``remote_parallel_map``.

    :param max_parallelism: maximum number of calls at the same time; None: the engine decides.
    :param func_cpu: CPUs per call, or "dynamic".
    :param func_ram: GB of memory per call, or "dynamic".
    :param func_gpu: kind of GPU that each call gets; None: no GPU.
    :param grow: boot nodes for this job.
    :param image: container image of the nodes.
    :param region: cloud region of the nodes.
    :param disk_gb: GB of disk of the nodes that are booted for this job.
    """

    max_parallelism: int | None = None
    func_cpu: int | Literal["dynamic"] = 1
    func_ram: int | Literal["dynamic"] = "dynamic"
    func_gpu: str | None = None
    grow: bool = False
    image: str | None = None
    region: str | None = None
    disk_gb: int | None = None


@dataclass(frozen=True)
class Job:
    """A callable and the items to call it with.

    :param name: name in Burla's dashboard: letters, digits, "-" and "_".
    :param pickled_callable: pickle of ``function(index, item) -> bytes``. Only a worker unpickles it. The function
        returns exceptions as data; it never raises on purpose. If it has methods ``process(index, item)`` and
        ``pause()``, workers call ``process`` instead, and ``pause`` before they send the last result of a call. They
        call ``load()``, if there is one, before the first item of a process.
    :param items: index -> item. Items are plain data.
    :param options: the job's resources.
    :param requirements: packages to install on the workers, canonical name -> "name==version"; None: all packages of
        the client's interpreter, which is Burla's default.
    :param batched_for: the expected number of workers. If there are many more items, a call processes several of them,
        one after another. None: a call per item.
    """

    name: str
    pickled_callable: bytes
    items: Mapping[int, Any]
    options: JobOptions = field(default_factory=JobOptions)
    requirements: Mapping[str, str] | None = field(default_factory=dict)
    batched_for: int | None = None


@dataclass(frozen=True)
class Engine:
    """The engine that a Burla connection describes.

    :param name: a key of ``ENGINES``.
    :param url: URL of the cluster; None: Burla finds its cluster.
    :param email: e-mail of the Burla user; None with ``token``: the login that ``burla login`` saved.
    :param token: auth token of the user; a secret.
    :param project_id: Burla project.
    :param python: interpreter of the client process; None: this one.
    :param python_parameter: parameter or connection field that names the interpreter, for errors.
    :param telemetry: let Burla's client send telemetry, which includes tracebacks.
    """

    name: EngineName = "burla"
    url: str | None = None
    email: str | None = None
    token: str | None = field(default=None, repr=False)
    project_id: str | None = None
    python: str | None = None
    python_parameter: str = "python"
    telemetry: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the workers are processes on the task's machine."""
        return ENGINES[self.name].is_local


@dataclass(frozen=True)
class JobStarted:
    """The job exists on the cluster. If it is lost, its missing items are run as another Burla job with another id.

    :param job_id: Burla's id.
    :param url: the job's page in the dashboard; None on the local engine.
    """

    job_id: str
    url: str | None


@dataclass(frozen=True)
class JobWaiting:
    """The job has not started, because no node is free.

    :param reason: what the cluster says.
    :param seconds: the longest time that the job waits from now on.
    """

    reason: str
    seconds: float


@dataclass(frozen=True)
class ItemBegan:
    """A worker process has begun an item, or its next stage.

    An item that takes less than a second may have no such event. The first item of a process may have two: the second
    one when the process has loaded the callable.

    :param worker: the worker process, ``host:pid``. It processes one item at a time.
    :param seconds: how long ago.
    :param stage: "working"; "isolating": the item has failed, and its failing rows are searched for.
    """

    index: int
    worker: str
    seconds: float = 0.0
    stage: Literal["working", "isolating"] = "working"


@dataclass(frozen=True)
class ItemSucceeded:
    """The call on item ``index`` returned ``result``."""

    index: int
    result: bytes


@dataclass(frozen=True)
class ItemCrashed:
    """The call on item ``index`` returned nothing: it raised, or killed its worker.

    :param is_loaded: whether the callable could be unpickled; if not, all other calls will fail too.
    :param attempts: how often the item was tried.
    """

    index: int
    error: str
    is_loaded: bool = True
    attempts: int = 1


@dataclass(frozen=True)
class OutputLine:
    """A line for the task's log.

    :param text: what the client, Burla or a worker printed; a worker's line begins with its item, ``[17] ``.
    :param index: the item that a message of the engine is about; None: printed output.
    """

    text: str
    index: int | None = None


@dataclass(frozen=True)
class Tick:
    """Time has passed. Lets the consumer report progress when there are no other events."""


JobEvent = JobWaiting | JobStarted | ItemBegan | ItemSucceeded | ItemCrashed | OutputLine | Tick


def split_url(url: str) -> SplitResult:
    """Return the parts of the URL of a cluster.

    :raises InvalidParameterError: if it is not a URL, its port is not a number, or it has a login, which logs may show.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (reads it)
    except ValueError:
        # The message does not show the URL, which may have a password.
        problem = "is not a URL, or its port is not a number from 0 to 65535."
        advice = "Use a URL such as https://burla.example.com or http://[::1]:5001."
        raise InvalidParameterError("host", problem, advice) from None
    if parts.username or parts.password:
        problem = "the URL contains credentials."
        raise InvalidParameterError("host", problem, "Set login (e-mail) and password (token) instead.")
    return parts
