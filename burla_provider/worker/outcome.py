"""The answer of one call: plain data on the wire, the same whether the call succeeded or failed."""

from __future__ import annotations

import datetime
import decimal
import io
import numbers
import pickle
import uuid
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, fields
from typing import Any, ClassVar

_EXACT_TYPES = (
    decimal.Decimal,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    uuid.UUID,
)
PLAIN_TYPES = (type(None), bool, int, float, str, bytes, *_EXACT_TYPES)
PLAIN_DATA = (
    "plain data (None, bool, int, float, str, bytes, Decimal, UUID, dates, times, and lists, tuples and dicts of such)"
)
"""In words, for errors."""

RESERVED = ("complete", "failed_ranges", "snapshots")
"""Keys of the job's own in its result, besides ``row_count``."""


@dataclass(frozen=True)
class Failure:
    """Why a call failed, as text that is fit to be shown: no secret, no object of the worker's.

    :param type: qualified name of the exception.
    :param message: its text.
    :param sqlstate: PostgreSQL's five characters, where the server said it.
    :param traceback: the last lines of the traceback.
    """

    type: str
    message: str
    sqlstate: str | None = None
    traceback: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of item ``index``.

    :param index: number of the range (or input).
    :param value: what the work answered, plain data; None when it failed.
    :param row_count: rows worked; None where rows are not what is worked.
    :param seconds: of the last attempt, on the worker's clock.
    :param started: when the last attempt began, seconds since the epoch.
    :param worker: who did it, ``host:pid``.
    :param attempts: how often it was tried in the worker, 1 for "at once".
    :param failure: why it failed; None when it did not.
    """

    index: int
    value: Any = None
    row_count: int | None = None
    seconds: float = 0.0
    started: float = 0.0
    worker: str = ""
    attempts: int = 1
    failure: Failure | None = None

    @property
    def ok(self) -> bool:
        return self.failure is None


def find_unserializable(value: Any, path: str = "the return value") -> str | None:
    """Where in ``value`` something is that is not plain data, and of which type; None when all is plain.

    Plain are None, bool, int, float, str, bytes, Decimal, UUID, dates, times and intervals, and lists, tuples and
    dicts of such. Subclasses are not: the task's interpreter may not have the class.
    """
    if type(value) in PLAIN_TYPES:
        return None
    if type(value) in (list, tuple):
        parts = ((f"{path}[{number}]", item) for number, item in enumerate(value))
    elif type(value) is dict:
        parts = ((f"{path}[{name!r}]", item) for pair in value.items() for name, item in ((pair[0], pair[0]), pair))
    else:
        return f"{path} is of type {type(value).__module__}.{type(value).__qualname__}{_hint(value)}"
    return next((found for name, item in parts if (found := find_unserializable(item, name))), None)


def _hint(value: Any) -> str:
    """How to make plain data of it, in brackets, or ""."""
    kinds = {
        "int": numbers.Integral,
        "float": numbers.Real,
        "str": str,
        "bytes": bytes | bytearray | memoryview,
        "dict": Mapping,
        "list": list | tuple | Set | Iterator,
    }
    name = next((name for name, kind in kinds.items() if isinstance(value, kind)), None)
    method = next((method for method in ("to_dict", "tolist", "item") if hasattr(type(value), method)), None)
    return f" (use {name}(x))" if name else f" (use x.{method}())" if method else ""


def encode(outcome: Outcome) -> bytes:
    """The outcome as bytes, for the way from the worker to the task."""
    record = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    if outcome.failure is not None:
        record["failure"] = {field.name: getattr(outcome.failure, field.name) for field in fields(outcome.failure)}
    buffer = io.BytesIO()
    _PlainPickler(buffer, protocol=5).dump(record)
    return buffer.getvalue()


def decode(answer: bytes) -> Outcome:
    """The inverse of ``encode``. Builds plain data only, whatever the bytes ask for.

    :raises pickle.UnpicklingError: the bytes name a class that is not plain data.
    """
    record = _PlainUnpickler(io.BytesIO(answer)).load()
    failure = record.pop("failure")
    return Outcome(**record, failure=None if failure is None else Failure(**failure))


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # timestamptz comes with a zoneinfo, which unpickles by attribute access: the same moment in UTC instead.
        if type(value) is datetime.datetime and type(value.tzinfo) not in (type(None), datetime.timezone):
            return value.astimezone(datetime.UTC).__reduce_ex__(5)
        return NotImplemented


class _PlainUnpickler(pickle.Unpickler):
    # The answer comes from a machine that runs user code: nothing in it may run here.
    _allowed: ClassVar = {(kind.__module__, kind.__qualname__): kind for kind in _EXACT_TYPES}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"An answer names {module}.{name}, which is not plain data.") from None
