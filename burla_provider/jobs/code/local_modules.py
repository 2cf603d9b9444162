"""Find local modules: those that belong neither to Python nor to an installed package. Workers do not have them."""

from __future__ import annotations

import dis
import functools
import importlib.util
import os
import secrets
import sys
import sysconfig
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

from burla_provider.jobs.code.module_state import loaded_values, plain_state, used_names
from burla_provider.jobs.code.shipped_modules import ModuleSource

_THIS_PACKAGE = __name__.partition(".")[0]  # always local: workers do not install it

_IMPORT_NAME = dis.opmap["IMPORT_NAME"]

_DAG_FILE_PREFIX = "unusual_prefix_"  # of the names of modules that Airflow makes of DAG files


class LocalSources:
    """Collects the sources of local modules, and of the local modules that they import."""

    def __init__(self) -> None:
        self.sources: dict[str, ModuleSource] = {}
        self.job = secrets.token_hex(8)
        """Identifies the job that these modules are sent with."""
        self.names: set[str] = set()
        """Names that the collected functions may look up."""

    def add(self, name: str) -> None:
        """Add a module and its parent packages. Do nothing if it is not local or has no source."""
        parent = name.rpartition(".")[0]
        if parent:
            self.add(parent)
        if name in self.sources or (spec := _find_spec(name)) is None or not is_local(spec):
            return
        text = _source(spec)
        if text is None:
            return
        is_package = spec.submodule_search_locations is not None
        self.sources[name] = ModuleSource(text, spec.origin or f"<package {name}>", is_package)
        code = compile(text, name, "exec", dont_inherit=True)
        functions = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        self.names.update(*map(used_names, functions))
        self._add_imports(code, name if is_package else parent)

    def add_function(self, code: types.CodeType, package: str) -> None:
        """Add the modules that a function, or a function inside it, imports.

        :param package: package of the function's module, for relative imports.
        """
        self.names |= used_names(code)
        self._add_imports(code, package)

    def values(self) -> dict[str, dict[str, Any]]:
        """Return module -> values, in this process, of the attributes that functions use."""
        return {name: loaded_values(name, self.names) for name in self.sources}

    def with_state(self) -> dict[str, ModuleSource]:
        """Return the sources with those of these values that are plain data."""
        return {
            name: self.sources[name]._replace(state=plain_state(name, values, self.names, self.sources))
            for name, values in self.values().items()
        }

    def _add_imports(self, code: types.CodeType, package: str) -> None:
        for name in _imported_names(code, package):
            self.add(name)


def loaded_local_modules() -> dict[str, types.ModuleType]:
    """Return the local modules that are loaded, by name."""
    loaded = [(name, module) for name, module in list(sys.modules.items()) if isinstance(module, types.ModuleType)]
    return {name: module for name, module in loaded if is_local(module.__spec__)}


def is_local(spec: ModuleSpec | None) -> bool:
    """Return whether a module is local: workers cannot import it."""
    if spec is None:
        return False
    if spec.name.partition(".")[0] == _THIS_PACKAGE:
        return True
    paths = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    return bool(paths) and not any(_is_installed(os.path.dirname(path)) for path in paths)


def is_local_name(name: str) -> bool:
    """Return whether a module name is that of a DAG file or of a local module, not of an installed package."""
    package = name.partition(".")[0]
    return package.startswith(_DAG_FILE_PREFIX) or is_local(_find_spec(package))


def _imported_names(code: types.CodeType, package: str) -> Iterator[str]:
    has_imports = _IMPORT_NAME in code.co_code[::2]  # disassembling takes long, and few functions import modules
    steps = dis.get_instructions(code) if has_imports else ()
    instructions = [step for step in steps if step.opname not in ("CACHE", "EXTENDED_ARG")]
    for level, names, step in zip(instructions, instructions[1:], instructions[2:], strict=False):
        if step.opname == "IMPORT_NAME":  # the two instructions before it load the level and the imported names
            module = _absolute_name(step.argval, level.argval, package)
            yield module
            yield from (f"{module}.{name}" for name in names.argval or ())
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _imported_names(constant, package)


def _absolute_name(name: str, level: int, package: str) -> str:
    return importlib.util.resolve_name("." * level + name, package) if level and package else name


def _find_spec(name: str) -> ModuleSpec | None:
    # Find the spec without importing anything: a DAG file may import a module inside a function on purpose.
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    parent = name.rpartition(".")[0]
    if not parent:
        return PathFinder.find_spec(name)
    parent_spec = _find_spec(parent)
    if parent_spec is None or parent_spec.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(name, parent_spec.submodule_search_locations)


def _source(spec: ModuleSpec) -> str | None:
    if not spec.has_location:  # a package without __init__.py
        return ""
    get_source = getattr(spec.loader, "get_source", None)
    return get_source(spec.name) if get_source else None


@functools.lru_cache(maxsize=10_000)
def _is_installed(directory: str) -> bool:
    resolved = os.path.realpath(directory) + os.sep
    return resolved.startswith(_installed_prefixes(tuple(sys.path)))


@functools.lru_cache(maxsize=10)
def _installed_prefixes(search_path: tuple[str, ...]) -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    standard = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    installed = [directory for directory in search_path if _has_distributions(directory)]
    return tuple(os.path.realpath(directory) + os.sep for directory in [*standard, *installed])


def _has_distributions(directory: str) -> bool:
    # Detect site-packages directories by the records of installers.
    try:
        with os.scandir(directory or os.curdir) as entries:
            return any(entry.name.endswith(".dist-info") for entry in entries)
    except OSError:
        return False
