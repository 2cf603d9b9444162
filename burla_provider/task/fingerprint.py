"""Compare jobs across processes and machines, by their data and code."""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from itertools import zip_longest
from operator import attrgetter
from types import CodeType, EllipsisType, FunctionType, MappingProxyType, ModuleType, NoneType, NotImplementedType
from typing import Any, TypeVar

from burla_provider.jobs.code.local_modules import is_local

_PLAIN_TYPES = {NoneType, bool, int, float, complex, str, EllipsisType, NotImplementedType}
"""Types whose ``repr`` identifies a value."""
_GENERATED = {
    *("__module__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"),
    *("_abc_impl", "_value2member_map_", "__annotations_cache__"),  # caches
    "__annotate_func__",  # of Python 3.14. It has all attributes in its closure. What it returns is compared.
    # Generated from the fields, which are compared; they contain object ids.
    *("__pydantic_core_schema__", "__pydantic_validator__", "__pydantic_serializer__"),
}
"""Attributes of a class that depend on its place or the process, not on what it does."""
_DAG_FILE = re.compile("unusual_prefix_[0-9a-f]{40}_")
"""In the name of a DAG file's module: a hash of its path."""
_PYDANTIC = "pydantic._internal._decorators"
_CODE_ATTRIBUTES = (
    *("co_name", "co_flags", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount"),
    *("co_names", "co_varnames", "co_cellvars", "co_freevars", "co_exceptiontable"),
)
"""Attributes of code that decide what its instructions do."""
_DISPATCHER = functools.singledispatch(lambda value: value).__code__  # type: ignore[attr-defined]
"""The code of every function that ``functools.singledispatch`` returns."""


def fingerprint(*parts: Any) -> str:
    """Return a short text that is equal for equal parts: data with the same values, callables with the same code.

    A callable's code includes its constants, defaults and closure, and the functions, classes and values of the DAG's
    own files that it names. It also includes the source of the local modules that it imports or uses, with the current
    values of their attributes. Installed code is compared by its name only. An object that cannot be analyzed is never
    equal, because repeating a job is better than a wrong result.

    :raises InvalidParameterError: if a part cannot be pickled.
    """
    from burla_provider.jobs.code.pickler import local_sources

    digest = hashlib.sha256()
    modules = sorted(local_sources(parts).items())
    texts = [(name, text) for name, (text, _) in modules]
    # A module's lock or connection is created again on every worker: it does not make a job different.
    values = [(name, _data(values)) for name, (_, values) in modules]
    try:
        for text in (*_Reader().texts((*parts, texts)), *_Reader(opaque=True).texts(values)):
            digest.update(_DAG_FILE.sub("", text).encode("utf-8", "backslashreplace") + b"\0")
    except RecursionError:  # pickle reaches deeper
        return uuid.uuid4().hex
    return digest.hexdigest()[:32]


class _Reader:
    """Analyzes objects as pickle does, each once. Not their pickles: these differ between processes.

    :param opaque: ignore objects that cannot be analyzed, instead of making them unequal to all others.
    """

    def __init__(self, *, opaque: bool = False) -> None:
        self._opaque = opaque
        # References to the objects, because a new object could get the id of a deleted object.
        self._seen: dict[int, tuple[int, Any]] = {}

    def texts(self, value: Any) -> Iterator[str]:
        kind = type(value)
        if kind in _PLAIN_TYPES:
            yield repr(value)
        elif kind in (bytes, bytearray):
            yield f"{kind.__name__} {hashlib.sha256(value).hexdigest()}"
        elif kind in (tuple, frozenset):  # constants may be one object in one process and several in another
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
        elif callable(value) and hasattr(type(value), "expand_kwargs"):  # a decorated task
            yield from self.texts(value.function)
        elif isinstance(value, ModuleType):
            yield value.__name__  # its source is compared too, if it is local
        elif isinstance(value, CodeType):
            yield from self._code(value)
        elif isinstance(value, FunctionType | type) and _is_installed(value):
            yield f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, FunctionType) and value.__code__ is _DISPATCHER:  # its closure has caches
            yield from self.texts(value.registry)  # type: ignore[attr-defined]
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif type(value) is functools.cached_property:  # it has a lock
            yield from self.texts(value.func)
        elif type(value) is TypeVar:  # cloudpickle gives it a random id
            yield from self.texts((value.__name__, value.__bound__, value.__constraints__))
        elif type(value).__module__ == _PYDANTIC and dataclasses.is_dataclass(value):  # cls_ref has the id of a class
            names = [field.name for field in dataclasses.fields(value) if field.name != "cls_ref"]
            yield from self.texts([(name, getattr(value, name)) for name in names])
        else:
            yield type(value).__qualname__
            yield from self._object(value)

    def _contents(self, value: Any) -> Iterator[str]:
        yield f"{type(value).__name__} of {len(value)}"
        # The order of a set differs between processes.
        for item in sorted(value, key=self._order) if isinstance(value, set | frozenset) else value:
            yield from self.texts(item)

    def _order(self, item: Any) -> str:
        if type(item) in _PLAIN_TYPES:
            return repr(item)
        reader = _Reader(opaque=True)
        reader._seen = dict(self._seen)
        return "\0".join(reader.texts(item))

    def _function(self, value: FunctionType) -> Iterator[str]:
        names = sorted(_global_names(value.__code__) & value.__globals__.keys())
        state = (value.__code__, value.__defaults__, value.__kwdefaults__, value.__closure__, vars(value))
        yield from self.texts((*state, [(name, value.__globals__[name]) for name in names]))

    def _class(self, value: type) -> Iterator[str]:
        members = {name: member for name, member in vars(value).items() if name not in _GENERATED}
        if sys.version_info >= (3, 14) and "__annotate_func__" in vars(value):
            members["__annotations__"] = _annotations(value)
        yield from self.texts((type(value), value.__bases__, members))

    def _code(self, code: CodeType) -> Iterator[str]:
        yield from self.texts([getattr(code, name) for name in _CODE_ATTRIBUTES])
        # The arguments of instructions are positions in these attributes. Only constants are compared by their values,
        # because they include the line and the attributes of a class, in any order.
        steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
        for step, following in zip_longest(steps, steps[1:]):
            yield step.opname
            if following and following.opname == "STORE_NAME" and following.argval in _GENERATED:
                continue
            yield from self.texts(code.co_consts[step.arg or 0] if step.opcode in dis.hasconst else step.arg)

    def _object(self, value: Any) -> Iterator[str]:
        try:
            state = _reduced(value)
        except Exception:  # objects can raise anything
            if not self._opaque:
                yield uuid.uuid4().hex
            return
        if isinstance(state, str):  # a name; a wrapper (functools.cache) also has a wrapped function
            yield f"{getattr(value, '__module__', None)}.{state}"
            yield from self.texts(getattr(value, "__wrapped__", None))
            return
        items = [None if iterator is None else list(iterator) for iterator in state[3:5]]
        yield from self.texts((*state[:3], *items))


