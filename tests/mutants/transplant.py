"""Put a mutant into the modules that are already imported, so that a forked process can run its tests at once.

Objects stay the same, because other modules hold them: only the code of functions, their defaults, and plain values of
modules and classes are replaced.
"""

from __future__ import annotations

import gc
import re
import struct
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

_PLAIN = (bool, int, float, str, bytes, type(None))
Functions = dict[str, list[FunctionType]]


def find_functions(root: Path) -> Functions:
    """Return the functions that exist in this process, by the file of their code below ``root``."""
    functions: Functions = defaultdict(list)
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename.startswith(str(root)):
            functions[thing.__code__.co_filename].append(thing)
    return functions


def transplant(module: ModuleType, original: bytes, mutated: bytes, functions: Functions, is_eager: bool) -> bool:
    """Change the imported module to what ``mutated`` says.

    :param is_eager: whether the change is in code that runs at import.
    :returns: whether anything in this process has changed.
    """
    file = str(module.__file__)
    old, new = (compile(source, file, "exec", dont_inherit=True) for source in (original, mutated))
    if is_eager:
        return _replace_values(module, new)
    pairs = list(_changed_codes(old, new))
    replaced = 0
    for function in functions.get(file, ()):
        for before, after in pairs:
            if function.__code__ == before:
                try:
                    function.__code__ = after
                except ValueError:  # other closure variables: the function around it has been replaced
                    continue
                replaced += 1
                break
    return replaced > 0


def _changed_codes(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    olds = [const for const in old.co_consts if isinstance(const, CodeType)]
    news = [const for const in new.co_consts if isinstance(const, CodeType)]
    for before, after in zip(olds, news, strict=False):
        if before != after:
            yield before, after
            yield from _changed_codes(before, after)


def _replace_values(module: ModuleType, code: CodeType) -> bool:
    fresh = ModuleType(module.__name__)
    fresh.__dict__.update(__file__=module.__file__, __package__=module.__package__, __spec__=module.__spec__)
    exec(code, fresh.__dict__)
    return sum([_replace_value(module, name, value) for name, value in list(vars(fresh).items())]) > 0


def _replace_value(module: ModuleType, name: str, new: Any) -> int:
    old = vars(module).get(name)
    if name.startswith("__") or old is new:
        return 0
    if isinstance(new, type) and isinstance(old, type) and new.__module__ == module.__name__:
        return _replace_members(old, new)
    if isinstance(_function(new), FunctionType) and getattr(new, "__module__", None) == module.__name__:
        return _replace_defaults(old, new)
    if not _differs(old, new):
        return 0
    for other in list(sys.modules.values()):
        if isinstance(other, ModuleType) and vars(other).get(name) is old:
            setattr(other, name, new)
    return 1


def _replace_members(old: type, new: type) -> int:
    replaced = 0
    for name, value in list(vars(new).items()):
        before = vars(old).get(name)
        if isinstance(_function(value), FunctionType):
            replaced += _replace_defaults(before, value)
        elif isinstance(value, type) and isinstance(before, type) and value.__module__ == old.__module__:
            replaced += _replace_members(before, value)
        elif not name.startswith("__") and _differs(before, value):
            setattr(old, name, value)
            replaced += 1
    return replaced


def _replace_defaults(old: Any, new: Any) -> int:
    before, after = _function(old), _function(new)
    if not isinstance(before, FunctionType) or not isinstance(after, FunctionType):
        return 0
    replaced = 0
    for name in ("__defaults__", "__kwdefaults__"):
        if _differs(getattr(before, name), getattr(after, name)):
            setattr(before, name, getattr(after, name))
            replaced += 1
    return replaced


def _function(thing: Any) -> Any:
    while inner := getattr(thing, "__func__", None) or getattr(thing, "__wrapped__", None):
        thing = inner
    return thing


def _differs(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return isinstance(old, _PLAIN) and isinstance(new, _PLAIN)
    if isinstance(old, _PLAIN):
        return bool(old != new)
    if isinstance(old, tuple | list):
        return len(old) != len(new) or any(_differs(*pair) for pair in zip(old, new, strict=True))
    if isinstance(old, set | frozenset):
        return all(isinstance(item, _PLAIN) for item in old | new) and old != new
    if isinstance(old, dict):
        return old.keys() != new.keys() or any(_differs(old[key], new[key]) for key in old)
    if isinstance(old, re.Pattern):
        return (old.pattern, old.flags) != (new.pattern, new.flags)
    return isinstance(old, struct.Struct) and old.format != new.format
