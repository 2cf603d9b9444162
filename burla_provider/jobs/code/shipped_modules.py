"""Local modules on a worker: they come as source, inside the work, and are imported from there.

Travels by value. ``pack.py`` is the other side.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

Path = tuple[str, ...]


class Source(NamedTuple):
    """One module: its text, where it was read (for tracebacks), and whether it is a package.

    :param state: values that the module's attributes have where the DAG file was read, and those of its classes and of
        their instances: ("Config", "rate") is the module's ``Config.rate``.
    """

    text: str
    origin: str
    is_package: bool
    state: Mapping[Path, Any] = {}


def unpack(sources: Mapping[str, tuple[Any, ...]], work: bytes) -> Any:
    """Make ``sources`` importable, then unpickle the work."""
    _forget_earlier_jobs()
    if sources:
        sys.meta_path.insert(0, ShippedModules(sources))
    return pickle.loads(work)  # noqa: S301 - the task's own bytes


class ShippedModules:
    """A finder and loader, as ``sys.meta_path`` wants them."""

    def __init__(self, sources: Mapping[str, tuple[Any, ...]]) -> None:
        self.sources = {name: Source(*source) for name, source in sources.items()}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        source = self.sources.get(name)
        if source is None:
            return None
        return ModuleSpec(name, self, origin=source.origin, is_package=source.is_package)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """The default will do."""

    def exec_module(self, module: ModuleType) -> None:
        source = self.sources[module.__name__]
        module.__file__ = source.origin
        exec(compile(source.text, source.origin, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        for path, value in source.state.items():
            _set(module, path, value)

    def get_source(self, name: str) -> str:
        """For tracebacks, which show the lines that were run."""
        return self.sources[name].text


def _set(module: ModuleType, path: Path, value: Any) -> None:
    owner: Any = module
    *outer, name = path
    for step in outer:
        owner = vars(owner).get(step)
        if not hasattr(owner, "__dict__"):
            raise ImportError(
                f"{module.__name__}.{'.'.join(path)} is {value!r} where the DAG file was read, and cannot be set here:"
                f" {step} is {owner!r}. Pass it to the function as an argument."
            )
    # What is the same stays the same object: other names may stand for it.
    if name in vars(owner) and repr(vars(owner)[name]) == repr(value):
        return
    if isinstance(owner, type):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value  # also where the class is frozen


def _forget_earlier_jobs() -> None:
    # Burla's worker processes live on from job to job; another version of a helper must not be what this one imports.
    for finder in [finder for finder in sys.meta_path if type(finder).__name__ == ShippedModules.__name__]:
        sys.meta_path.remove(finder)
        for name in finder.sources:  # type: ignore[attr-defined]
            sys.modules.pop(name, None)
