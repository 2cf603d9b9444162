"""Objects that Python pickles by module and name, or not at all, and that travel by value where the module is local.

cloudpickle does so for functions and classes only.
"""

from __future__ import annotations

import functools
import sys
import typing
from collections.abc import Callable
from types import FunctionType
from typing import Any

from burla_provider.jobs.code.local_modules import is_local

_DISPATCHER = functools.singledispatch(lambda value: value).__code__  # type: ignore[attr-defined]
_TYPE_PARAMETERS = (typing.ParamSpec, typing.TypeVarTuple)
_rebuilt: dict[int, Any] = {}
"""On a worker: what was rebuilt, by its number. A function that refers to itself comes twice, and is to be one."""


def reduce_by_value(value: Any) -> Any:
    """What ``__reduce__`` would answer for such an object; None for all others."""
    if type(value) is functools.cached_property:
        return functools.cached_property, (None,), {name: part for name, part in vars(value).items() if name != "lock"}
    is_dispatcher = isinstance(value, FunctionType) and value.__code__ is _DISPATCHER
    is_named = is_dispatcher or isinstance(value, (functools._lru_cache_wrapper, typing.NewType, *_TYPE_PARAMETERS))
    if not is_named or _is_installed(value):
        return None
    if is_dispatcher:
        kept = {name: getattr(value, name) for name in functools.WRAPPER_ASSIGNMENTS if name != "__annotations__"}
        registered = (dict(value.registry), kept)
        return _rebuild_dispatcher, (id(value), value.registry[object]), registered, None, None, _register
    if isinstance(value, functools._lru_cache_wrapper):
        made_again = ("__wrapped__", "cache_parameters")
        state = {name: part for name, part in vars(value).items() if name not in made_again}
        return _rebuild_cached, (id(value), value.__wrapped__, value.cache_parameters()), state
    if isinstance(value, typing.NewType):
        return typing.NewType, (value.__name__, value.__supertype__), vars(value)
    return type(value), (value.__name__,)


def _is_installed(value: Any) -> bool:
    """Whether workers find it under its name."""
    found: Any = sys.modules.get(value.__module__)
    if found is None or found.__name__ == "__main__" or found.__spec__ is None or is_local(found.__spec__):
        return False
    for name in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, name, None)
    return found is value


def _rebuild_cached(number: int, function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    if number not in _rebuilt:
        _rebuilt[number] = functools.lru_cache(**parameters)(function)
    return _rebuilt[number]


def _rebuild_dispatcher(number: int, default: Callable[..., Any]) -> Any:
    if number not in _rebuilt:
        _rebuilt[number] = functools.singledispatch(default)
    return _rebuilt[number]


def _register(dispatcher: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    implementations, attributes = state
    for kind, function in implementations.items():
        dispatcher.register(kind, function)
    for name, value in attributes.items():
        setattr(dispatcher, name, value)
