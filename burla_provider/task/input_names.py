"""The names of the inputs of a map job, for the log, the Ranges tab and errors."""

from __future__ import annotations

import pickle
import reprlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from airflow.providers.common.compat.sdk import redact

from burla_provider.task.masking import masked
from burla_provider.task.short_text import shorten
from burla_provider.worker.outcome import find_unserializable

_MAX_VALUE, _MAX_DESCRIPTION = 60, 100
"""Maximum characters of a value, and of a text of ``describe``."""
_MAX_BYTES = 20_000
"""The value of a larger pickled input is not shown: a report shows hundreds of names."""
_CACHED = 1024
"""Names that are kept. There may be a million inputs."""


class InputNames:
    """Names inputs by their number and value: ``input 3 ('2026-01-03')``. Call it with the number.

    :param items: number -> pickled input.
    :param describe: the user's function, which returns the name of an input; None: the value names it.
    :param log: the task's log.
    """

    def __init__(self, items: Mapping[int, bytes], describe: Callable[[Any], str] | None, log: Any) -> None:
        self._items = items
        self._describe = describe
        self._log = log
        self._has_warned = False
        self._cached = lru_cache(_CACHED)(self._make)

    def __call__(self, index: int) -> str:
        """Return the name of an input. Raises nothing."""
        return self._cached(index)

    def _make(self, index: int) -> str:
        text = self._described(index) or self._shown(index)
        return f"input {index} ({text})" if text else f"input {index}"

    def _described(self, index: int) -> str:
        if self._describe is None:
            return ""
        try:
            text = self._describe(pickle.loads(self._items[index]))  # noqa: S301 (pickled by this task)
            if not isinstance(text, str):
                raise TypeError(f"it must return text, got {type(text).__name__}")
        except (Exception, SystemExit) as error:
            if not self._has_warned:
                reason = masked(f"{type(error).__name__}: {error}")
                self._log.warning("describe failed for input %d, so that its value names it. %s", index, reason)
            self._has_warned = True
            return ""
        return shorten(" ".join(masked(text).split()), _MAX_DESCRIPTION)

    def _shown(self, index: int) -> str:
        pickled = self._items[index]
        if len(pickled) > _MAX_BYTES:
            return ""
        try:
            value = pickle.loads(pickled)  # noqa: S301 (pickled by this task)
            if find_unserializable(value):
                return type(value).__name__
            # Redacted before it is shortened: a part of a secret would not be found.
            return shorten(masked(_short.repr(redact(value))), _MAX_VALUE)
        except Exception:  # an unusual class, or an integer of too many digits
            return ""


class _Repr(reprlib.Repr):
    def repr_int(self, value: int, level: int) -> str:
        str(value)  # later releases of Python show the id of an integer of too many digits, instead of this error
        return super().repr_int(value, level)


_short = _Repr()
_short.maxstring = _short.maxother = _short.maxlong = _MAX_VALUE
_short.maxlevel = 3
