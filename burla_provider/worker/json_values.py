"""Plain data as what JSON holds exactly."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from burla_provider.worker.outcome import PLAIN_TYPES


def to_json(value: Any, codec: str = "utf-8") -> Any:
    """Decimal, UUID, dates and times as text, bytes as hexadecimal text, tuples as lists, keys as text.

    Integers stay integers, but those beyond 64 bits, which XCom refuses, become text. Floats stay floats, but NaN and
    the infinities, which JSON lacks, become text, as PostgreSQL spells them. Text is as PostgreSQL, Airflow's database,
    takes it.

    :param codec: Python's name of the encoding that text is to be kept in.
    """
    if isinstance(value, dict):
        return {storable_text(str(key), codec): to_json(item, codec) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, codec) for item in value]
    if isinstance(value, str):
        return storable_text(value, codec)
    if isinstance(value, float) and not math.isfinite(value):
        return _special(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return format(Decimal(value), "f")  # str gives up at 4,300 digits
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else _special(float(value))
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, datetime.timedelta | datetime.timezone | UUID) else value


def find_non_json(value: Any, path: str) -> str | None:
    """Where in ``value`` something is that ``to_json`` has no form for, and what; None when there is nothing.

    Of a dict's keys it takes the text, whatever they are; of plain data it takes subclasses too, such as Counter.
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
    """The key of a dict that Airflow's XCom cannot hold, in words, or None.

    XCom marks objects with these keys. It refuses a dict with one of the first two, and replaces one with the last two.
    """
    refused = next((key for key in ("__classname__", "__id__") if key in value), None)
    reserved = refused or ("__type" if "__type" in value and "__var" in value else None)
    return f"the key {reserved!r}, which Airflow reserves" if reserved else None


def _special(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _find_duplicate_keys(value: dict[Any, Any]) -> str | None:
    """Two keys that JSON, which has their text, takes for one, so that a value would be lost; None: there are none."""
    keys: dict[str, Any] = {}
    for key in value:
        twin = keys.setdefault(str(key), key)
        if twin is not key:
            return f"the keys {twin!r} and {key!r}, which are one in JSON"
    return None


def storable_text(text: str, codec: str = "utf-8") -> str:
    """The text as PostgreSQL can keep it, in text and jsonb.

    These have no NUL character: U+FFFD in its place. No encoding has surrogates, which Python puts into the names of
    files in another encoding, and some lack other characters: their escapes ("\\udcff") in their place.
    """
    return text.replace("\0", "\ufffd").encode(codec, "backslashreplace").decode(codec)