if sys.version_info >= (3, 14):
    import annotationlib

    def _annotations(value: type) -> dict[str, Any]:
        # They are evaluated when they are read. A name may be defined for type checkers only.
        try:
            return annotationlib.get_annotations(value)
        except Exception:
            return annotationlib.get_annotations(value, format=annotationlib.Format.STRING)


def _data(values: dict[str, Any]) -> dict[str, Any]:
    # Functions are compared by the module's source.
    return {name: value for name, value in sorted(values.items()) if not isinstance(value, FunctionType)}


def _reduced(value: Any) -> str | tuple[Any, ...]:
    import cloudpickle

    reduce = cloudpickle.Pickler.dispatch_table.get(type(value))
    state: str | tuple[Any, ...] = reduce(value) if reduce else value.__reduce_ex__(4)
    return state


def _global_names(code: CodeType) -> set[str]:
    names = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return names.union(*(_global_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)))


def _is_installed(value: Callable[..., Any]) -> bool:
    # Whether pickle finds it by its name: a wrapper that an installed decorator returns is the user's function.
    module = sys.modules.get(value.__module__ or "")
    spec = getattr(module, "__spec__", None)
    try:
        return spec is not None and not is_local(spec) and attrgetter(value.__qualname__)(module) is value
    except AttributeError:
        return False
