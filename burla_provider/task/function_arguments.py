"""The arguments of the user's functions: ``op_kwargs``, the objects of ``init``, and ``key_range``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, Signature
from types import FunctionType
from typing import TYPE_CHECKING, Any

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.validation import UNRENDERED, check_dict, check_function

if sys.version_info >= (3, 14):
    import annotationlib

if TYPE_CHECKING:
    from burla_provider.worker.user_function import UserFunction

KEY_RANGE = "key_range"
"""The parameter of a function that gets the range."""

POSITIONAL = {
    "process_rows": ("rows",),
    "process_range": ("connection", KEY_RANGE),
    "map_row": ("row",),
    "map_batch": ("rows",),
    "python_callable": ("input",),
}
"""Parameters of the operators that are functions -> what the function gets by position."""

_IN_TASK: dict[str, tuple[tuple[str, ...], str]] = {
    "combine": (("a list",), "of one argument that returns a dict"),
    "describe": (("an input",), "of one argument that returns text"),
    "inputs": ((), "without arguments that returns a list"),
}
"""Parameters that are functions of the task -> what they get by position, and what they are."""

_RETURNED = {
    "process_rows": "a dict",
    "process_range": "a dict",
    "python_callable": "plain data, such as a list",
    "combine": "a dict",
    "describe": "text",
}
"""Functions that return one value -> this value."""

_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_Function = Callable[..., Any]


def is_callable_class(function: Any) -> bool:
    """Return whether it is a class whose instances can be called. Other classes, such as ``str``, are functions."""
    if not isinstance(function, type) or issubclass(function, type):
        return False
    return any("__call__" in vars(base) for base in function.__mro__)


def check_arguments(name: str, function: _Function, op_kwargs: Any, init: Any = None) -> None:
    """Check that the function can be called with its arguments, as far as its signature can be read.

    :param name: a key of ``POSITIONAL``.
    :param op_kwargs: dict, or ``UNRENDERED``.
    :param init: name of an argument -> function that makes its value.
    :raises InvalidParameterError: if the function does not take an argument, or requires another one.
    """
    check_function(name, function)
    _check_kind(name, function, "which workers do not await")
    check_dict("op_kwargs", op_kwargs)
    check_dict("init", init or {})
    known = dict(op_kwargs) if isinstance(op_kwargs, Mapping) else {}
    is_complete = op_kwargs is not UNRENDERED
    extra = {KEY_RANGE: None} if _gets_range(name, function) else {}
    if is_callable_class(function):
        if init:
            raise InvalidParameterError("init", f"{name} is a class, which has __init__.", "Leave it out.")
        _check_call(name, function, (), known, is_complete)
        call = inspect.getattr_static(function, "__call__")
        if isinstance(call, FunctionType):
            _check_call(name, call, ("self", *POSITIONAL[name]), extra)
        return
    for label, maker in (init or {}).items():
        check_function("init", maker)
        _check_kind("init", maker, "which workers do not await")
        _check_call("init", maker, (), _named(maker, known), is_complete)
        if label in known or label in extra:
            problem = f"{label!r} is an argument that the function gets otherwise."
            raise InvalidParameterError("init", problem, "Use another name.")
    if known.keys() & extra:
        raise InvalidParameterError("op_kwargs", f"{KEY_RANGE!r} is the range.", "Use another name.")
    arguments = {**_arguments(function, known, init or {}), **(init or {}), **extra}
    _check_call(name, function, POSITIONAL[name], arguments, is_complete)


def check_task_function(name: str, function: Any) -> None:
    """Check that a function that runs in the task can be called.

    :param name: a key of ``_IN_TASK``.
    :raises InvalidParameterError: if it cannot.
    """
    check_function(name, function)
    _check_kind(name, function, "which the task does not await")
    signature = _signature(function)
    given, use = _IN_TASK[name]
    try:
        if signature is not None:
            signature.bind(*given)
    except TypeError as error:
        label = getattr(function, "__name__", type(function).__name__)
        problem = f"{label}{signature} cannot be called with {given[0] if given else 'no arguments'}."
        raise InvalidParameterError(name, problem, f"Use a function {use}.") from error


def _check_kind(name: str, function: _Function, never: str) -> None:
    called = (function, function.__call__)  # type: ignore[operator]
    label = getattr(function, "__qualname__", type(function).__qualname__)
    if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in called):
        advice = "Use a function, with asyncio.run(...) inside it."
        raise InvalidParameterError(name, f"{label} is an async function, {never}.", advice)
    if name in _RETURNED and any(inspect.isgeneratorfunction(each) for each in called):
        problem = f"{label} is a function with yield, which returns a generator."
        raise InvalidParameterError(name, problem, f"Return {_RETURNED[name]}.")


def bind_function(
    name: str, function: _Function, op_kwargs: Mapping[str, Any], init: Mapping[str, _Function] | None = None
) -> UserFunction:
    """Return the function with its arguments, for workers.

    :param name: a key of ``POSITIONAL``.
    """
    from burla_provider.worker.user_function import UserFunction

    return UserFunction(
        function,
        _arguments(function, op_kwargs, init or {}),
        {label: partial(maker, **_named(maker, op_kwargs)) for label, maker in (init or {}).items()},
        is_class=is_callable_class(function),
        gets_range=_gets_range(name, function),
    )


def _arguments(function: _Function, op_kwargs: Mapping[str, Any], init: Mapping[str, _Function]) -> dict[str, Any]:
    """Return the arguments that are not for functions of ``init`` alone."""
    of_init = {key for maker in init.values() for key in _named(maker, op_kwargs)}
    return {key: value for key, value in op_kwargs.items() if key not in of_init - _names(function)}


def _named(function: _Function, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in arguments.items() if key in _names(function)}


def _gets_range(name: str, function: _Function) -> bool:
    if name == "python_callable" or KEY_RANGE in POSITIONAL[name]:
        return False
    return KEY_RANGE in _names(function.__call__ if is_callable_class(function) else function)  # type: ignore[operator]


def _names(function: _Function) -> set[str]:
    """Return the names of the parameters, also of a function inside a wrapper that passes all arguments on."""
    signature, outer = _signature(function, follow_wrapped=True), _signature(function)
    if signature is None or outer is None:
        return set()
    passes_on = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in outer.parameters.values())
    read = signature if passes_on else outer
    return {key for key, parameter in read.parameters.items() if parameter.kind in _NAMED}


def _signature(function: _Function, *, follow_wrapped: bool = False) -> Signature | None:
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # it evaluates annotations, whose names may be defined for type checkers only
        options["annotation_format"] = annotationlib.Format.FORWARDREF
    try:
        return inspect.signature(function, follow_wrapped=follow_wrapped, **options)
    except (TypeError, ValueError):  # functions in C may have none
        return None


def _check_call(
    name: str, function: _Function, positional: tuple[str, ...], arguments: Mapping[str, Any], is_complete: bool = True
) -> None:
    signature = _signature(function)
    if signature is None:
        return
    parameters = [parameter.replace(annotation=Parameter.empty) for parameter in signature.parameters.values()]
    label = f"{getattr(function, '__qualname__', type(function).__name__)}{Signature(parameters)}"
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        names = {parameter.name for parameter in parameters if parameter.kind in _NAMED}
        for key in arguments:
            if key not in names:
                raise InvalidParameterError(
                    "op_kwargs", f"{label} has no parameter {key!r}.", "Add it to the function, or leave it out."
                )
    try:
        bound = signature.bind_partial(*positional, **arguments)
    except TypeError as error:
        given = ", ".join(positional) or "keyword arguments only"
        raise InvalidParameterError(name, f"{label} cannot be called with ({given}): {error}.", "Change it.") from None
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.name not in bound.arguments
        and parameter.default is Parameter.empty
        and parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    ]
    if missing and is_complete:
        problem = f"{label} requires {missing[0]!r}."
        raise InvalidParameterError("op_kwargs", problem, f'Give op_kwargs={{"{missing[0]}": ...}}.')
