"""BurlaMapOperator: any function over any list."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.failure_policy import FailurePolicy, OnFailure, allowance
from burla_provider.task.fingerprint import fingerprint
from burla_provider.task.monitor import JobMonitor
from burla_provider.task.resume import JobFacts, find_earlier
from burla_provider.task.run_identity import run_key
from burla_provider.task.validation import (
    check_choice,
    check_count,
    check_dict,
    check_function,
    is_rendered_later,
)
from burla_provider.worker.json_values import to_json
from burla_provider.worker.outcome import Outcome, find_unserializable

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from burla_provider.task.checkpoint import Checkpoint


class BurlaMapOperator(BurlaBaseOperator):
    """Calls a function on every input, in parallel on Burla. The return value is the results, in the inputs' order.

    The inputs may be any objects that cloudpickle takes. A result is plain data (None, bool, numbers, str, bytes,
    Decimal, UUID, dates and times, and lists, tuples and dicts of such). Results are pushed to XCom like any other
    value of Airflow, so that large ones go where the XCom backend sends them; a Decimal, UUID, date or time among them,
    or an integer beyond 64 bits, is its text, because XCom's JSON would round or lose it.

    :param python_callable: called as ``python_callable(input, **op_kwargs)`` on a worker.
    :param inputs: a list, an XCom of an earlier task, or a callable without arguments that makes one.
    :param op_kwargs: further arguments, the same for all calls.
    :param trial_inputs: run so many inputs first, spread over the list; a failure among them ends the task.
    :param collect: False to push no results, for functions called for their effect.
    :param on_input_failure: "finish": the others finish, then the task fails and names the failed inputs; "stop".
    :param tolerated_failures: so many failed inputs, or a percentage such as "5%", do not fail the task; the result of
        a failed input is None.
    :raises InvalidParameterError: at parse, for values that cannot be used.
    """

    template_fields: Sequence[str] = (*BurlaBaseOperator.template_fields, "inputs", "op_kwargs")
    template_fields_renderers = {  # noqa: RUF012 (Airflow declares it so)
        **BurlaBaseOperator.template_fields_renderers,
        "inputs": "json",
        "op_kwargs": "json",
    }
    function_fields = ("python_callable",)
    shallow_copy_attrs: Sequence[str] = ("python_callable", "make_inputs")
    advice_on_size = (
        "Return less: let the function write to a table or an object store, and return where, or nothing with"
        " collect=False. Raise the limit only if your XCom backend keeps large values."
    )

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        inputs: Any = (),
        op_kwargs: Mapping[str, Any] | None = None,
        trial_inputs: int = 0,
        collect: bool = True,
        on_input_failure: OnFailure = "finish",
        tolerated_failures: int | str = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_callable = python_callable
        # Airflow itself calls a templated field that is a function, and in its own way.
        self.make_inputs = inputs if callable(inputs) else None
        self.inputs = () if callable(inputs) else inputs
        self.op_kwargs = op_kwargs or {}
        self.trial_inputs = trial_inputs
        self.collect = collect
        self.on_input_failure = on_input_failure
        self.tolerated_failures = tolerated_failures
        self._check_at_parse()

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_single_output(self.multiple_outputs)
        if not is_rendered_later(self.inputs) and not isinstance(self.inputs, str):
            _iterate(self.inputs)
        check_function("python_callable", self.python_callable)
        check_dict("op_kwargs", self.op_kwargs)
        check_count("trial_inputs", self.trial_inputs, 0)
        check_choice("on_input_failure", self.on_input_failure, get_args(OnFailure))
        allowance(self.tolerated_failures, 1)

    def _execute(self, context: Context) -> list[Any] | None:
        from burla_provider.worker.map_task import MapTask

        self.phases.enter("preparing")
        self._check_sendable("python_callable", "op_kwargs")
        items = {index: _pack_input(value) for index, value in enumerate(self._read_inputs())}
        name = getattr(self.python_callable, "__name__", "the function")
        self.log.info("Calling %s on %d inputs", name, len(items))
        checkpoint = self._checkpoint(context)
        earlier = self._find_earlier(context, checkpoint, items)
        results = Results(self.check_result_size if self.collect else None)
        failures = FailurePolicy(self.on_input_failure, self.tolerated_failures, "input {}".format)
        watch = JobMonitor(
            context, self.log, name, len(items), "input {}".format, failures, checkpoint, [results], unit="input"
        )
        watch.resume(earlier)
        missing = {index: item for index, item in items.items() if index not in results.values}
        work = MapTask(self.python_callable, dict(self.op_kwargs), self.collect)
        job = self._make_job(context, work, missing, self._parallelism())
        with watch:
            self._work_off(job, watch, trial=int(self.trial_inputs))
        return [results.values.get(index) for index in items] if self.collect else None

    def _find_earlier(self, context: Context, checkpoint: Checkpoint, items: Mapping[int, bytes]) -> list[Outcome]:
        digest = hashlib.sha256(b"".join(hashlib.sha256(item).digest() for item in items.values())).hexdigest()
        facts = JobFacts(run_key(context), fingerprint(self.python_callable, self.op_kwargs, digest))
        saved, reason = find_earlier(checkpoint, self.resume, facts)
        if reason:
            self.log.info(reason)
        if saved is None:
            checkpoint.begin(facts.as_dict())
        return saved.outcomes if saved else []

    def _read_inputs(self) -> list[Any]:
        return list(_iterate(self.make_inputs() if self.make_inputs else self.inputs))


class Results:
    """The results of the inputs that succeeded as JSON, by the input's number.

    :param check_size: told how many bytes they have so far; None: nobody wants the results.
    """

    def __init__(self, check_size: Callable[[int], None] | None) -> None:
        self._check_size = check_size
        self._size = 0
        self.values: dict[int, Any] = {}

    def add(self, outcome: Outcome) -> None:
        """:raises InvalidParameterError: the results have become too large."""
        if not outcome.ok:
            return
        self.values[outcome.index] = None
        if self._check_size is not None:
            value = self.values[outcome.index] = to_json(outcome.value)
            self._size += len(json.dumps(value)) + len(", ")
            self._check_size(self._size)


def check_single_output(multiple_outputs: bool | None) -> None:
    """:raises InvalidParameterError: it is True: Airflow would accept a dict only, and fail the task after all calls."""
    if multiple_outputs:
        raise InvalidParameterError("multiple_outputs", "the result is a list, got True.", "Leave it out.")


def _iterate(inputs: Any) -> Iterator[Any]:
    """:raises InvalidParameterError: its items are not what a call is to get, or have no order."""
    problem, advice = f"{type(inputs).__name__} is no list.", "Give a list, or what makes one."
    if hasattr(type(inputs), "columns"):
        # It iterates over the names of its columns.
        advice = 'Give a list of its rows: to_dict("records") of pandas, to_dicts() of Polars, to_pylist() of Arrow.'
    elif isinstance(inputs, Set) and not isinstance(inputs, KeysView | ItemsView):
        advice = "A set has no order that the results could follow: give sorted(...) of it."
    elif not isinstance(inputs, str | bytes | Mapping):
        with suppress(TypeError):  # an array of no dimension only looks iterable
            return iter(inputs)
    raise InvalidParameterError("inputs", problem, advice)


def _pack_input(value: Any) -> bytes:
    from burla_provider.jobs.code.pickler import pickle_for_workers

    # Objects of the DAG's own classes need the whole machinery; most inputs are numbers, text and the like.
    return pickle_for_workers(value, "inputs") if find_unserializable(value) else pickle.dumps(value, protocol=5)
