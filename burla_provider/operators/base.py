"""What every operator of this provider shares: where it runs, how much it may use, and how it ends."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from burla_provider.exceptions import InvalidParameterError, PermanentError, TaskKilledError
from burla_provider.hooks.burla import BurlaHook
from burla_provider.jobs.job import Job, JobOptions, JobStarted
from burla_provider.links.burla import BurlaJobLink
from burla_provider.task.checkpoint import Checkpoint
from burla_provider.task.metrics import Phases
from burla_provider.task.monitor import LAST_JOB, JobMonitor
from burla_provider.task.rendered import RenderedText, source_code
from burla_provider.task.resume import NO_STORE, Resume
from burla_provider.task.run_identity import job_name
from burla_provider.task.validation import (
    check_amount,
    check_choice,
    check_count,
    check_names,
    check_seconds,
    check_texts,
    whole_number,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


class BurlaBaseOperator(BaseOperator):
    """Runs one job, keeps its outcomes, and leaves nothing running whatever way it ends.

    :param burla_conn_id: connection of type ``burla``: the cluster, or the local engine.
    :param max_parallelism: calls at the same time; None leaves it to the cluster.
    :param func_cpu: CPUs a call, or "dynamic".
    :param func_ram: GB of memory a call, or "dynamic" (Burla may then run a call again with more).
    :param grow: let Burla boot nodes for this job.
    :param image: container image of the nodes.
    :param region: cloud region of the nodes.
    :param requirements: packages that the user's function needs on the workers ("pandas", "foo==1.2"); those without
        a version get this environment's. "environment" installs all that the client's interpreter has, which
        is Burla's own way.
    :param burla_python: interpreter that has burla, in place of the connection's ``python``.
    :param queue_timeout: seconds to wait for a free node.
    :param job_retries: how often what a lost node left undone is run again within this try of the task.
    :param max_result_bytes: a result that has more bytes as JSON fails the task before it is pushed to XCom, because a
        large one delays other tasks and Airflow's API; None: no limit, for an XCom backend that keeps large values.
    :param resume: whether a retry of the task works only what the try before has not done: "auto" where that is sound,
        True always, False never. Needs Airflow 3.3.
    """

    template_fields: Sequence[str] = (
        "burla_conn_id",
        "max_parallelism",
        "func_cpu",
        "func_ram",
        "image",
        "region",
        "requirements",
        "burla_python",
        "code",
    )
    template_fields_renderers = {"requirements": "json", "code": "py"}  # noqa: RUF012 (Airflow declares it so)
    function_fields: tuple[str, ...] = ()
    operator_extra_links = (BurlaJobLink(),)
    worker_requirements: tuple[str, ...] = ()
    advice_on_size: str

    def __init__(
        self,
        *,
        burla_conn_id: str = BurlaHook.default_conn_name,
        max_parallelism: int | None = None,
        func_cpu: int | Literal["dynamic"] = 1,
        func_ram: int | Literal["dynamic"] = "dynamic",
        grow: bool = False,
        image: str | None = None,
        region: str | None = None,
        requirements: Sequence[str] | Literal["environment"] = (),
        burla_python: str | None = None,
        queue_timeout: float = 600,
        job_retries: int = 2,
        max_result_bytes: int | None = 5_000_000,
        resume: Resume = "auto",
        **kwargs: Any,
    ) -> None:
        check_names(type(self), kwargs)
        super().__init__(**kwargs)
        self.burla_conn_id = burla_conn_id
        self.max_parallelism = max_parallelism
        self.func_cpu = func_cpu
        self.func_ram = func_ram
        self.grow = grow
        self.image = image
        self.region = region
        self.requirements = requirements
        self.burla_python = burla_python
        self.queue_timeout = queue_timeout
        self.job_retries = job_retries
        self.max_result_bytes = max_result_bytes
        self.resume = resume
        self._executing = False
        self._killed = False

    def _check_at_parse(self) -> None:
        """To be called at the end of ``__init__``.

        A mapped task is only made when it runs: ``execute`` checks it then, and fails it without a retry.
        """
        if not getattr(self, "_BaseOperator__from_mapped", False):
            self._check_parameters()

    def _check_parameters(self) -> None:
        """:raises InvalidParameterError: a value that cannot be used. What a template will say is not known at parse."""
        check_amount("max_parallelism", self.max_parallelism, None)
        check_amount("func_cpu", self.func_cpu, "dynamic")
        check_amount("func_ram", self.func_ram, "dynamic")
        # A template that renders to nothing means none.
        if self.requirements not in ("environment", ""):
            check_texts("requirements", self.requirements)
        check_count("job_retries", self.job_retries, 0)
        check_seconds("queue_timeout", self.queue_timeout)
        if self.max_result_bytes is not None:
            check_count("max_result_bytes", self.max_result_bytes, 1)
        check_choice("resume", self.resume, ("auto", True, False))

    @cached_property
    def hook(self) -> BurlaHook:
        return BurlaHook(self.burla_conn_id, python=self.burla_python)

    @property
    def code(self) -> RenderedText | None:
        """The source of the user's functions, for people who look at the task."""
        functions = (getattr(self, name) for name in self.function_fields)
        text = "\n\n".join(source_code(function) for function in functions if function is not None)
        return RenderedText(text) if text else None

    def execute(self, context: Context) -> Any:
        self._executing = True
        self.phases = Phases(context)
        # Airflow stores the result after this method: a retry after a result that it refused needs all that was kept.
        self.on_success_callback = [_forget_job, *self.on_success_callback]
        try:
            self._check_parameters()
            result = self._execute(context)
        except PermanentError as error:
            raise AirflowFailException(str(error)) from error
        finally:
            self._executing = False
            self.phases.end()
            if self.phases.seconds:
                self.log.info("%s", self.phases)
        if self._killed:
            raise TaskKilledError("The task was killed.")
        return result

    def on_kill(self) -> None:
        # If this returned, execute() would go on and could end in success. Airflow calls it in the main thread, so
        # raising ends execute() where it stands; the job is cancelled by the clean-up on the way out.
        if self._executing and not self._killed:
            self._killed = True
            raise TaskKilledError("The task was killed; its Burla job is being cancelled.")

    def _checkpoint(self, context: Context) -> Checkpoint:
        store = context.get("task_state_store")
        if store is None and self.retries:
            self.log.info(NO_STORE)
        return Checkpoint(store)

    def check_result_size(self, size: int) -> None:
        """:raises InvalidParameterError: a result of so many bytes is not pushed to XCom."""
        if self.do_xcom_push and self.max_result_bytes is not None and size > self.max_result_bytes:
            problem = f"the result has more than {self.max_result_bytes:,} bytes as JSON."
            raise InvalidParameterError("max_result_bytes", problem, self.advice_on_size)

    @abstractmethod
    def _execute(self, context: Context) -> Any:
        """The run itself."""

    def _parallelism(self) -> int | None:
        """What the user wants; on the local engine else as many as this machine has processors; None: not known."""
        wanted = whole_number(self.max_parallelism)
        return os.cpu_count() if wanted is None and self.hook.engine.name == "local" else wanted

    def _check_sendable(self, *names: str) -> None:
        """:raises InvalidParameterError: a value of these parameters cannot be sent to workers."""
        from burla_provider.jobs.code.pickler import pickle_for_workers

        for name in names:
            pickle_for_workers(getattr(self, name), name)

    def _make_job(self, context: Context, work: Any, items: Mapping[int, Any], max_parallelism: int | None) -> Job:
        from burla_provider.jobs.code.pickler import pickle_for_workers

        return Job(
            name=job_name(context),
            pickled_callable=pickle_for_workers(work),
            items=items,
            options=JobOptions(
                max_parallelism=max_parallelism,
                func_cpu=whole_number(self.func_cpu),
                func_ram=whole_number(self.func_ram),
                grow=self.grow,
                image=self.image,
                region=self.region,
            ),
            requirements=self._pins(),
        )

    def _pins(self) -> Mapping[str, str] | None:
        from burla_provider.jobs.requirements import check_installed, resolve_requirements

        if self.requirements == "environment":
            return None
        wanted = [*self.worker_requirements, *self.requirements]
        if self.hook.engine.name == "local":
            check_installed(wanted, self.hook.engine.python)
            return {}
        return resolve_requirements(wanted)

    def _work_off(self, job: Job, watch: JobMonitor, *, trial: int = 0) -> None:
        """Run the job to its end while ``watch`` is told of all that happens.

        :param trial: run so many items first, spread over all; go on only if none fails.
        :raises RangesFailedError: an item of the trial failed, or more items than is tolerated.
        """
        if 0 < trial < len(job.items):
            job = self._try_out(job, watch, trial)
        self._run(job, watch)
        watch.failures.check(watch.total)

    def _try_out(self, job: Job, watch: JobMonitor, trial: int) -> Job:
        first = {index: job.items[index] for index in spread(sorted(job.items), trial)}
        self.log.info("Trying %d of %d first.", len(first), len(job.items))
        self._run(replace(job, items=first), watch)
        watch.failures.check_trial(len(first))
        self.log.info("The trial passed: %s", watch.progress.line(time.monotonic()))
        return replace(job, items={index: item for index, item in job.items.items() if index not in first})

    def _run(self, job: Job, watch: JobMonitor) -> None:
        if not job.items:
            return
        self.phases.enter("starting the client")
        with closing(self.hook.run(job, queue_timeout=self.queue_timeout, job_retries=self.job_retries)) as events:
            for event in events:
                if isinstance(event, JobStarted):
                    self.phases.enter("working")
                watch.handle(event)
                if watch.failures.must_stop(watch.total):
                    return


def _forget_job(context: Context) -> None:
    store = context.get("task_state_store")
    if store is not None:
        Checkpoint(store).clear()
        store.delete(LAST_JOB)


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """``count`` of the items, evenly spread from the first to the last; all of them where there are no more."""
    if count >= len(items):
        return list(items)
    if count == 1:
        return [items[len(items) // 2]]
    return [items[number * (len(items) - 1) // (count - 1)] for number in range(count)]
