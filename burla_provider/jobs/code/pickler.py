"""Packing user code so that a worker, which has neither Airflow nor the DAG folder, can run it.

What the standard library and installed packages hold is named, and the worker imports its own. Functions and classes
of **local** modules (DAG files, their helpers, this package) travel by value: only what is referred to, so a helper
file may import Airflow. So do caches and the like (``by_value.py``). Local modules that are imported inside a function,
or are used as modules, travel as source, and the import on the worker finds them; their attributes of plain data have
the values that they have here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.code.by_value import reduce_by_value
from burla_provider.jobs.code.local_modules import LocalSources, local_modules
from burla_provider.jobs.code.module_state import plain_state, replaced_names
from burla_provider.jobs.code.shipped_modules import Source, unpack


def pickle_work(work: Any, parameter: str = "python_callable") -> bytes:
    """The callable (or data) as bytes that ``pickle.loads`` turns into it again, wherever cloudpickle is installed.

    :param parameter: what the user calls it, for the error.
    :raises InvalidParameterError: it, or something that it uses, cannot be pickled.
    """
    with _packing(parameter):
        content, local = _pickle(work)
        if not local.sources:
            return content
        values = local.values()
        for name, source in local.sources.items():
            if replaced := replaced_names(name, source, values[name]):
                problem = f"it uses {', '.join(replaced)}, which was set from outside of its module and cannot travel."
                raise InvalidParameterError(
                    parameter, problem, "Pass it to the function as an argument, or set plain data."
                )
        sources = {
            name: source._replace(state=plain_state(name, values[name], local.names))
            for name, source in local.sources.items()
        }
        return bytes(cloudpickle.dumps(_Package(sources, content), protocol=5))


def local_sources(work: Any) -> dict[str, tuple[str, dict[str, Any]]]:
    """The local modules that travel with the callable (or with data that holds callables): their text, and the values
    of those of their attributes that functions use.

    :raises InvalidParameterError: as ``pickle_work``.
    """
    with _packing("python_callable"):
        _, local = _pickle(work)
    return {name: (local.sources[name].text, values) for name, values in local.values().items()}


def _pickle(work: Any) -> tuple[bytes, LocalSources]:
    buffer = io.BytesIO()
    pickler = _WorkPickler(buffer)
    pickler.dump(work)
    return buffer.getvalue(), pickler.local


class _WorkPickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.local = LocalSources()

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            self.local.add(value.__name__)
            if value.__name__ in self.local.sources:
                return importlib.import_module, (value.__name__,)
        if isinstance(value, types.FunctionType):
            self.local.add_function(value.__code__, value.__globals__.get("__package__") or "")
        by_value = reduce_by_value(value)
        return super().reducer_override(value) if by_value is None else by_value


class _Package:
    # Pickles as a call of ``unpack``, which the worker makes when it unpickles.
    def __init__(self, sources: dict[str, Source], work: bytes) -> None:
        self._sources = {name: tuple(source) for name, source in sources.items()}
        self._work = work

    def __reduce__(self) -> tuple[Any, ...]:
        return unpack, (self._sources, self._work)


@contextlib.contextmanager
def _packing(parameter: str) -> Iterator[None]:
    try:
        with _by_value(local_modules()):
            yield
    except InvalidParameterError:
        raise
    except Exception as error:  # objects refuse in many ways
        problem = f"it cannot be sent to workers ({type(error).__name__}: {error})."
        advice = "Open connections, locks and files inside the function, and refer to none from outside of it."
        raise InvalidParameterError(parameter, problem, advice) from error


@contextlib.contextmanager
def _by_value(modules: dict[str, types.ModuleType]) -> Iterator[None]:
    registered = cloudpickle.list_registry_pickle_by_value()
    added = [module for name, module in modules.items() if name not in registered and module.__name__ == name]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)
