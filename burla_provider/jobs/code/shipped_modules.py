"""Import local modules on a worker, from the sources that ``pickler.py`` sends. This module is pickled by value."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

Path = tuple[str, ...]


class EnumMember(NamedTuple):
    """A member of an enum of a module that is sent, by its value."""

    module: str
    enum: str
    value: Any


class ModuleSource(NamedTuple):
    """The source of one module.

    :param text: its code.
    :param origin: its path on the task's machine, for tracebacks.
    :param is_package: whether it is a package.
    :param state: values to set after the import: ("Config", "rate") is the module's ``Config.rate``.
    """

    text: str
    origin: str
    is_package: bool
    state: Mapping[Path, Any] = {}


def unpickle_with_sources(sources: Mapping[str, tuple[Any, ...]], pickled: bytes, job: str) -> Any:
    """Make ``sources`` importable, then unpickle.

    :param job: as for ``import_or_make``.
    """
    _remove_earlier_modules()
    if sources:
        sys.meta_path.insert(0, ShippedModules(sources, job))
    return pickle.loads(pickled)  # noqa: S301 - pickled by the task


def import_or_make(job: str, module: str, name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return a class of a local module: the module's own one if the module was sent, else a new one.

    A copy of the class would differ from it in ``is``, ``==``, ``isinstance`` and ``except``.

    :param job: only modules that were sent with this job are imported.
    """
    found = _find_class(job, module, name)
    return make(*arguments) if found is None else found


def set_class_state(value: Any, state: tuple[str, str, str, Callable[..., Any], Any]) -> None:
    """Set the state of a class, unless it is the module's own one."""
    job, module, name, set_state, own_state = state
    if value is not _find_class(job, module, name):
        set_state(value, own_state)


class ShippedModules:
    """A finder and loader for ``sys.meta_path``.

    :param job: as for ``import_or_make``.
    """

    def __init__(self, sources: Mapping[str, tuple[Any, ...]], job: str) -> None:
        self.sources = {name: ModuleSource(*source) for name, source in sources.items()}
        self.job = job
        self._broken: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        """Return a class; None if its module was not sent or cannot be imported."""
        if module not in self.sources or module in self._broken:
            return None
        try:
            return _import(module, name)
        except (Exception, SystemExit):  # it may be for the task only, and import Airflow
            self._broken.add(module)
            return None

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the module's spec; None if it was not sent."""
        source = self.sources.get(name)
        if source is None:
            return None
        return ModuleSpec(name, self, origin=source.origin, is_package=source.is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Use the default."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, and set its state."""
        source = self.sources[module.__name__]
        module.__file__ = source.origin
        exec(compile(source.text, source.origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        for path, value in source.state.items():
            _set(module, path, value)

    def get_source(self, name: str) -> str:
        """Return the module's code, which tracebacks show."""
        return self.sources[name].text


def _set(module: ModuleType, path: Path, value: Any) -> None:
    owner: Any = module
    *outer, name = path
    for step in outer:
        owner = vars(owner).get(step)
        if not hasattr(owner, "__dict__"):
            raise ImportError(
                f"{module.__name__}.{'.'.join(path)} is {value!r} in the task, but cannot be set on the worker, where"
                f" {step} is {owner!r}. Pass it to the function as an argument."
            )
    if isinstance(value, EnumMember):
        value = _import(value.module, value.enum)(value.value)
    # Keep an object that has the same value: other names may refer to it.
    if name in vars(owner) and repr(vars(owner)[name]) == repr(value):
        return
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value  # works for frozen dataclasses too


def _import(module: str, name: str) -> Any:
    """Return the object of this name; None if the module has none."""
    found: Any = importlib.import_module(module)
    for step in name.split("."):
        found = getattr(found, step, None)
    return found


def _find_class(job: str, module: str, name: str) -> Any:
    finder: Any = next((finder for finder in sys.meta_path if getattr(finder, "job", None) == job), None)
    return None if finder is None else finder.find_class(module, name)


def _remove_earlier_modules() -> None:
    # Burla's worker processes run several jobs: a job must not import the modules of an earlier job.
    for finder in [finder for finder in sys.meta_path if type(finder).__name__ == ShippedModules.__name__]:
        sys.meta_path.remove(finder)
        for name in finder.sources:  # type: ignore[attr-defined]
            sys.modules.pop(name, None)
