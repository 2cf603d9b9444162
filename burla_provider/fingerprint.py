"""Telling whether two jobs are the same, across processes and machines, by what they do and not by where they live."""

from __future__ import annotations

import dis
import hashlib
import inspect
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

_INSTALLED = tuple({sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def fingerprint(*parts: Any) -> str:
    """A short text that is equal for equal parts: plain data compares by its ``repr``, callables by their code.

    A callable's code takes in its constants, defaults and closure, and the functions and classes of the DAG's own
    files that it names; what is installed counts by its name only.
    """
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part, set()):
            digest.update(piece.encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()[:32]


def _pieces(value: Any, seen: set[int]) -> Iterator[str]:
    if id(value) in seen:
        yield "again"
        return
    if isinstance(value, FunctionType | type):
        seen.add(id(value))
        yield from _own_code(value, seen) if _is_own(value) else [f"{value.__module__}.{value.__qualname__}"]
    elif isinstance(value, MethodType):
        yield from _pieces((value.__func__, value.__self__), seen)
    elif isinstance(value, partial):
        yield from _pieces((value.func, value.args, value.keywords), seen)
    elif isinstance(value, CodeType):
        yield from _code(value, seen)
    elif isinstance(value, dict):
        for name in sorted(value, key=repr):
            yield repr(name)
            yield from _pieces(value[name], seen)
    elif isinstance(value, set | frozenset):
        # Their order differs from process to process.
        yield from sorted(piece for item in value for piece in _pieces(item, seen))
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} of {len(value)}"
        for item in value:
            yield from _pieces(item, seen)
    elif hasattr(value, "__dict__") and not inspect.ismodule(value):
        seen.add(id(value))
        yield type(value).__qualname__
        yield from _pieces(type(value), seen)
        yield from _pieces(vars(value), seen)
    else:
        # An object's default repr is its address.
        text = getattr(value, "__name__", None) or repr(value)
        yield type(value).__qualname__ if " at 0x" in text else text


def _own_code(value: Callable[..., Any], seen: set[int]) -> Iterator[str]:
    if isinstance(value, type):
        own = {name: member for name, member in vars(value).items() if callable(member) or not name.startswith("__")}
        yield from _pieces(own, seen)
        return
    yield from _code(value.__code__, seen)
    yield from _pieces((value.__defaults__, value.__kwdefaults__), seen)
    yield from _pieces(tuple(cell.cell_contents for cell in value.__closure__ or ()), seen)
    # Names that the code never resolves (attributes of other things) are not globals of the function.
    for name in sorted(_names(value.__code__) & value.__globals__.keys()):
        yield name
        yield from _pieces(value.__globals__[name], seen)


def _code(code: CodeType, seen: set[int]) -> Iterator[str]:
    # Not co_code: it counts constants by position. Constants come below, by what they are.
    for step in dis.get_instructions(code):
        yield step.opname if step.opcode in dis.hasconst else f"{step.opname} {step.argrepr}"
    yield from _pieces(code.co_consts, seen)


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*(_names(constant) for constant in inner))


def _is_own(value: Callable[..., Any]) -> bool:
    try:
        path = inspect.getfile(value)
    except (TypeError, OSError):
        return isinstance(value, FunctionType)
    return not path.startswith(_INSTALLED)
