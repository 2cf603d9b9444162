"""The parameters of one map job: frozen, checked, and normalized, as in ``task/config.py``."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.config import JobConfig
from burla_provider.task.failure_policy import OnFailure, allowance
from burla_provider.task.function_arguments import check_arguments, check_task_function
from burla_provider.task.validation import (
    UNRENDERED,
    check_boolean,
    check_choice,
    check_function,
    check_single_output,
    is_given,
    parse_integer,
    template_hint,
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MapJobConfig(JobConfig):
    """The parameters of a ``BurlaMapOperator``, which documents them.

    :param make_inputs: returns the inputs, if the user gave a function; None: ``inputs`` has them.
    """

    python_callable: Callable[..., Any]
    inputs: Any
    make_inputs: Callable[[], Any] | None
    op_kwargs: Mapping[str, Any]
    init: Mapping[str, Callable[..., Any]] | None
    trial_inputs: int
    collect: bool
    on_input_failure: OnFailure
    tolerated_failures: int | str
    multiple_outputs: bool | None
    describe: Callable[[Any], str] | None

    result_size_advice: ClassVar[str] = (
        "Return less: let the function write to a table or an object store, and return the location, or nothing with"
        " collect=False. Raise the limit only if your XCom backend keeps large values."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_single_output(self.multiple_outputs)
        if self.inputs is not UNRENDERED:
            iterate_inputs(self.inputs)
        if self.make_inputs is not None:
            check_task_function("inputs", self.make_inputs)
        check_function("python_callable", self.python_callable)
        if not is_given(self.op_kwargs):
            self._normalize("op_kwargs", {})
        check_arguments("python_callable", self.python_callable, self.op_kwargs, self.init)
        if self.describe is not None:
            check_task_function("describe", self.describe)
        check_boolean("collect", self.collect)
        self._normalize("trial_inputs", parse_integer("trial_inputs", self.trial_inputs, 0) or 0)
        check_choice("on_input_failure", self.on_input_failure, get_args(OnFailure))
        allowance(self.tolerated_failures, 1)


def iterate_inputs(inputs: Any) -> Iterator[Any]:
    """Return an iterator over the inputs of a map job.

    :raises InvalidParameterError: if they are not a sequence of single values, or have no order.
    """
    advice = "Give a list, or a function that returns one."
    if hasattr(type(inputs), "columns"):
        # Data frames iterate over the names of their columns.
        advice = 'Give a list of its rows: to_dict("records") of pandas, to_dicts() of Polars, to_pylist() of Arrow.'
    elif isinstance(inputs, Set) and not isinstance(inputs, KeysView | ItemsView):
        advice = "A set has no order for the results: give sorted(...) of it."
    elif not isinstance(inputs, str | bytes | bytearray | memoryview | Mapping):
        with suppress(TypeError):  # an array of no dimension has __iter__, which raises
            return iter(inputs)
    problem = f"must be a list, got {type(inputs).__name__}."
    raise InvalidParameterError("inputs", problem, f"{advice}{template_hint(inputs)}")


class StoredItems:
    """The items of an iterator. They are read when the task runs, and stored.

    ``dag.test`` runs all tries of a task, all instances of a mapped task, and all tasks with the same iterator. It has
    no items after it was read once.
    """

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._is_read = False
        self._items: list[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        # A generator: when the DAG file is parsed, it is made and not read.
        if self._items is None:
            if self._is_read:
                problem = "the iterator has failed in an earlier try, and cannot be read again."
                raise InvalidParameterError("inputs", problem, "Give a list, or a function that returns one.")
            self._is_read = True
            self._items = list(self._iterator)
        yield from self._items

    def __repr__(self) -> str:
        return "<iterator>"


_stored: dict[int, StoredItems] = {}
"""Id of an iterator -> its items, which refer to the iterator, so that no other object gets its id."""


def store_items(inputs: Any) -> Any:
    """Return inputs that can be read twice."""
    return _stored.setdefault(id(inputs), StoredItems(inputs)) if isinstance(inputs, Iterator) else inputs


def split_inputs(inputs: Any) -> dict[str, Any]:
    """Return the parameters ``inputs`` and ``make_inputs``."""
    return {"inputs": (), "make_inputs": inputs} if callable(inputs) else {"inputs": inputs, "make_inputs": None}
