"""Import local modules on a worker, from the sources that ``pickler.py`` sends. This module is pickled by value."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

Path = tuple[str, ...]


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


def unpickle_with_sources(sources: Mapping[str, tuple[Any, ...]], pickled: bytes) -> Any:
    """Make ``sources`` importable, then unpickle."""
    _remove_earlier_modules()
    if sources:
        sys.meta_path.insert(0, ShippedModules(sources))
    return pickle.loads(pickled)  # noqa: S301 - pickled by the task


class ShippedModules:
    """A finder and loader for ``sys.meta_path``."""

    def __init__(self, sources: Mapping[str, tuple[Any, ...]]) -> None:
        self.sources = {name: ModuleSource(*source) for name, source in sources.items()}

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
    # Keep an object that has the same value: other names may refer to it.
    if name in vars(owner) and repr(vars(owner)[name]) == repr(value):
        return
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value  # works for frozen dataclasses too


def _remove_earlier_modules() -> None:
    # Burla's worker processes run several jobs: a job must not import the modules of an earlier job.
    for finder in [finder for finder in sys.meta_path if type(finder).__name__ == ShippedModules.__name__]:
        sys.meta_path.remove(finder)
        for name in finder.sources:  # type: ignore[attr-defined]
            sys.modules.pop(name, None)
