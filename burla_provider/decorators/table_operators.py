"""A decorated function as an operator on a table. ``burla_table.py`` has the decorators."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import DecoratedOperator, task_decorator_factory

from burla_provider.exceptions import InvalidParameterError
from burla_provider.operators.postgres import BurlaPostgresOperator
from burla_provider.operators.transform import BurlaPostgresTransformOperator
from burla_provider.task.function_arguments import KEY_RANGE, is_callable_class
from burla_provider.task.validation import check_decorated, check_dict

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDecorator

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class DecoratedTableOperator(DecoratedOperator):
    """A decorated function as the function of an operator on a table. The arguments of the call are ``op_kwargs``."""

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] = (),
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        given = {**(kwargs.get("default_args") or {}), **kwargs}
        name = self.function_parameter(given)
        if name in kwargs:
            raise InvalidParameterError(name, "is the decorated function.", "Leave it out.")
        function = inspect.getattr_static(python_callable, "__wrapped__")
        # The decorator has described the call without defaults of the DAG and the parameters of this call.
        python_callable = _describe_call(function, given.get("init") or {})
        arguments = _name_arguments(name, python_callable, op_args, op_kwargs or {})
        # Airflow calls nothing: ``python_callable`` describes the arguments of the call.
        upstream = {name: function, "op_kwargs": arguments}
        super().__init__(python_callable=python_callable, op_kwargs=arguments, kwargs_to_upstream=upstream, **kwargs)

    @staticmethod
    def function_parameter(parameters: Mapping[str, Any]) -> str:
        """Return the parameter of the operator that the decorated function is.

        :param parameters: the other parameters of the operator.
        """
        raise NotImplementedError


class BurlaPostgresDecoratedOperator(DecoratedTableOperator, BurlaPostgresOperator):
    """A decorated function as ``process_rows`` of a BurlaPostgresOperator."""

    custom_operator_name = "@task.burla_postgres"
    template_fields = BurlaPostgresOperator.template_fields
    template_fields_renderers = BurlaPostgresOperator.template_fields_renderers
    shallow_copy_attrs = (*DecoratedOperator.shallow_copy_attrs, *BurlaPostgresOperator.shallow_copy_attrs)

    @staticmethod
    def function_parameter(parameters: Mapping[str, Any]) -> str:
        """Return the parameter of the operator that the decorated function is."""
        return "process_rows"


class BurlaTransformDecoratedOperator(DecoratedTableOperator, BurlaPostgresTransformOperator):
    """A decorated function as ``map_row`` or ``map_batch`` of a BurlaPostgresTransformOperator."""

    custom_operator_name = "@task.burla_transform"
    template_fields = BurlaPostgresTransformOperator.template_fields
    template_fields_renderers = BurlaPostgresTransformOperator.template_fields_renderers
    shallow_copy_attrs = (*DecoratedOperator.shallow_copy_attrs, *BurlaPostgresTransformOperator.shallow_copy_attrs)

    @staticmethod
    def function_parameter(parameters: Mapping[str, Any]) -> str:
        """Return the parameter of the operator that the decorated function is."""
        is_batched = any(parameters.get(name) is not None for name in ("batch_size", "batch_format"))
        return "map_batch" if is_batched else "map_row"


def decorate(
    function: Callable[..., Any] | None,
    multiple_outputs: bool | None,
    operator: type[DecoratedTableOperator],
    parameters: dict[str, Any],
) -> TaskDecorator:
    """Return the decorator, or the decorated function.

    :param function: None: the decorator was called with parameters.
    :raises InvalidParameterError: if the parameters have the arguments of the call.
    """
    check_decorated(parameters)
    init = parameters.get("init") or {}

    def decorate_function(function: Callable[..., Any]) -> TaskDecorator:
        task: TaskDecorator = task_decorator_factory(
            python_callable=_describe_call(function, init) if callable(function) else function,
            multiple_outputs=bool(multiple_outputs),  # otherwise Airflow infers it from the type that a range returns
            decorated_operator_class=operator,
            **parameters,
        )
        return task

    return cast("TaskDecorator", decorate_function) if function is None else decorate_function(function)


def _describe_call(function: Callable[..., Any], init: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """Return the function with the signature of the task: the arguments that the operator does not give itself.

    :raises InvalidParameterError: if ``init`` is not a dict.
    """
    check_dict("init", init)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not is_callable_class(function):
        if parameters and parameters[0].kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD):
            parameters = parameters[1:]
        parameters = [parameter for parameter in parameters if parameter.name not in {KEY_RANGE, *init}]
    known = {parameter.name for parameter in parameters}
    of_init = (parameter for maker in init.values() for parameter in _read_parameters(maker))
    added = {parameter.name: parameter for parameter in of_init if parameter.kind in _NAMED}
    parameters += [
        parameter.replace(kind=Parameter.KEYWORD_ONLY) for name, parameter in added.items() if name not in known
    ]

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    parameters.sort(key=lambda parameter: parameter.kind)
    vars(call)["__signature__"] = signature.replace(parameters=parameters)
    return call


def _read_parameters(function: Any) -> Collection[Parameter]:
    try:
        return inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function in C, or none, which the operator refuses
        return ()


def _name_arguments(
    name: str, function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of a call by name.

    :param name: the parameter of the operator that the function is.
    :raises InvalidParameterError: if an argument has no name.
    """
    signature = inspect.signature(function)
    arguments = signature.bind_partial(*args, **kwargs).arguments
    for parameter in signature.parameters.values():
        if parameter.kind is Parameter.VAR_KEYWORD:
            arguments.update(arguments.pop(parameter.name, {}))
        elif parameter.kind not in _NAMED and parameter.name in arguments:
            written = inspect.signature(inspect.getattr_static(function, "__wrapped__"))
            label = f"{function.__name__}{written}"
            advice = "Leave out / and * after the first parameter."
            raise InvalidParameterError(name, f"{label} gets its arguments by name.", advice)
    return arguments
