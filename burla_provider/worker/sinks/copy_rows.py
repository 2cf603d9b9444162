"""COPY rows into a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.adapt import AdaptersMap, Dumper
from psycopg.types.json import Json

from burla_provider.database.connect import no_user_timeout
from burla_provider.worker.sinks.target import Target


class JsonText(str):
    """A value for a json or jsonb column that is JSON already, and is written as it is."""

    __slots__ = ()


class _PlainText(Dumper):
    """Dumps a value as Python prints it."""

    def dump(self, obj: Any) -> bytes:
        """Return the text."""
        return str(obj).encode()


class _UuidText(_PlainText):
    oid = psycopg.adapters.types["uuid"].oid


class _Float32Text(_PlainText):
    oid = psycopg.adapters.types["float4"].oid


class _BoolText(Dumper):
    oid = psycopg.adapters.types["bool"].oid

    def dump(self, obj: Any) -> bytes:
        """Return the text."""
        return b"true" if obj else b"false"


def copy_rows(
    connection: psycopg.Connection[Any],
    relation: sql.Composable,
    target: Target,
    rows: Iterable[tuple[Any, ...]],
) -> int:
    """Copy rows with the columns of ``target`` into ``relation``, and return how many were inserted.

    Values are sent in PostgreSQL's text format, so that the server reads each as the type of its column.
    """
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(relation, target.column_list)
    with connection.cursor() as cursor:
        _register_dumpers(cursor.adapters)
        with no_user_timeout(connection), cursor.copy(query) as copy:
            for row in _with_json(rows, target) if target.json_columns or target.json_arrays else rows:
                try:
                    copy.write_row(row)
                # psycopg's own: it cannot send a value.
                except (psycopg.DataError, psycopg.ProgrammingError, UnicodeEncodeError) as error:
                    raise _with_column(error, target, row) from None
        return cursor.rowcount


def _register_dumpers(adapters: AdaptersMap) -> None:
    """Give values the text of PostgreSQL, for a column of text, and a 32-bit float its shortest decimal number.

    psycopg would send a UUID without hyphens, "t" for true, and 17 digits of a 32-bit float.
    """
    adapters.register_dumper(UUID, _UuidText)
    adapters.register_dumper(bool, _BoolText)
    if numpy := sys.modules.get("numpy"):  # otherwise there are no such values
        adapters.register_dumper(numpy.bool_, _BoolText)
        adapters.register_dumper(numpy.float32, _Float32Text)


def _with_column(error: Exception, target: Target, row: Sequence[Any]) -> Exception:
    for name, value in zip(target.columns, row, strict=True):
        if isinstance(value, str) and "\0" in value:
            problem = f"a text has a NUL character, which PostgreSQL cannot store: {value[:60]!r}. Remove it."
            return ValueError(f"{name}: {problem}")
        if isinstance(value, str) and isinstance(error, UnicodeEncodeError) and value == error.object:
            character = value[error.start : error.end]
            problem = f"a text has {character!r}, which {error.encoding} does not have: {value[:60]!r}. Replace it."
            return ValueError(f"{name}: {problem}")
        try:
            psycopg.adapt.Transformer().as_literal(value)
        except (psycopg.DataError, psycopg.ProgrammingError, UnicodeEncodeError) as refusal:
            problem = f"a value of the type {type(value).__name__} cannot be written: {value!r:.60} ({refusal})."
            return ValueError(f"{name}: {problem} Return a text, a number, or another type that psycopg supports.")
    return error


def _with_json(rows: Iterable[tuple[Any, ...]], target: Target) -> Iterable[list[Any]]:
    """Yield the rows with their JSON values as psycopg expects them."""
    indexes = [number for number, name in enumerate(target.columns) if name in target.json_columns]
    arrays = [number for number, name in enumerate(target.columns) if name in target.json_arrays]
    for row in rows:
        values = list(row)
        for index in indexes:
            values[index] = _as_json(values[index])
        for index in arrays:
            if isinstance(values[index], list):  # a text is the text of an array
                values[index] = [_as_json(item) for item in values[index]]
        yield values


def _as_json(value: Any) -> Json | JsonText | None:
    return value if value is None or isinstance(value, JsonText) else Json(value, dumps=_dump_exactly)


def _dump_exactly(value: Any) -> str:
    """Return a value as JSON. Unlike ``json.dumps``, it accepts a Decimal, and keeps its digits."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except TypeError:
        if isinstance(value, Decimal) and value.is_finite():
            return format(value, "f")
        if isinstance(value, dict):
            pairs = (f"{_dump_key(name)}: {_dump_exactly(item)}" for name, item in value.items())
            return f"{{{', '.join(pairs)}}}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(_dump_exactly, value))}]"
        raise


def _dump_key(name: Any) -> str:
    """Return the name of a value as JSON. A number becomes a text, as by ``json.dumps``."""
    if not isinstance(name, str):
        [name] = json.loads(json.dumps({name: None}))
    return json.dumps(name, ensure_ascii=False)
