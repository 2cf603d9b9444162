"""One try of a BurlaMapOperator: read the inputs, find what an earlier try has done, run the rest, collect results."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from burla_provider.jobs.code.local_modules import LocalSources
from burla_provider.task.failure_policy import FailurePolicy
from burla_provider.task.fingerprint import fingerprint
from burla_provider.task.function_arguments import bind_function
from burla_provider.task.input_names import InputNames
from burla_provider.task.job_runner import JobRunner, check_picklable
from burla_provider.task.map_config import MapJobConfig, iterate_inputs
from burla_provider.task.monitor import JobMonitor
from burla_provider.task.reproduce import MapReproduction
from burla_provider.task.result_values import result_part
from burla_provider.task.resume import JobIdentity, find_earlier
from burla_provider.task.resumption import checkpoint_resumption
from burla_provider.task.run_identity import run_key
from burla_provider.worker.json_values import to_json
from burla_provider.worker.outcome import Outcome, find_unserializable

if TYPE_CHECKING:
    from burla_provider.task.checkpoint import Checkpoint


def run_map_job(config: MapJobConfig, runner: JobRunner) -> list[Any] | None:
    """Call the function on every input and return the results in the order of the inputs.

    :returns: None with ``collect=False``.
    :raises RangesFailedError: if more inputs fail than are tolerated.
    """
    from burla_provider.jobs.code.pickler import pickle_argument, pickling
    from burla_provider.worker.map_task import MapTask

    runner.reporter.enter("preparing")
    check_picklable(python_callable=config.python_callable, op_kwargs=config.op_kwargs, init=config.init)
    # Not while they are pickled: an error of the user's generator is no error of pickling.
    inputs = list(iterate_inputs(config.make_inputs() if config.make_inputs else config.inputs))
    local = LocalSources()
    objects = {index: value for index, value in enumerate(inputs) if find_unserializable(value)}
    with pickling("inputs"):  # finding all local modules takes longer than pickling an input
        # The plain pickle is faster, and enough for numbers, strings and the like.
        items = {
            index: pickle_argument(value, local) if index in objects else pickle.dumps(value, protocol=5)
            for index, value in enumerate(inputs)
        }
    del inputs  # there may be a million
    name = getattr(config.python_callable, "__name__", "the function")
    runner.log.info("Calling %s on %d inputs", name, len(items))
    checkpoint = runner.open_checkpoint()
    earlier = _restore_outcomes(config, runner, checkpoint, items, objects)
    del objects
    results = MapResults(len(items), config.check_result_size if config.collect else None)
    runner.reporter.resumption = checkpoint_resumption(checkpoint.is_stored, config.resume)
    report = runner.reporter.report
    names = InputNames(items, config.describe, runner.log)
    report.begin_items(len(items), names)
    MapReproduction(config, items).add_to(report)
    failures = FailurePolicy(config.on_input_failure, config.tolerated_failures, report.failures)
    monitor = JobMonitor(
        runner.context, runner.log, runner.reporter, len(items), names, failures, checkpoint, [results]
    )
    monitor.resume(earlier)
    missing = {index: item for index, item in items.items() if index not in results.values}
    function = bind_function("python_callable", config.python_callable, config.op_kwargs, config.init)
    task = MapTask(function, config.collect)
    job = runner.make_job(task, missing, runner.parallelism, local=local)
    with monitor:
        runner.process_items(job, monitor, trial=config.trial_inputs)
    if not config.collect:
        return None
    values = [results.values.get(index) for index in items]
    named = ((names(index), value) for index, value in zip(items, values, strict=True))
    is_complete = len(results.values) == len(items)
    report.result = result_part(named, len(values), complete=is_complete)
    return values


class MapResults:
    """Collects the results of the inputs that succeeded as JSON, by the number of the input.

    :param total: number of inputs.
    :param check_size: receives the minimum size of all results in bytes; None: the results are not collected.
    :raises InvalidParameterError: if there are too many inputs to collect their results.
    """

    def __init__(self, total: int, check_size: Callable[[int], None] | None) -> None:
        self._check_size = check_size
        self._size = total * len("0, ")  # the shortest result of each input
        self.values: dict[int, Any] = {}
        if check_size is not None:
            check_size(self._size)

    def add(self, outcome: Outcome) -> None:
        """Add the result of one input.

        :raises InvalidParameterError: if the results have become too large.
        """
        if not outcome.ok:
            return
        self.values[outcome.index] = None
        if self._check_size is not None:
            value = self.values[outcome.index] = to_json(outcome.value)
            self._size += len(json.dumps(value)) - len("0")
            self._check_size(self._size)


def _restore_outcomes(
    config: MapJobConfig, runner: JobRunner, checkpoint: Checkpoint, items: Mapping[int, bytes], objects: dict[int, Any]
) -> list[Outcome]:
    # The pickle of an object differs between processes: a class gets a random id.
    plain = (b"" if index in objects else hashlib.sha256(item).digest() for index, item in items.items())
    digest = hashlib.sha256(b"".join(plain)).hexdigest()
    # Outcomes that were not collected have no results.
    parts = (config.python_callable, config.op_kwargs, config.init, digest, objects, config.collect)
    identity = JobIdentity(run_key(runner.context), fingerprint(*parts, runner.environment))
    saved, note = find_earlier(checkpoint, config.resume, identity)
    if note:
        runner.log.info(note)
    if saved is None:
        checkpoint.begin(identity.as_header())
    return saved.outcomes if saved else []
