"""BurlaMapOperator: call a function on every item of a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.failure_policy import OnFailure
from burla_provider.task.map_config import MapJobConfig, split_inputs, store_items

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from burla_provider.task.job_runner import JobRunner


class BurlaMapOperator(BurlaBaseOperator):
    """Call a function on every input, in parallel on Burla. Return the list of results, in the order of the inputs.

    Inputs may be any objects that cloudpickle supports. A result must be plain data: None, bool, numbers, str, bytes,
    Decimal, UUID, dates and times, and lists, tuples and dicts of these. Results are pushed to XCom, so an XCom backend
    may store large ones elsewhere. A Decimal, a UUID, a date or time, and an integer beyond 64 bits become strings,
    because JSON would round or lose them.

    :param python_callable: called as ``python_callable(input, **op_kwargs)`` on a worker. Of a class, each worker
        process makes one instance ``python_callable(**op_kwargs)`` before its first input, and calls that.
    :param inputs: a list, the XCom of another task, or a function without arguments that returns a list.
    :param op_kwargs: keyword arguments that are the same for all calls.
    :param init: name of a keyword argument -> function that makes its value, once per worker process. It gets those of
        ``op_kwargs`` that it names.
    :param trial_inputs: run this number of inputs first, spread over the list. If one fails, the task fails at once.
    :param collect: False: push no results, for functions that are called for their side effects.
    :param on_input_failure: "finish": process the other inputs, then fail the task and name the failed inputs. "stop":
        end the job at once.
    :param tolerated_failures: number or percentage ("5%") of inputs that may fail without failing the task. The result
        of a failed input is None.
    :param describe: returns a short name of an input, for the log, the Ranges tab and errors. It runs in the task, for
        the inputs that are shown. None: an input is named by its value if it is plain data, else by its type.

    See :class:`~burla_provider.operators.base.BurlaBaseOperator` for the other parameters.

    :raises InvalidParameterError: when the DAG file is parsed, if a value cannot be used.
    """

    template_fields: Sequence[str] = (
        *BurlaBaseOperator.template_fields,
        "inputs",
        "op_kwargs",
        "trial_inputs",
        "on_input_failure",
        "tolerated_failures",
    )
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaBaseOperator.template_fields_renderers,
        "inputs": "json",
        "op_kwargs": "json",
    }
    function_fields = ("python_callable",)
    shallow_copy_attrs: Sequence[str] = ("python_callable", "make_inputs", "init", "describe")
    config_class = MapJobConfig
    unit = "input"

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        inputs: Any = (),
        op_kwargs: Mapping[str, Any] | None = None,
        init: Mapping[str, Callable[..., Any]] | None = None,
        trial_inputs: int | str = 0,
        collect: bool = True,
        on_input_failure: OnFailure | str = "finish",
        tolerated_failures: int | str = 0,
        describe: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_callable = python_callable
        # Airflow calls a function in a template field itself, with other arguments.
        self.inputs, self.make_inputs = split_inputs(store_items(inputs)).values()
        self.op_kwargs = op_kwargs or {}
        self.init = init
        self.trial_inputs = trial_inputs
        self.collect = collect
        self.on_input_failure = on_input_failure
        self.tolerated_failures = tolerated_failures
        self.describe = describe
        self._check_at_parse()

    def execute_job(self, config: MapJobConfig, runner: JobRunner) -> list[Any] | None:
        """Call the function on every input."""
        from burla_provider.task.map_job import run_map_job

        return run_map_job(config, runner)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """Return the inlets and outlets. OpenLineage calls this, also if the task has failed."""
        # Without this method, datasets of hooks that the inputs' function uses would replace them.
        from burla_provider.task.lineage import declared_lineage

        return declared_lineage(self.inlets, self.outlets)

    def _title(self) -> str:
        return getattr(self.python_callable, "__name__", "the function")
