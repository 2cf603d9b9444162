"""Helpers for tests that run jobs: make jobs, read their events, and find their processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from burla_provider.jobs.code.pickler import pickle_for_workers
from burla_provider.jobs.job import Engine, ItemCrashed, ItemSucceeded, Job, JobEvent, OutputLine
from burla_provider.jobs.runner import run_job
from tests.support.waiting import wait_for

Function = Callable[[int, Any], bytes]
LOCAL = Engine("local")
KILLED = "A worker process died (signal 9: killed, usually because memory ran out); running its item again."


def make_job(function: Function, items: Iterable[Any], **options: Any) -> Job:
    return Job("a-test", pickle_for_workers(function), dict(enumerate(items)), **options)


def run(function: Function, items: Iterable[Any], engine: Engine = LOCAL, **options: Any) -> list[JobEvent]:
    return list(run_job(make_job(function, items), engine, **options))


def results(events: Iterable[JobEvent]) -> dict[int, bytes]:
    return {event.index: event.result for event in events if isinstance(event, ItemSucceeded)}


def crashed(events: Iterable[JobEvent]) -> dict[int, str]:
    return {event.index: event.error for event in events if isinstance(event, ItemCrashed)}


def attempts(events: Iterable[JobEvent]) -> dict[int, int]:
    return {event.index: event.attempts for event in events if isinstance(event, ItemCrashed)}


def lines(events: Iterable[JobEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, OutputLine)]


def client_of(parent: int | None = None) -> psutil.Process:
    """Return the client process that a process has started."""
    children = psutil.Process(parent).children()
    (client,) = [child for child in children if any(part.endswith("client.py") for part in child.cmdline())]
    return client


def process_group(leader: int) -> list[psutil.Process]:
    """Return the running processes of a process group."""
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return members


def assert_group_ends(leader: int) -> None:
    """Wait until no process of a group runs. On a busy machine, a killed process needs a while to end."""
    wait_for(lambda: not process_group(leader), 60)


def start_task(script: str, *arguments: str, as_pid_1: bool = False, **environment: str) -> subprocess.Popen[str]:
    """Start a process that runs ``script``, which prints a line when the test may continue.

    :param as_pid_1: in a PID namespace, as in a container: if the returned process is killed, the kernel kills all.
    """
    namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if as_pid_1 else []
    command = [*namespace, sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
