"""The outcome of one call on a worker, and its encoding as bytes of plain data."""

from __future__ import annotations

import datetime
import decimal
import io
import numbers
import os
import pickle
import socket
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
    "plain data (None, bool, int, float, str, bytes, Decimal, UUID, dates, times, and lists, tuples and dicts of these)"
)
"""The plain types in words, for error messages."""

RESERVED_KEYS = ("complete", "failed_ranges", "snapshots")
"""Keys that the job adds to its result, besides ``row_count``."""

_MAX_DEPTH = 100
"""Levels of nested lists, tuples and dicts. Python's own limit is near for 300."""


@dataclass(frozen=True)
class Failure:
    """Why a call failed, as text without secrets.

    :param type: qualified name of the exception class.
    :param message: text of the exception itself.
    :param sqlstate: SQLSTATE, if the error came from the server.
    :param traceback: innermost part of the traceback.
    :param keys: a condition on the table's key that the range's rows meet, if the range's bounds are not keys.
    :param rows: the rows that fail, if they are known: "id = 5; id = 9"; "not found, because ..." if the search failed.
    :param advice: what to do about it, as a sentence.
    :param ends_job: whether the job has failed, because no item can be processed.
    """

    type: str
    message: str
    sqlstate: str | None = None
    traceback: str = ""
    keys: str = ""
    rows: str = ""
    advice: str = ""
    ends_job: bool = False

    @property
    def kind(self) -> str:
        """The class and the SQLSTATE: "psycopg.errors.DivisionByZero [22012]"."""
        return f"{self.type} [{self.sqlstate}]" if self.sqlstate else self.type

    @property
    def title(self) -> str:
        """The kind and the message in one line."""
        return f"{self.kind}: {' '.join(self.message.split())}".removesuffix(": ")

    @property
    def text(self) -> str:
        """All of it as one text, without the traceback."""
        rows = f"Rows that fail: {self.rows}." if self.rows else ""
        return f"{self.kind}: {join_sentences(self.message, rows, self.advice)}"


@dataclass(frozen=True)
class Outcome:
    """The outcome of one item: it succeeded or failed.

    :param index: number of the range (or input).
    :param value: result, plain data; None if it failed.
    :param row_count: rows processed; None if rows are not counted.
    :param seconds: duration of the last attempt, with the search for the rows that fail.
    :param started: start of the last attempt on the worker's clock, seconds since the epoch.
    :param worker: the worker process, ``host:pid``.
    :param attempts: number of attempts on the worker.
    :param failure: why it failed; None if it succeeded.
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
        """Whether the item succeeded."""
        return self.failure is None


def worker_name() -> str:
    """Return the name of this worker process: ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def join_sentences(*texts: str) -> str:
    """Return the texts that are not empty, with a full stop between them if it is missing."""
    joined = ""
    for text in filter(None, texts):
        joined += f"{'.' if joined and joined[-1] not in '.!?:;' else ''} {text}"
    return joined.strip()


def find_unserializable(value: Any, path: str = "the return value", depth: int = 0) -> str | None:
    """Return where ``value`` contains something other than plain data, and its type; None if all is plain data.

    Plain data is None, bool, int, float, str, bytes, Decimal, UUID, dates, times and intervals, and lists, tuples and
    dicts of plain data. Subclasses are not plain: the task's interpreter might not have the class. A datetime with any
    time zone is plain, and becomes the same time in UTC.
    """
    if type(value) in PLAIN_TYPES:
        return _find_zone(value, path)
    if depth > _MAX_DEPTH:
        return f"{path[:60]}... is nested more than {_MAX_DEPTH} levels deep, or contains itself"
    if type(value) in (list, tuple):
        parts = ((f"{path}[{number}]", item) for number, item in enumerate(value))
    elif type(value) is dict:
        parts = ((f"{path}[{_shown(key)}]", item) for pair in value.items() for key, item in ((pair[0], pair[0]), pair))
    else:
        return f"{path} is of type {type(value).__module__}.{type(value).__qualname__}{_hint(value)}"
    return next((found for name, item in parts if (found := find_unserializable(item, name, depth + 1))), None)


def _shown(key: Any) -> str:
    try:
        return repr(key)
    except Exception:  # an unusual class, or an integer of too many digits
        return type(key).__name__


def _find_zone(value: Any, path: str) -> str | None:
    """Return the problem with the time zone of a value of a plain type, or None."""
    if not _has_zone(value):
        return None
    if isinstance(value, datetime.time):
        return (
            f"{path} is a time of the zone {value.tzinfo!s:.60}, whose offset depends on the date (use x.isoformat())"
        )
    try:
        _in_utc(value)
    except Exception as error:  # of the user's class
        return f"{path} is a datetime that cannot be converted to UTC: {error} (use x.replace(tzinfo=None))"
    return None


def _has_zone(value: Any) -> bool:
    """Return whether the value is a datetime or a time of a zone that is not plain data."""
    if type(value) not in (datetime.datetime, datetime.time):
        return False
    return type(value.tzinfo) not in (type(None), datetime.timezone)


def _in_utc(moment: datetime.datetime) -> datetime.datetime:
    if moment.utcoffset() is None:  # Python would take it for a local time
        raise ValueError("the zone has no offset at that time")
    return moment.astimezone(datetime.UTC)


def _hint(value: Any) -> str:
    """Return how to convert the value to plain data, in brackets, or ""."""
    base_classes = {
        "int": numbers.Integral,
        "float": numbers.Real,
        "str": str,
        "bytes": bytes | bytearray | memoryview,
        "dict": Mapping,
        "list": list | tuple | Set | Iterator,
    }
    name = next((name for name, base in base_classes.items() if isinstance(value, base)), None)
    method = next((method for method in ("to_dict", "tolist", "item") if hasattr(type(value), method)), None)
    return f" (use {name}(x))" if name else f" (use x.{method}())" if method else ""


def encode(outcome: Outcome) -> bytes:
    """Return the outcome as bytes, to send it from the worker to the task."""
    record = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    if outcome.failure is not None:
        record["failure"] = {field.name: getattr(outcome.failure, field.name) for field in fields(outcome.failure)}
    buffer = io.BytesIO()
    _PlainPickler(buffer, protocol=5).dump(record)
    return buffer.getvalue()


def decode(encoded: bytes) -> Outcome:
    """Return the outcome that ``encode`` encoded. Only plain data is unpickled, whatever the bytes contain.

    :raises pickle.UnpicklingError: if the bytes name a class that is not plain data.
    """
    record = _PlainUnpickler(io.BytesIO(encoded)).load()
    failure = record.pop("failure")
    return Outcome(**record, failure=None if failure is None else Failure(**failure))


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # Send the same time in UTC: unpickling a zoneinfo requires an attribute access, which is refused.
        if type(value) is datetime.datetime and _has_zone(value):
            return _in_utc(value).__reduce_ex__(5)
        return NotImplemented


class _PlainUnpickler(pickle.Unpickler):
    # The data comes from a machine that runs user code, so unpickling must not call any code.
    _allowed: ClassVar = {(cls.__module__, cls.__qualname__): cls for cls in _EXACT_TYPES}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"An outcome contains {module}.{name}, which is not plain data.") from None
