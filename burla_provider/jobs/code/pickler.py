"""Pickle user code for workers that have neither Airflow nor the DAG folder.

The standard library and installed packages are pickled by name: workers have them. Functions, classes and caches of
local modules (DAG files, their helpers, this package) are pickled by value, with only what they refer to, so a helper
file may import Airflow. Local modules that are imported inside a function, or used as modules, are sent as source, and
the worker imports this source. Their attributes of plain data get the values that they have in this process.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.code.local_modules import LocalSources, is_local, loaded_local_modules
from burla_provider.jobs.code.module_state import replaced_names
from burla_provider.jobs.code.shipped_modules import (
    ModuleSource,
    import_or_make,
    set_class_state,
    unpickle_with_sources,
)

_DISPATCHER = functools.singledispatch(lambda value: value).__code__  # type: ignore[attr-defined]
_DISPATCHER_ATTRIBUTES = sorted({*functools.WRAPPER_ASSIGNMENTS} - {"__annotations__", "__annotate__"})
_TYPE_PARAMETERS = (typing.ParamSpec, typing.TypeVarTuple)
_OF_AIRFLOW = {"DAG", "DAGNode", "ResolveMixin", "RuntimeTaskInstance"}
"""Base classes of Airflow's DAGs, operators and task groups, results of tasks, and task instances."""
_rebuilt: dict[int, Any] = {}
"""On a worker: id -> rebuilt object. A function that refers to itself is unpickled twice, but must be one object."""


def pickle_for_workers(value: Any, parameter: str = "python_callable", local: LocalSources | None = None) -> bytes:
    """Pickle a callable. ``pickle.loads`` unpickles it wherever cloudpickle is installed.

    :param parameter: the operator's parameter that holds it, for error messages.
    :param local: modules that its arguments need: see ``pickle_argument``.
    :raises InvalidParameterError: if it, or something that it uses, cannot be pickled.
    """
    local = LocalSources() if local is None else local
    with pickling(parameter):
        pickled = _pickle(value, local)
        if not local.sources:
            return pickled
        values = local.values()
        for name, source in local.sources.items():
            if replaced := replaced_names(name, source, values[name]):
                problem = f"uses {', '.join(replaced)}, which was set from outside its module and cannot be sent."
                raise InvalidParameterError(
                    parameter, problem, "Pass it to the function as an argument, or set plain data."
                )
        return bytes(cloudpickle.dumps(_WithSources(local.with_state(), pickled, local.job), protocol=5))


def pickle_argument(value: Any, local: LocalSources) -> bytes:
    """Pickle an argument of a callable, which is unpickled after the callable. Call it inside ``pickling``.

    :param local: gets the local modules that it needs. They are sent once, with the callable.
    """
    return _pickle(value, local)


