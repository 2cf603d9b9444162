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
from burla_provider.task.map_config import MapJobConfig
from burla_provider.task.mapped_results import read_mapped
from burla_provider.task.validation import UNRENDERED, check_dict

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

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        init, op_kwargs = kwargs.get("init") or {}, kwargs.pop("op_kwargs", None) or {}
        upstream = {"python_callable": python_callable, "op_kwargs": op_kwargs}
        check_dict("init", init)
        for name in op_kwargs:
            if name in init:
                raise InvalidParameterError("init", f"{name!r} is given in the call too.", "Give it once.")
        # Airflow checks that the call has all arguments.
        given = {**dict.fromkeys(init), **op_kwargs}
        super().__init__(python_callable=python_callable, op_kwargs=given, kwargs_to_upstream=upstream, **kwargs)

    def make_config(self) -> MapJobConfig:
        """Return the checked parameters, with the arguments of the decorated function as inputs and ``op_kwargs``."""
        _check_signature(self.python_callable)
        init = self.init or {}
        inputs, arguments = _split_arguments(
            self.python_callable, self.op_args, {**dict.fromkeys(init), **self.op_kwargs}
        )
        op_kwargs = {name: value for name, value in arguments.items() if name not in init}
        return MapJobConfig(**read_mapped(self._parameters() | {"inputs": inputs, "op_kwargs": op_kwargs}))

    def _check_unrendered(self) -> None:
        _check_signature(self.python_callable)
        super()._check_unrendered()

    def _parameters(self) -> dict[str, Any]:
        # When the DAG file is parsed, Airflow has checked the arguments.
        return super()._parameters() | {"op_kwargs": UNRENDERED}


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


def _split_arguments(
    function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the first argument of a call, and all others by name, defaults included."""
    signature = inspect.signature(function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    first, *others = signature.parameters.values()
    inputs = bound.arguments.pop(first.name)
    for parameter in others:
        if parameter.kind is Parameter.VAR_KEYWORD:
            bound.arguments.update(bound.arguments.pop(parameter.name))
    return inputs, bound.arguments
