"""Run the job of one try of a task: the trial, then all other items, until the end or until too many have failed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.job import Job, JobOptions
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.monitor import LAST_JOB, JobMonitor
from burla_provider.task.resume import NO_STORE
from burla_provider.task.run_identity import job_name
from burla_provider.task.tries import TRIES

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.hooks.burla import BurlaHook
    from burla_provider.jobs.client_process import ClientProcess
    from burla_provider.jobs.code.local_modules import LocalSources
    from burla_provider.jobs.job import Engine
    from burla_provider.task.config import JobConfig
    from burla_provider.task.report import Part
    from burla_provider.task.reporter import Reporter

_MAX_FUNCTION_BYTES = 100_000_000
"""Burla refuses more than 0.1 GB. The local engine has the same limit, so that a DAG runs on both."""


@dataclass(frozen=True)
class JobRunner:
    """One try of a task, as far as it is the same for all operators.

    :param config: parameters of the job.
    :param context: of Airflow.
    :param hook: runs the job.
    :param log: the task's logger.
    :param reporter: publishes what the try does.
    :param client: prepares itself for the first job; None: there will be no job.
    """

    config: JobConfig
    context: Context
    hook: BurlaHook
    log: Any
    reporter: Reporter
    client: ClientProcess | None = None

    @property
    def parallelism(self) -> int | None:
        """Calls at the same time. The local engine defaults to the number of processors; None: unknown."""
        if self.config.max_parallelism is None and self.hook.engine.is_local:
            return os.cpu_count()
        return self.config.max_parallelism

    @property
    def environment(self) -> tuple[Any, ...]:
        """What functions run in. If it changes, they may return something else."""
        config = self.config
        given = (config.requirements, self._pins, config.image, self.hook.engine.python)
        return (*given, sys.version_info[:2])

    def check_client(self) -> None:
        """Check that the client has not found an error of the Burla connection so far. Does not wait.

        :raises JobError: if it has.
        """
        from burla_provider.jobs.runner import check_client

        if self.client is not None:
            check_client(self.client)

    def open_checkpoint(self) -> Checkpoint:
        """Return the checkpoint of this task in the task state store, which older versions of Airflow do not have."""
        store = self.context.get("task_state_store")
        if store is None and self.context["task"].retries:
            self.log.info(NO_STORE)
        return Checkpoint(store)

    def make_job(
        self,
        work: Callable[..., bytes],
        items: Mapping[int, Any],
        max_parallelism: int | None,
        batched_for: int | None = None,
        local: LocalSources | None = None,
    ) -> Job:
        """Return the job that calls ``work`` on every item.

        :param batched_for: see ``Job``.
        :param local: the local modules that the items need.
        :raises InvalidParameterError: if the work cannot be pickled, or a requirement cannot be met.
        """
        from burla_provider.jobs.code.pickler import pickle_for_workers

        config = self.config
        pickled = pickle_for_workers(work, local=local)
        _check_size(pickled, "function")
        return Job(
            name=job_name(self.context),
            pickled_callable=pickled,
            items=items,
            options=JobOptions(
                max_parallelism=max_parallelism,
                func_cpu=config.func_cpu,
                func_ram=config.func_ram,
                func_gpu=config.func_gpu,
                grow=config.grow,
                image=config.image,
                region=config.region,
                disk_gb=config.disk_gb,
            ),
            requirements=self._pins,
            batched_for=batched_for,
        )

    def process_items(self, job: Job, monitor: JobMonitor, *, trial: int = 0) -> None:
        """Run the job to its end. The monitor handles every event.

        :param trial: run this number of items first, spread over all items. Run the others only if none fails.
        :raises RangesFailedError: if an item of the trial fails, or more items fail than are tolerated.
        """
        part: Part = "all"
        if 0 < trial < len(job.items):
            job, part = self._run_trial(job, monitor, trial), "rest"
        self._run_items(job, monitor, part)
        monitor.failures.check(monitor.total)
        if failed := self.reporter.report.failed:
            self.reporter.set_ending("incomplete", self._describe_incomplete(failed, monitor.total))

    def _run_trial(self, job: Job, monitor: JobMonitor, count: int) -> Job:
        """Run a trial and return the job without its items."""
        trial = {index: job.items[index] for index in spread(sorted(job.items), count)}
        self.log.info("Trial: running %d of %d first.", len(trial), len(job.items))
        self._run_items(replace(job, items=trial), monitor, "trial")
        monitor.failures.check_trial(len(trial))
        self.log.info("The trial passed: %s", monitor.progress.line(time.monotonic()))
        return replace(job, items={index: item for index, item in job.items.items() if index not in trial})

    def _describe_incomplete(self, failed: int, total: int) -> str:
        unit = self.reporter.report.unit
        what = "and are not in the result" if unit == "range" else "and have the result None"
        tolerated = getattr(self.config, "tolerated_failures", None)
        return f"{failed:,} of {total:,} {unit}s failed {what} (tolerated_failures={tolerated})"

    def _run_items(self, job: Job, monitor: JobMonitor, part: Part) -> None:
        if not job.items:
            return
        config = self.config
        monitor.begin_job(part, len(job.items))
        events = self.hook.run(
            job, client=self.client, queue_timeout=config.queue_timeout, job_retries=config.job_retries
        )
        with closing(events):  # ends the job, whatever happens here
            for event in events:
                monitor.handle(event)
                if monitor.failures.must_stop(monitor.total):
                    return

    @cached_property
    def _pins(self) -> Mapping[str, str] | None:
        from burla_provider.jobs.requirements import requirement_names, requirements_for

        config, engine = self.config, self.hook.engine
        if config.requirements == "environment":
            return None
        pins = requirements_for(engine, [*config.worker_requirements, *config.requirements])
        given = requirement_names(config.requirements)
        packages = [name for name in config.batch_packages if name not in given]
        return {**requirements_for(engine, packages, "batch_format"), **pins}


def check_reachable(engine: Engine, host: str, postgres_conn_id: str, parameter: str = "postgres_conn_id") -> None:
    """Check that workers can reach the database of a connection.

    :param parameter: the operator parameter that names the connection, for the error.
    :raises InvalidParameterError: if the host means this machine, and the workers are on others.
    """
    from burla_provider.database.errors import is_this_machine

    if not is_this_machine(host) or engine.is_local:
        return
    problem = (
        f"the connection is to the Unix socket {host}, which only this machine has."
        if host.startswith(("/", "@"))
        else f"the connection {postgres_conn_id!r} is to {host}, which to a worker is the worker itself."
    )
    raise InvalidParameterError(parameter, problem, "Use the host at which workers reach the database.")


def check_picklable(**parameters: Any) -> None:
    """Check that the values of these parameters can be sent to workers.

    :raises InvalidParameterError: if one cannot be pickled, or is too large.
    """
    from burla_provider.jobs.code.pickler import pickle_for_workers

    for name, value in parameters.items():
        if value is not None:
            _check_size(pickle_for_workers(value, name), name)


def _check_size(pickled: bytes, parameter: str) -> None:
    if len(pickled) > _MAX_FUNCTION_BYTES:
        raise InvalidParameterError(
            parameter,
            f"is {len(pickled) / 1e6:,.0f} MB with everything that it refers to, and Burla accepts"
            f" {_MAX_FUNCTION_BYTES / 1e6:,.0f} MB.",
            "Load large data on the worker: in __init__ of a class, or with init.",
        )


def forget_job(context: Context) -> None:
    """Delete what a retry would have needed. Call it when Airflow has stored the task's result."""
    store = context.get("task_state_store")
    if store is not None:
        Checkpoint(store).clear()
        store.delete(LAST_JOB)
        if context["ti"].try_number > 1:
            store.delete(TRIES)


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """Return ``count`` items, evenly spread from the first to the last, or all items if there are not more."""
    if count >= len(items):
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[number * (len(items) - 1) // (count - 1)] for number in range(count)]