def local_sources(value: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the local modules that are sent with a callable (or with data that holds callables).

    :returns: module name -> its source, and the values of the attributes that functions use.
    :raises InvalidParameterError: as ``pickle_for_workers``.
    """
    local = LocalSources()
    with pickling("python_callable"):
        _Pickler(_Nowhere(), local).dump(value)
    return {name: (local.sources[name].text, values) for name, values in local.values().items()}


def _pickle(value: Any, local: LocalSources) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer, local).dump(value)
    return buffer.getvalue()


class _Nowhere(io.RawIOBase):
    # A file that keeps nothing: data may be large.
    def write(self, data: Any) -> int:
        return memoryview(data).nbytes


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.IOBase, local: LocalSources) -> None:
        super().__init__(file, protocol=5)
        self.local = local

    def reducer_override(self, value: Any) -> Any:
        if any(kind.__name__ in _OF_AIRFLOW and kind.__module__.startswith("airflow.") for kind in type(value).__mro__):
            raise _AirflowObjectError(type(value).__name__)
        if isinstance(value, types.ModuleType):
            self.local.add(value.__name__)
            if value.__name__ in self.local.sources:
                return importlib.import_module, (value.__name__,)
        if callable(value) and hasattr(type(value), "expand_kwargs"):  # a decorated task: workers call its function
            return copy.copy, (value.function,)
        if isinstance(value, types.FunctionType):
            _make_readable(value)
            self.local.add_function(value.__code__, value.__globals__.get("__package__") or "")
        if (by_value := _reduce_by_value(value)) is not None:
            return by_value
        reduced = super().reducer_override(value)
        if isinstance(value, type) and type(reduced) is tuple and len(reduced) == 6 and _has_its_name(value):
            place = self.local.job, value.__module__, value.__qualname__
            make, arguments, state, *_, set_state = reduced
            return import_or_make, (*place, make, arguments), (*place, set_state, state), None, None, set_class_state
        return reduced


class _AirflowObjectError(Exception):
    """Raised for an object that has no use on a worker: it refers to its DAG, with all tasks. The text is its class."""


class _WithSources:
    # Its pickle is a call of ``unpickle_with_sources``.
    def __init__(self, sources: dict[str, ModuleSource], pickled: bytes, job: str) -> None:
        self._sources = {name: tuple(source) for name, source in sources.items()}
        self._pickled = pickled
        self._job = job

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle_with_sources, (self._sources, self._pickled, self._job)


@contextlib.contextmanager
def pickling(parameter: str) -> Iterator[None]:
    """Pickle local modules by value inside the block.

    :param parameter: the operator's parameter that is pickled, for error messages.
    :raises InvalidParameterError: for each error in the block.
    """
    try:
        with _pickled_by_value(loaded_local_modules()):
            yield
    except InvalidParameterError:
        raise
    except _AirflowObjectError as error:
        advice = (
            "Give the function plain data instead of objects of Airflow. Instead of a method of an operator, use a"
            " function or a static method."
        )
        raise InvalidParameterError(parameter, f"uses a {error}, but the workers have no Airflow.", advice) from None
    except Exception as error:  # objects that cannot be pickled raise various exceptions
        problem = f"cannot be sent to workers ({type(error).__name__}: {error})."
        advice = "Open connections, locks and files inside the function."
        raise InvalidParameterError(parameter, problem, advice) from error


@contextlib.contextmanager
def _pickled_by_value(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    registered = cloudpickle.list_registry_pickle_by_value()
    added = [module for name, module in modules.items() if name not in registered and module.__name__ == name]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def _reduce_by_value(value: Any) -> Any:
    """Return the result of ``__reduce__`` for an object that cloudpickle does not pickle by value; else None.

    These are caches, single-dispatch functions and typing objects of local modules. Python pickles them by module and
    name, or not at all.
    """
    if type(value) is functools.cached_property:
        # A function, because later releases of Python 3.13 read its __module__. The state replaces it.
        return functools.cached_property, (len,), {name: part for name, part in vars(value).items() if name != "lock"}
    if type(value) is functools.partialmethod:  # Python 3.14 cannot make one without a function
        return functools.partialmethod, (value.func, *value.args), {"keywords": value.keywords}
    is_dispatcher = isinstance(value, types.FunctionType) and value.__code__ is _DISPATCHER
    is_named = is_dispatcher or isinstance(value, (functools._lru_cache_wrapper, typing.NewType, *_TYPE_PARAMETERS))
    if not is_named or _is_importable(value):
        return None
    if is_dispatcher:
        attributes = {name: getattr(value, name) for name in _DISPATCHER_ATTRIBUTES}
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
    module = sys.modules.get(value.__module__)
    if module is None or module.__name__ == "__main__" or module.__spec__ is None or is_local(module.__spec__):
        return False
    return _has_its_name(value)


def _has_its_name(value: Any) -> bool:
    # Whether its module has it under its name.
    found: Any = sys.modules.get(value.__module__)
    for name in getattr(value, "__qualname__", value.__name__).split("."):
        found = getattr(found, name, None)
    return found is value


def _make_readable(function: types.FunctionType) -> None:
    # Python 3.14 evaluates annotations when they are read. If a name is defined for type checkers only, this fails.
    if sys.version_info >= (3, 14):
        import annotationlib

        try:
            annotationlib.get_annotations(function)
        except Exception:
            texts = annotationlib.get_annotations(function, format=annotationlib.Format.STRING)
            function.__annotations__ = texts


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
