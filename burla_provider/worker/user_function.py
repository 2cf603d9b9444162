"""The user's function, its arguments, and the objects that are made for it once per worker process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any, TypeVar

from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.errors import to_failure
from burla_provider.worker.outcome import Failure

RETRY_SECONDS = (1.0, 2.0)
"""Pauses between the attempts to make an object on one worker."""

_Holder = TypeVar("_Holder")


@dataclass(frozen=True)
class UserFunction:
    """Calls a function, or an instance of a class, with keyword arguments.

    :param function: a function; or, with ``is_class``, a class whose instances can be called.
    :param arguments: keyword arguments of the function, or of the class's constructor. Never printed.
    :param init: name of a keyword argument -> a function that makes its value, once per worker process.
    :param is_class: whether ``load`` makes an instance of ``function``, which is called.
    :param gets_range: whether the function gets the range as its argument ``key_range``.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    init: Mapping[str, Callable[[], Any]] = field(default_factory=dict, repr=False)
    is_class: bool = False
    gets_range: bool = False
    _loaded: _Loaded = field(default_factory=lambda: _Loaded(), repr=False, compare=False)

    def load(self, secrets: Mapping[str, str]) -> Failure | None:
        """Make the objects, if there are none yet. Return the failure if that is impossible, also when called again.

        :param secrets: connection parameters whose secrets no error may show.
        """
        loaded = self._loaded
        if loaded.objects is None and loaded.failure is None:
            makers = {"": partial(self.function, **self.arguments)} if self.is_class else self.init
            made: dict[str, Any] = {}
            try:
                for name, make in makers.items():
                    made[name] = _make(make)
                loaded.objects = made
            except BaseException as error:  # SystemExit too: it must not end the worker
                with suppress(Exception):
                    _close(made)
                if isinstance(error, KeyboardInterrupt):
                    raise
                loaded.failure = replace(to_failure(error, secrets), ends_job=True)
        return loaded.failure

    def __call__(self, *args: Any) -> Any:
        """Call the function without a range."""
        return self._bind({})(*args)

    def for_range(self, key_range: KeyRange) -> Callable[..., Any]:
        """Return the function with all arguments other than the rows."""
        return self._bind({"key_range": key_range} if self.gets_range else {})

    def close(self) -> None:
        """Close and forget the objects."""
        self._loaded.close()

    def _bind(self, others: Mapping[str, Any]) -> Callable[..., Any]:
        objects = self._loaded.objects or {}
        if self.is_class:
            function, arguments = objects[""], {**others}
        else:
            function, arguments = self.function, {**self.arguments, **objects, **others}
        return _with_arguments(function, arguments) if arguments else function


def bind_range(holder: _Holder, key_range: KeyRange) -> _Holder:
    """Return a copy of a processor whose function is bound to the range.

    :param holder: an object whose field ``function`` is a ``UserFunction``, or another such object.
    """
    inner = holder.function  # type: ignore[attr-defined]
    bound = inner.for_range(key_range) if isinstance(inner, UserFunction) else bind_range(inner, key_range)
    return replace(holder, function=bound)  # type: ignore[type-var]


def _with_arguments(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """Return the function with keyword arguments: a copy that has them as defaults, if all are among its parameters.

    A call of a ``functools.partial`` with keyword arguments takes 0.3 µs longer, and there is one per row.
    """
    wrapped = partial(function, **arguments)
    if type(function) is not FunctionType or function.__code__.co_posonlyargcount:
        return wrapped
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    keyword_only = set(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])
    known = {**dict(zip(reversed(names), reversed(function.__defaults__ or ()), strict=False)), **arguments}
    with_default = [name for name in names if name in known]
    if known.keys() - with_default - keyword_only or with_default != list(names[len(names) - len(with_default) :]):
        return wrapped
    defaults = tuple(known[name] for name in with_default)
    copy = FunctionType(code, function.__globals__, function.__name__, defaults, function.__closure__)
    others = {name: arguments[name] for name in keyword_only & arguments.keys()}
    copy.__kwdefaults__ = {**(function.__kwdefaults__ or {}), **others}
    return copy


class _Loaded:
    """The objects of a worker process. A pickled copy has none."""

    objects: dict[str, Any] | None = None
    failure: Failure | None = None

    def __reduce__(self) -> tuple[type[_Loaded], tuple[()]]:
        return type(self), ()

    def __del__(self) -> None:
        self.close()  # Burla's workers forget the function of a job at its end, and do not call anything

    def close(self) -> None:
        objects, self.objects = self.objects, None
        _close(objects or {})


def _close(objects: Mapping[str, Any]) -> None:
    with ExitStack() as stack:  # closes all of them, also if one raises
        for value in objects.values():
            if callable(close := getattr(value, "close", None)):
                stack.callback(close)


def _make(make: Callable[[], Any]) -> Any:
    for seconds in RETRY_SECONDS:
        try:
            return make()
        except Exception as error:
            print(f"Could not be loaded, trying again in {seconds:g} s: {type(error).__name__}: {error}")
            time.sleep(seconds)
    return make()
