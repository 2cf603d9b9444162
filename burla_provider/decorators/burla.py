"""``@task.burla``: a function of the DAG file, called on every item of its first argument."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator, check_single_output

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

_TAKES_ITEM = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
_NAMELESS = {Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL}


class BurlaDecoratedOperator(DecoratedOperator, BurlaMapOperator):
    """A decorated function as a BurlaMapOperator: its first argument is the inputs, the others go to every call."""

    custom_operator_name = "@task.burla"
    # Both have op_kwargs, and what is rendered twice may take a value's braces for a template. The inputs are op_args.
    template_fields: Sequence[str] = (
        "op_args",
        *(name for name in BurlaMapOperator.template_fields if name != "inputs"),
    )
    template_fields_renderers = {  # noqa: RUF012 (Airflow declares it so)
        **BurlaMapOperator.template_fields_renderers,
        **DecoratedOperator.template_fields_renderers,
    }

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        upstream = {"python_callable": python_callable, "op_kwargs": kwargs.get("op_kwargs")}
        super().__init__(python_callable=python_callable, kwargs_to_upstream=upstream, **kwargs)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        signature = inspect.signature(self.python_callable)
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        # A call is function(item, **others).
        if not kinds or kinds[0] not in _TAKES_ITEM or _NAMELESS & set(kinds[1:]):
            raise InvalidParameterError(
                "python_callable",
                f"{self.python_callable.__name__}{signature} cannot be called on every item.",
                "Take the item as the first argument, and all others by name: without *args, and without / after them.",
            )

    def _execute(self, context: Context) -> list[Any] | None:
        signature = inspect.signature(self.python_callable)
        bound = signature.bind(*self.op_args, **self.op_kwargs)
        bound.apply_defaults()
        first, *others = signature.parameters.values()
        self.inputs = bound.arguments.pop(first.name)
        for parameter in others:
            if parameter.kind is Parameter.VAR_KEYWORD:
                bound.arguments.update(bound.arguments.pop(parameter.name))
        self.op_kwargs = bound.arguments
        return super()._execute(context)


def burla_task(
    python_callable: Callable[..., Any] | None = None, multiple_outputs: bool | None = None, **kwargs: Any
) -> TaskDecorator:
    """Call the decorated function on every item of its first argument, in parallel on Burla.

    ``kwargs`` are those of :class:`~burla_provider.operators.map.BurlaMapOperator`. The task's value is the list of
    results, in the order of the items; further arguments of the function are the same for all calls.

    :raises InvalidParameterError: ``multiple_outputs`` is True: a list has no keys.
    """
    check_single_output(multiple_outputs)
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=False,  # else Airflow infers it from ``-> dict``, which is what one call returns
        decorated_operator_class=BurlaDecoratedOperator,
        **kwargs,
    )
