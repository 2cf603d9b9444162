"""What is run, where, and what comes back while it runs: plain data that every part of this room shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class JobOptions:
    """How much of the cluster a job may use. Names and meanings are ``remote_parallel_map``'s.

    :param max_parallelism: calls at the same time; None leaves it to the engine.
    :param func_cpu: CPUs a call, an integer, or "dynamic".
    :param func_ram: GB of memory a call, an integer, or "dynamic".
    :param grow: boot nodes for this job.
    :param image: container image of the nodes.
    :param region: cloud region of the nodes.
    """

    max_parallelism: int | None = None
    func_cpu: int | Literal["dynamic"] = 1
    func_ram: int | Literal["dynamic"] = "dynamic"
    grow: bool = False
    image: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Job:
    """A callable and the items to call it on.

    :param name: what people see in Burla's dashboard, letters, digits, "-" and "_".
    :param work: ``cloudpickle.dumps`` of ``work(index, item) -> bytes``. It travels as opaque bytes, only a worker
        unpickles it, and it answers exceptions as data (it never raises on purpose).
    :param items: what to call it on; item number ``index`` gets the answer number ``index``. Plain data.
    :param options: how much of the cluster it may use.
    :param requirements: pins to install on the workers, canonical name -> "name==version"; None: everything that
        the client's interpreter has (Burla's own way).
    """

    name: str
    work: bytes
    items: Mapping[int, Any]
    options: JobOptions = field(default_factory=JobOptions)
    requirements: Mapping[str, str] | None = field(default_factory=dict)


@dataclass(frozen=True)
class Engine:
    """Where a job runs: what the Burla connection says.

    :param name: "burla" or "local".
    :param url: the head's address; None: Burla's own resolution.
    :param email: of the Burla user; None with ``token``: the login that Burla itself saved.
    :param token: the user's secret. Never printed.
    :param project_id: Burla's project.
    :param python: interpreter of the client process; None: this one.
    :param telemetry: let Burla's client send its telemetry (tracebacks included).
    """

    name: Literal["burla", "local"] = "burla"
    url: str | None = None
    email: str | None = None
    token: str | None = field(default=None, repr=False)
    project_id: str | None = None
    python: str | None = None
    telemetry: bool = False


@dataclass(frozen=True)
class Started:
    """The job exists on the cluster. ``job_id`` is Burla's own, ``url`` its page (None on the local engine).

    It comes again when a lost job's missing items are run again: as another Burla job, with another page.
    """

    job_id: str
    url: str | None


@dataclass(frozen=True)
class ItemSucceeded:
    """Item ``index`` is worked; ``answer`` is what the work returned."""

    index: int
    answer: bytes


@dataclass(frozen=True)
class ItemCrashed:
    """The call on item ``index`` raised through the engine: the work could not even be unpickled, say."""

    index: int
    error: str


@dataclass(frozen=True)
class Line:
    """A line that the client, Burla or the workers printed; a worker's begins with its item, ``[17] ``.

    :param about: the item that this is about, where it is no print but a word of the provider's.
    """

    text: str
    about: int | None = None


@dataclass(frozen=True)
class Tick:
    """Nothing happened for a moment: a chance to say how far the job is."""


JobEvent = Started | ItemSucceeded | ItemCrashed | Line | Tick
"""What a running job yields."""
