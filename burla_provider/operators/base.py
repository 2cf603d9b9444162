"""The base class of the operators: parameters that all of them have, and how a task ends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from burla_provider.exceptions import PermanentError, TaskKilledError
from burla_provider.hooks.burla import BurlaHook
from burla_provider.jobs.job import DEFAULT_JOB_RETRIES, DEFAULT_QUEUE_TIMEOUT
from burla_provider.links.burla import BurlaJobLink
from burla_provider.task.config import JobConfig
from burla_provider.task.mapped_results import read_mapped
from burla_provider.task.rendered import RenderedText, preview_code
from burla_provider.task.resume import Resume
from burla_provider.task.validation import check_names, mask_unrendered

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.job_runner import JobRunner
    from burla_provider.task.reporter import Reporter


class BurlaBaseOperator(BaseOperator):
    """Run one job and store the results of its items. When the task ends, no process and no running job remains.

    :param burla_conn_id: connection of type ``burla``: the cluster, or the local engine.
    :param max_parallelism: maximum number of calls at the same time. None: as many as the cluster allows.
    :param func_cpu: CPUs per call, or "dynamic".
    :param func_ram: GB of memory per call, or "dynamic": Burla may then run a call again with more memory.
    :param func_gpu: GPU that each call gets: "T4", "A100", "A100_40G", "A100_80G", "H100", "H100_80G", as far as the
        cluster's cloud has them. None: no GPU. The local engine refuses it.
    :param grow: let Burla boot nodes for this job.
    :param image: container image of the nodes.
    :param region: cloud region of the nodes.
    :param disk_gb: GB of disk of the nodes that are booted for this job. None: the cluster's setting. It needs
        ``grow=True``.
    :param requirements: packages that the user's function needs on the workers: "pandas", "foo==1.2". A package without
        a version gets the version of this environment. "environment" installs everything that the client's interpreter
        has, which is Burla's default.
    :param burla_python: interpreter that has burla. Overrides ``python`` of the connection.
    :param queue_timeout: seconds to wait for a free node.
    :param job_retries: how often the missing items of a lost node are run again within a try of the task.
    :param max_result_bytes: maximum size of the result as JSON. A larger result fails the task before it is pushed to
        XCom, because it would slow down other tasks and Airflow's API. None: no limit, for an XCom backend that stores
        large values. ``do_xcom_push=False`` has no limit.
    :param resume: whether a retry of the task skips the items that an earlier try has finished: "auto" if that cannot
        change the result, True always, False never. Needs Airflow 3.3. With a ledger, a retry always continues, on
        every version of Airflow. Only an overwrite starts from the beginning with False.
    """

    template_fields: Sequence[str] = (
        "burla_conn_id",
        "max_parallelism",
        "func_cpu",
        "func_ram",
        "func_gpu",
        "grow",
        "image",
        "region",
        "disk_gb",
        "requirements",
        "burla_python",
        "code",
    )
    template_fields_renderers = {"requirements": "json", "code": "py"}  # noqa: RUF012 (as Airflow declares it)
    function_fields: tuple[str, ...] = ()
    argument_fields: tuple[str, ...] = ()
    """Parameters whose values are rendered in a template field of another name."""
    init: Mapping[str, Callable[..., Any]] | None = None
    operator_extra_links = (BurlaJobLink(),)
    # Airflow's provider registry lists operators with this attribute as durable.
    __supports_durable_execution: ClassVar[bool] = True
    config_class: ClassVar[type[JobConfig]]
    unit: ClassVar[str] = "range"

    def __init__(
        self,
        *,
        burla_conn_id: str = BurlaHook.default_conn_name,
        max_parallelism: int | None = None,
        func_cpu: int | Literal["dynamic"] = 1,
        func_ram: int | Literal["dynamic"] = "dynamic",
        func_gpu: str | None = None,
        grow: bool | str = False,
        image: str | None = None,
        region: str | None = None,
        disk_gb: int | str | None = None,
        requirements: Sequence[str] | Literal["environment"] = (),
        burla_python: str | None = None,
        queue_timeout: float = DEFAULT_QUEUE_TIMEOUT,
        job_retries: int = DEFAULT_JOB_RETRIES,
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
        self.func_gpu = func_gpu
        self.grow = grow
        self.image = image
        self.region = region
        self.disk_gb = disk_gb
        self.requirements = requirements
        self.burla_python = burla_python
        self.queue_timeout = queue_timeout
        self.job_retries = job_retries
        self.max_result_bytes = max_result_bytes
        self.resume = resume
        self._executing = False
        self._killed = False

    @cached_property
    def hook(self) -> BurlaHook:
        """The hook of the Burla connection."""
        return BurlaHook(self.burla_conn_id, python=self.burla_python)

    @property
    def code(self) -> RenderedText | None:
        """The source of the user's functions, for Airflow's UI."""
        functions = [getattr(self, name) for name in self.function_fields]
        return preview_code([*functions, *(self.init or {}).values()])

    def execute(self, context: Context) -> Any:
        """Check the rendered parameters and run the job."""
        from burla_provider.task.masking import masked
        from burla_provider.task.report import Report
        from burla_provider.task.reporter import Reporter
        from burla_provider.task.resumption import keep_retries
        from burla_provider.task.run_identity import pass_label

        self._executing = True
        report = Report(masked(self._title()) + pass_label(context), self.unit)
        try:
            # The report has every ending, also that of a parameter that cannot be used.
            with Reporter(context, self.log, report) as reporter:
                with keep_retries(context, lambda: reporter.describe_writes() if self._has_ledger() else ""):
                    result = self._execute(self.make_config(), context, reporter)
                if self._killed:
                    raise TaskKilledError("The task was killed.")
                return result
        except PermanentError as error:
            # A parameter that cannot be used may be a rendered secret. Callbacks get the error as it is.
            text = masked(str(error))
            raise AirflowFailException(text) from (error if text == str(error) else None)
        finally:
            self._executing = False

    def _execute(self, config: JobConfig, context: Context, reporter: Reporter) -> Any:
        if config.starts_job:
            from burla_provider.task.places import engine_places

            config.check_engine(self.hook.engine)
            reporter.add_places(engine_places(config, self.hook.engine))
        # The client process imports what it needs while this process does so, connects to the database and plans.
        with self.hook.open_client(config.worker_modules) if config.starts_job else nullcontext() as client:
            from burla_provider.task.job_runner import JobRunner, forget_job

            if client is not None:
                reporter.enter("connecting")
                if nodes := self.hook.check_login():
                    reporter.add_places([("Nodes at the start", str(nodes))])
            # Airflow stores the result after execute. If it cannot, a retry needs everything that was stored.
            self.on_success_callback = [forget_job, *self.on_success_callback]
            return self.execute_job(config, JobRunner(config, context, self.hook, self.log, reporter, client))

    def _has_ledger(self) -> bool:
        """Return whether a retry continues behind the rows that the run has written."""
        return False

    @abstractmethod
    def _title(self) -> str:
        """Return the title of the report: what the task processes."""

    @abstractmethod
    def execute_job(self, config: Any, runner: JobRunner) -> Any:
        """Run the job and return the result of the task."""

    def make_config(self) -> Any:
        """Return the checked parameters, an instance of ``config_class``. Call it when the templates are rendered.

        :raises InvalidParameterError: if a value cannot be used.
        """
        return self.config_class(**read_mapped(self._parameters()))

    def on_kill(self) -> None:
        """End ``execute``, which cancels the job."""
        # If this returned, execute() would go on and could succeed. Airflow calls it in the main thread, so that an
        # exception ends execute() where it is.
        if self._executing and not self._killed:
            self._killed = True
            raise TaskKilledError("The task was killed; its Burla job is being canceled.")

    def _check_at_parse(self) -> None:
        """Check all parameters that are known when the DAG file is parsed. Call it at the end of ``__init__``.

        A mapped task is created when it runs. Its parameters are checked by ``execute``, which fails it without retry.
        """
        if not getattr(self, "_BaseOperator__from_mapped", False):
            self._check_unrendered()

    def _check_unrendered(self) -> None:
        parameters = self._parameters()
        for name in parameters.keys() & {*self.template_fields, *self.argument_fields}:
            parameters[name] = mask_unrendered(parameters[name])
        self.config_class(**parameters)

    def _parameters(self) -> dict[str, Any]:
        """Return the values for the config: the attributes of the same names."""
        return {field.name: getattr(self, field.name) for field in fields(self.config_class) if field.init}
