"""Find attributes of local modules whose values may differ from the module's source, which workers get.

A DAG file may set a module's attribute (``helper.RATE = 3``), and a module may read a value from a file. Plain data is
sent with the source. Attributes that were replaced by other objects are found and refused.
"""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import enum
import fractions
import pathlib
import re
import sys
import types
import uuid
import zoneinfo
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from burla_provider.jobs.code.shipped_modules import EnumMember, ModuleSource, Path

_PLAIN_TYPES = {
    *(types.NoneType, bool, int, float, complex, str, bytes, bytearray, range),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern, pathlib.PosixPath, pathlib.PurePosixPath),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone, zoneinfo.ZoneInfo),
}
_PLAIN_SEQUENCES = {list, tuple, set, frozenset, collections.deque}
_PLAIN_DICTS = {dict, collections.OrderedDict, collections.Counter}
_IMPORT_ATTRIBUTES = {
    *("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__cached__", "__path__"),
    *("__builtins__", "__annotations__"),
}


def used_names(code: types.CodeType) -> set[str]:
    """Return the names that code, or a function inside it, may look up. Strings are included because of getattr."""
    inner = (used_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType))
    return {*code.co_names, *(constant for constant in code.co_consts if isinstance(constant, str))}.union(*inner)


def loaded_values(name: str, names: Collection[str]) -> dict[str, Any]:
    """Return the values of the attributes that functions use; {} if the module is not loaded.

    :param names: attributes that functions may use.
    """
    module = sys.modules.get(name)
    return {
        attribute: value
        for attribute, value in (vars(module) if module else {}).items()
        if attribute in names and attribute not in _IMPORT_ATTRIBUTES and not isinstance(value, types.ModuleType)
    }


def plain_state(
    module: str, values: Mapping[str, Any], names: Collection[str], sent: Collection[str]
) -> dict[Path, Any]:
    """Return path -> value of the plain data in a module, in its classes, and in instances of classes that are sent.

    :param sent: the modules that are sent.
    """
    return dict(_Walk(module, names, sent).state(values, (), frozenset()))


@dataclass(frozen=True)
class _Walk:
    module: str
    names: Collection[str]
    sent: Collection[str]

    def state(self, values: Mapping[str, Any], path: Path, seen: frozenset[int]) -> Iterator[tuple[Path, Any]]:
        for name, value in values.items():
            if name not in self.names:
                continue
            inner = (*path, name)
            if _is_plain(value):
                yield inner, value
            elif isinstance(value, type):
                if value.__module__ == self.module and id(value) not in seen:
                    yield from self.state(vars(value), inner, seen | {id(value)})
            elif type(value).__module__ not in self.sent and type(value) is not types.SimpleNamespace:
                continue
            elif isinstance(value, enum.Enum):
                if _is_plain(value.value):
                    yield inner, EnumMember(type(value).__module__, type(value).__qualname__, value.value)
            elif hasattr(value, "__dict__") and id(value) not in seen:
                yield from self.state(vars(value), inner, seen | {id(value)})


def _is_plain(value: Any) -> bool:
    if type(value) in _PLAIN_SEQUENCES:
        return all(map(_is_plain, value))
    if type(value) in _PLAIN_DICTS:
        return all(_is_plain(part) for pair in value.items() for part in pair)
    return type(value) in _PLAIN_TYPES


def replaced_names(module: str, source: ModuleSource, values: Mapping[str, Any]) -> list[str]:
    """Return the attributes that differ from the source and cannot be sent to workers."""
    tree = ast.parse(source.text)
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    assignments = collections.Counter(node.id for node in nodes if not isinstance(node.ctx, ast.Load))
    found = []
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name, decorator_list=[]) | ast.AsyncFunctionDef(name=name, decorator_list=[]):
                is_replaced = assignments[name] == 0 and not _is_function_of(values.get(name), name, module)
            case ast.ClassDef(name=name, decorator_list=[]):
                is_replaced = assignments[name] == 0 and not _is_class_of(values.get(name), name, module)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()):
                is_replaced = assignments[name] == 1 and not _is_plain(values.get(name))
            case _:
                continue
        if is_replaced and name in values:
            found.append(f"{module}.{name}")
    return found


def _is_function_of(value: Any, name: str, module: str) -> bool:
    is_function = isinstance(value, types.FunctionType) and value.__qualname__ == name
    return is_function and value.__globals__ is vars(sys.modules[module])


def _is_class_of(value: Any, name: str, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module and value.__qualname__ == name
