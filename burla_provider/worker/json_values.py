"""Convert plain data to JSON without losing digits."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from burla_provider.worker.outcome import PLAIN_TYPES


def to_json(value: Any, codec: str = "utf-8") -> Any:
    """Return ``value`` as JSON data.

    Decimal, UUID, dates and times become text, bytes hexadecimal text, tuples lists, and keys text. Integers beyond 64
    bits, which XCom rejects, become text. NaN and infinities, which JSON does not have, become PostgreSQL's text.
    Text is changed as in ``storable_text``. An object of a subclass becomes one of the plain type: XCom stores a float
    of NumPy, which ``np.mean`` returns, as an object with its class name.

    :param codec: Python's name of the encoding in which the text is stored.
    """
    if isinstance(value, dict):
        return {storable_text(_key_text(key), codec): to_json(item, codec) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, codec) for item in value]
    if isinstance(value, str):
        return storable_text(value, codec)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _special(value)
    if isinstance(value, int) and not isinstance(value, bool):
        # str fails for more than 4,300 digits
        return int(value) if -(2**63) <= value < 2**64 else format(Decimal(value), "f")
    if isinstance(value, Decimal):
        # float() refuses a signaling NaN.
        return format(value, "f") if value.is_finite() else "NaN" if value.is_nan() else _special(float(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, datetime.timedelta | datetime.timezone | UUID) else value


def find_non_json(value: Any, path: str) -> str | None:
    """Return where ``value`` contains something that ``to_json`` cannot convert, and its type; None if nothing.

    Any key of a dict can be converted to text. Subclasses of plain types are accepted, such as Counter.
    """
    if isinstance(value, PLAIN_TYPES):
        return None
    if isinstance(value, dict):
        if problem := find_reserved(value) or _find_duplicate_keys(value):
            return f"{path} has {problem} (use another name)"
        parts = ((f"{path}[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{path}[{number}]", item) for number, item in enumerate(value))
    else:
        return f"{path} is of type {type(value).__module__}.{type(value).__qualname__}"
    return next((found for name, item in parts if (found := find_non_json(item, name))), None)


def find_reserved(value: Mapping[Any, Any]) -> str | None:
    """Return a description of a key that XCom cannot store, or None.

    XCom marks objects with these keys. It rejects a dict with ``__classname__`` or ``__id__``, and replaces a dict with
    ``__type`` and ``__var``.
    """
    rejected = next((key for key in ("__classname__", "__id__") if key in value), None)
    reserved = rejected or ("__type" if "__type" in value and "__var" in value else None)
    return f"the key {reserved!r}, which Airflow reserves" if reserved else None


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _find_duplicate_keys(value: dict[Any, Any]) -> str | None:
    """Return a description of two keys that have the same text and would be one key in JSON, or None."""
    keys: dict[str, Any] = {}
    for key in value:
        first = keys.setdefault(storable_text(_key_text(key)), key)
        if first is not key:
            return f"the keys {first!r} and {key!r}, which are the same in JSON"
    return None


def _key_text(key: Any) -> str:
    # The text itself, not what str makes of a subclass, such as the name of an enum's member.
    return key if isinstance(key, str) else str(key)


def storable_text(text: str, codec: str = "utf-8") -> str:
    r"""Return the text as PostgreSQL can store it in text and jsonb.

    NUL becomes U+FFFD. Characters that the encoding does not have become escapes ("\udcff"). No encoding has
    surrogates, which Python uses in file names that it cannot decode.
    """
    return text.replace("\0", "\ufffd").encode(codec, "backslashreplace").decode(codec)
