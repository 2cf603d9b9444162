"""A decorated function as a BurlaMapOperator. ``burla.py`` has the decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from inspect import Parameter
from typing import Any

from airflow.providers.common.compat.sdk import DecoratedOperator

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.map import BurlaMapOperator
from burla_provider.task.function_arguments import is_callable_class
from burla_provider.task.map_config import split_inputs, store_items
from burla_provider.task.validation import check_dict

_POSITIONAL = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
_WITHOUT_NAME = {Parameter.POSITIONAL_ONLY, Parameter.VAR_POSITIONAL}


class BurlaDecoratedOperator(DecoratedOperator, BurlaMapOperator):
    """A decorated function as a BurlaMapOperator.

    The first argument of the function is the inputs. The other arguments are the same for all calls.
    """

    custom_operator_name = "@task.burla"
    # Both base classes have op_kwargs, which must be rendered once only: a rendered value may contain braces. The
    # inputs are in op_args.
    template_fields: Sequence[str] = (
        "op_args",
        *(name for name in BurlaMapOperator.template_fields if name != "inputs"),
    )
    template_fields_renderers = {  # noqa: RUF012 (as Airflow declares it)
        **BurlaMapOperator.template_fields_renderers,
        **DecoratedOperator.template_fields_renderers,
    }

    argument_fields = ("inputs",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if "inputs" in kwargs:
            problem = "are the first argument of the call."
            raise InvalidParameterError("inputs", problem, "Call the decorated function with them.")
        init = {**(kwargs.get("default_args") or {}), **kwargs}.get("init") or {}
        op_args, op_kwargs = _store_inputs(python_callable, op_args, op_kwargs or {})
        upstream = {"python_callable": python_callable, "op_kwargs": op_kwargs}
        check_dict("init", init)
        for name in op_kwargs:
            if name in init:
                raise InvalidParameterError("init", f"{name!r} is given in the call too.", "Give it once.")
        # Airflow checks that the call has all arguments.
        given = {**dict.fromkeys(init), **op_kwargs}
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=given, kwargs_to_upstream=upstream, **kwargs
        )

    def _parameters(self) -> dict[str, Any]:
        """Return the values for the config, with the arguments of the call as inputs and ``op_kwargs``."""
        _check_signature(self.python_callable)
        init = self.init or {}
        inputs, arguments = _split_arguments(
            self.python_callable, self.op_args, {**dict.fromkeys(init), **self.op_kwargs}
        )
        op_kwargs = {name: value for name, value in arguments.items() if name not in init}
        return super()._parameters() | split_inputs(inputs) | {"op_kwargs": op_kwargs}


def _check_signature(function: Callable[..., Any]) -> None:
    """Check that the function can be called as ``function(item, **others)``.

    :raises InvalidParameterError: if it cannot.
    """
    if is_callable_class(function):
        advice = "Use BurlaMapOperator, or a function with init={...}."
        raise InvalidParameterError("python_callable", f"{function.__name__} is a class.", advice)
    signature = inspect.signature(function)
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    if not kinds or kinds[0] not in _POSITIONAL or _WITHOUT_NAME & set(kinds[1:]):
        raise InvalidParameterError(
            "python_callable",
            f"{function.__name__}{signature} cannot be called on every item.",
            "Take the item as the first argument, and all others by name: without *args, and without / after them.",
        )


def _store_inputs(
    function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call. If the first one is an iterator, it can be read twice."""
    first = next(iter(inspect.signature(function).parameters), "")
    inputs = {first: store_items(kwargs[first])} if first in kwargs else {}
    return (*map(store_items, tuple(args)[:1]), *tuple(args)[1:]), {**kwargs, **inputs}


def _split_arguments(
    function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the first argument of a call, and all others by name, defaults included.

    :raises InvalidParameterError: if one is missing. Airflow gives names of its context to a task, but not to workers.
    """
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        problem = f"{function.__name__} cannot be called on every item: {error}."
        advice = "Give all arguments in the call, also those with a name of Airflow's context."
        raise InvalidParameterError("python_callable", problem, advice) from error
    bound.apply_defaults()
    first, *others = signature.parameters.values()
    inputs = bound.arguments.pop(first.name)
    for parameter in others:
        if parameter.kind is Parameter.VAR_KEYWORD:
            bound.arguments.update(bound.arguments.pop(parameter.name))
    return inputs, bound.arguments
