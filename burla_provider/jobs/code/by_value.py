"""Pickle by value what cloudpickle cannot: caches, single-dispatch functions and typing objects of local modules.

Python pickles them by module and name, or not at all. cloudpickle pickles only functions and classes by value.
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
"""On a worker: id -> rebuilt object. A function that refers to itself is unpickled twice, but must be one object."""


def reduce_by_value(value: Any) -> Any:
    """Return the result of ``__reduce__`` that pickles such an object by value; None for other objects."""
    if type(value) is functools.cached_property:
        return functools.cached_property, (None,), {name: part for name, part in vars(value).items() if name != "lock"}
    is_dispatcher = isinstance(value, FunctionType) and value.__code__ is _DISPATCHER
    is_named = is_dispatcher or isinstance(value, (functools._lru_cache_wrapper, typing.NewType, *_TYPE_PARAMETERS))
    if not is_named or _is_importable(value):
        return None
    if is_dispatcher:
        attributes = {name: getattr(value, name) for name in functools.WRAPPER_ASSIGNMENTS if name != "__annotations__"}
        state = (dict(value.registry), attributes)
        return _rebuild_dispatcher, (id(value), value.registry[object]), state, None, None, _set_dispatcher_state
    if isinstance(value, functools._lru_cache_wrapper):
        rebuilt = ("__wrapped__", "cache_parameters")
        others = {name: part for name, part in vars(value).items() if name not in rebuilt}
        return _rebuild_cached, (id(value), value.__wrapped__, value.cache_parameters()), others
    if isinstance(value, typing.NewType):
        return typing.NewType, (value.__name__, value.__supertype__), vars(value)
    return type(value), (value.__name__,)


def _is_importable(value: Any) -> bool:
    # Whether workers can import it by its name.
    found: Any = sys.modules.get(value.__module__)
    if found is None or found.__name__ == "__main__" or found.__spec__ is None or is_local(found.__spec__):
        return False
    for name in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, name, None)
    return found is value


def _rebuild_cached(identity: int, function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    if identity not in _rebuilt:
        _rebuilt[identity] = functools.lru_cache(**parameters)(function)
    return _rebuilt[identity]


def _rebuild_dispatcher(identity: int, default: Callable[..., Any]) -> Any:
    if identity not in _rebuilt:
        _rebuilt[identity] = functools.singledispatch(default)
    return _rebuilt[identity]


def _set_dispatcher_state(dispatcher: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    implementations, attributes = state
    for kind, function in implementations.items():
        dispatcher.register(kind, function)
    for name, value in attributes.items():
        setattr(dispatcher, name, value)
