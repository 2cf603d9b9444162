"""Telling whether two jobs are the same, across processes and machines, by what they do and not by where they live."""

from __future__ import annotations

import dis
import hashlib
import sys
import uuid
from collections.abc import Callable, Iterator
from operator import attrgetter
from types import CodeType, EllipsisType, FunctionType, MappingProxyType, ModuleType, NoneType, NotImplementedType
from typing import Any

from burla_provider.jobs.code.local_modules import is_local

_PLAIN = {NoneType, bool, int, float, complex, str, EllipsisType, NotImplementedType}
"""Types whose ``repr`` says all."""
_MADE_BY_PYTHON = {
    *("__module__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"),
    "_abc_impl",  # which instances were asked for so far
    # Made of the fields, which count; they have numbers of objects in them.
    *("__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__"),
}
"""Attributes of a class that say where it is, or nothing."""


def fingerprint(*parts: Any) -> str:
    """A short text that is equal for equal parts: data compares by what it holds, callables by their code.

    A callable's code takes in its constants, defaults and closure, the functions, classes and values of the DAG's own
    files that it names, and the text of the local modules that it imports or uses as modules, with the values that
    their attributes have now. What is installed counts by its name only. What cannot be taken apart is never equal: a
    job that is done again costs less than a wrong one.

    :raises InvalidParameterError: a part could not be sent to workers either.
    """
    from burla_provider.jobs.code.pickler import local_sources

    digest = hashlib.sha256()
    modules = sorted(local_sources(parts).items())
    texts = [(name, text) for name, (text, _) in modules]
    # A lock or a connection of a module is made anew on every worker: it is no reason to begin afresh.
    values = [(name, _data(values)) for name, (_, values) in modules]
    for piece in (*_Reader().pieces((*parts, texts)), *_Reader(opaque=True).pieces(values)):
        digest.update(piece.encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()[:32]


class _Reader:
    """Takes objects apart as pickle does, each once. Not their pickle itself: its bytes differ between processes."""

    def __init__(self, *, opaque: bool = False) -> None:
        self._opaque = opaque
        # With the objects: another one could get the number of one that is gone.
        self._seen: dict[int, tuple[int, Any]] = {}

    def pieces(self, value: Any) -> Iterator[str]:
        kind = type(value)
        if kind in _PLAIN:
            yield repr(value)
        elif kind in (bytes, bytearray):
            yield f"{kind.__name__} {hashlib.sha256(value).hexdigest()}"
        elif kind in (tuple, frozenset):  # maybe constants, which one process shares and another does not
            yield from self._contents(value)
        elif id(value) in self._seen:
            yield f"again {self._seen[id(value)][0]}"
        else:
            self._seen[id(value)] = len(self._seen), value
            yield from self._parts(value)

    def _parts(self, value: Any) -> Iterator[str]:
        if type(value) in (list, set):
            yield from self._contents(value)
        elif type(value) in (dict, MappingProxyType):
            yield from self._contents(tuple(value.items()))
        elif isinstance(value, ModuleType):
            yield value.__name__  # its text is among the sources, if it is local
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif isinstance(value, FunctionType | type) and _is_installed(value):
            yield f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        else:
            yield type(value).__qualname__
            yield from self._object(value)

    def _contents(self, value: Any) -> Iterator[str]:
        yield f"{type(value).__name__} of {len(value)}"
        # The order of a set differs from process to process.
        for item in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            yield from self.pieces(item)

    def _function(self, value: FunctionType) -> Iterator[str]:
        names = sorted(_global_names(value.__code__) & value.__globals__.keys())
        state = (value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, vars(value))
        yield from self.pieces((*state, [(name, value.__globals__[name]) for name in names]))

    def _class(self, value: type) -> Iterator[str]:
        members = {name: member for name, member in vars(value).items() if name not in _MADE_BY_PYTHON}
        yield from self.pieces((type(value), value.__bases__, members))

    def _code(self, code: CodeType) -> Iterator[str]:
        # Not co_code: it counts constants and names by position. Here each is where it is used, by what it is.
        for step in dis.get_instructions(code):
            yield step.opname
            yield from self.pieces(step.argval) if step.opcode in dis.hasconst else [step.argrepr]
        yield from self.pieces(code.co_exceptiontable)

    def _object(self, value: Any) -> Iterator[str]:
        try:
            state = _reduced(value)
        except Exception:  # objects refuse in many ways
            if not self._opaque:
                yield uuid.uuid4().hex
            return
        if isinstance(state, str):  # a name; what is wrapped (functools.cache) has more to it
            yield f"{getattr(value, '__module__', None)}.{state}"
            yield from self.pieces(getattr(value, "__wrapped__", None))
            return
        made, *contents = state[:3]
        items = [None if some is None else list(some) for some in state[3:5]]
        yield from self.pieces((made, *contents, *items))


def _data(values: dict[str, Any]) -> dict[str, Any]:
    # The module's text has its functions.
    return {name: value for name, value in sorted(values.items()) if not isinstance(value, FunctionType)}


def _reduced(value: Any) -> str | tuple[Any, ...]:
    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table.get(type(value))
    state: str | tuple[Any, ...] = reduce(value) if reduce else value.__reduce_ex__(4)
    return state


def _global_names(code: CodeType) -> set[str]:
    own = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return own.union(*(_global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _is_installed(value: Callable[..., Any]) -> bool:
    # By name, as pickle sees it: a wrapper that an installed decorator made is the user's own function.
    module = sys.modules.get(value.__module__ or "")
    spec = getattr(module, "__spec__", None)
    try:
        return spec is not None and not is_local(spec) and attrgetter(value.__qualname__)(module) is value
    except AttributeError:
        return False
