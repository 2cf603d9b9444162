"""Convert the values of a column from PostgreSQL's binary format to an Arrow array, without Python code per value."""

from __future__ import annotations

import struct
import sys
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from operator import is_not
from typing import Any, ClassVar, NamedTuple

import psycopg
from psycopg import sql

from burla_provider.worker.stream import as_text_advice

_DEFAULT_NUMERIC = (38, 18)
"""Precision and scale of a numeric without declared ones. A value that does not fit is an error; none is rounded."""

_DAY = 86_400_000_000
"""Microseconds of a day."""

_EPOCH_DAYS = 10_957
"""Days from 1970-01-01, where Arrow's dates begin, to 2000-01-01, where PostgreSQL's begin."""

_NULL_LENGTH = b"\xff\xff\xff\xff"
"""-1, the length of NULL in what the server packs."""

_FIRST_DAY, _LAST_DAY = -730_119, 2_921_939
"""0001-01-01 and 9999-12-31 in days since 2000-01-01. Python has no other dates. Infinite dates are far outside."""


class Packed(NamedTuple):
    """Some values of a column.

    :ivar data: the values, one after the other.
    :ivar valid: a byte per value: 0 for NULL.
    :ivar lengths: a C int per value; empty if all have the same length, or end with a separator.
    """

    data: bytes
    valid: bytes
    lengths: bytes = b""


class Buffers:
    """The values of a column that become one array."""

    def __init__(self) -> None:
        self.data, self.valid, self.lengths = bytearray(), bytearray(), bytearray()
        self.is_ascii = True

    def add(self, packed: Packed) -> None:
        """Append values."""
        self.data += packed.data
        self.valid += packed.valid
        self.lengths += packed.lengths
        self.is_ascii = self.is_ascii and packed.data.isascii()


@dataclass(frozen=True)
class ArrowColumn(ABC):
    """Reads a column as an Arrow array.

    :ivar name: name of the column.
    :ivar arrow_type: type of the array.
    :cvar expression: SQL of the value that is read, with the column as a placeholder.
    """

    name: str
    arrow_type: Any

    expression: ClassVar[str] = "{}"

    @abstractmethod
    def pack(self, values: Sequence[bytes | None]) -> Packed:
        """Join values in PostgreSQL's binary format."""

    @abstractmethod
    def aggregates(self, nullable: bool) -> list[str]:
        """Return SQL with which the server packs values, with the column as a placeholder.

        :param nullable: whether there can be NULLs.
        """

    @abstractmethod
    def unpack(self, results: Sequence[bytes | None], rows: int) -> Packed:
        """Return the values of the results of the aggregates over some rows."""

    def to_array(self, buffers: Buffers) -> Any:
        """Return the array of the values.

        :raises ValueError: if the type cannot hold a value.
        """
        import pyarrow as pa

        try:
            return self._convert(buffers, _validity(buffers.valid))
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"Arrow's {self.arrow_type} cannot hold a value of {self.name}: {error}. {as_text_advice(self.name)}"
            ) from None

    @abstractmethod
    def _convert(self, buffers: Buffers, validity: Any) -> Any: ...


@dataclass(frozen=True)
class FixedWidthColumn(ArrowColumn):
    """Values of the same length: numbers, and dates and times, which are numbers.

    :ivar typecode: of ``array.array``.
    :ivar limits: minimum and maximum value. Outside of them Python, or Arrow, has no such date or time.
    :ivar offset: is added to each value.
    :ivar send: function of the server that returns a value in binary format.
    """

    typecode: str
    limits: tuple[int, int] | None = None
    offset: int = 0
    send: str = ""

    def pack(self, values: Sequence[bytes | None]) -> Packed:
        """Return the values without their lengths."""
        data, valid, _ = _join(b"", values, bytes(array(self.typecode).itemsize))
        return Packed(data, valid)

    def aggregates(self, nullable: bool) -> list[str]:
        """Return SQL of the values, and of a byte per value if there can be NULLs."""
        value = f"pg_catalog.{self.send}({{0}})"
        if not nullable:
            return [_join_on_server(value)]
        zeros, null, valid = map(_as_bytea, (bytes(array(self.typecode).itemsize), b"\0", b"\1"))
        return [
            _join_on_server(f"COALESCE({value}, {zeros})"),
            _join_on_server(f"CASE WHEN {{0}} IS NULL THEN {null} ELSE {valid} END"),
        ]

    def unpack(self, results: Sequence[bytes | None], rows: int) -> Packed:
        """Return the results as they are."""
        data, valid = (*results, b"\1" * rows)[:2]
        return Packed(data or b"", valid or b"")

    def _convert(self, buffers: Buffers, validity: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        numbers = array(self.typecode, buffers.data)
        if sys.byteorder == "little":
            numbers.byteswap()
        storage = {"b": pa.int8(), "h": pa.int16(), "i": pa.int32(), "q": pa.int64(), "f": pa.float32()}
        storage_type = storage.get(self.typecode, pa.float64())
        values = pa.Array.from_buffers(storage_type, len(numbers), [validity, pa.py_buffer(numbers)])
        if self.limits:
            found = pc.min_max(values).as_py()
            for value in (found["min"] or 0, found["max"] or 0):
                if not self.limits[0] <= value <= self.limits[1]:
                    raise pa.ArrowInvalid(f"got {_describe(value, numbers.itemsize, self.limits)}")
        if self.offset:
            values = pc.add(values, pa.scalar(self.offset, storage_type))
        return values.cast(self.arrow_type)


@dataclass(frozen=True)
class BytesColumn(ArrowColumn):
    """Values of any length.

    :ivar encoding: the client's, for text.
    """

    encoding: str = "utf-8"

    def pack(self, values: Sequence[bytes | None]) -> Packed:
        """Return the values, in UTF-8 if they are text, and their lengths."""
        if self.encoding not in ("utf-8", "ascii"):  # PostgreSQL's SQL_ASCII stores any bytes
            values = [value and value.decode(self.encoding).encode() for value in values]
        data, valid, values = _join(b"", values, b"")
        return Packed(data, valid, struct.pack(f"{len(values)}i", *map(len, values)))

    def aggregates(self, nullable: bool) -> list[str]:
        """Return SQL of the values, and of their lengths: -1 for NULL. The server's encoding must be UTF-8."""
        return [
            _join_on_server("{0}"),
            _join_on_server("pg_catalog.int4send(COALESCE(pg_catalog.octet_length({0}), -1))"),
        ]

    def unpack(self, results: Sequence[bytes | None], rows: int) -> Packed:
        """Return the values, with lengths in the byte order of this machine."""
        data, valid = results[0] or b"", b"\1" * rows
        lengths = array("i", results[1] or b"")
        if sys.byteorder == "little":
            lengths.byteswap()
        if _NULL_LENGTH in (results[1] or b""):
            valid = bytes(length >= 0 for length in lengths)
            lengths = array("i", [max(length, 0) for length in lengths])
        return Packed(data, valid, lengths.tobytes())

    def _convert(self, buffers: Buffers, validity: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        count = len(buffers.valid)
        lengths = pa.py_buffer(bytes(4) + buffers.lengths)  # the first offset is 0
        offsets = pc.cumulative_sum(pa.Array.from_buffers(pa.int32(), count + 1, [None, lengths]))
        data = pa.py_buffer(buffers.data)
        values = pa.Array.from_buffers(self.arrow_type, count, [validity, offsets.buffers()[1], data])
        if not buffers.is_ascii:
            values.validate(full=True)  # that text is UTF-8
        return values


@dataclass(frozen=True)
class TextColumn(BytesColumn):
    """Values of any other type, as the text that PostgreSQL prints, which a cast to text is not for all types."""

    expression: ClassVar[str] = "CASE WHEN pg_catalog.num_nulls({0}) = 0 THEN pg_catalog.concat({0}) END"


@dataclass(frozen=True)
class NumericColumn(ArrowColumn):
    """Decimals, which Arrow parses from text."""

    expression: ClassVar[str] = "{}::pg_catalog.text"

    def pack(self, values: Sequence[bytes | None]) -> Packed:
        """Return one line per value, empty for NULL."""
        data, valid, _ = _join(b"\n", values, b"")
        return Packed(data + b"\n", valid)

    def aggregates(self, nullable: bool) -> list[str]:
        """Return SQL of the lines."""
        return ["pg_catalog.string_agg(COALESCE({0}, ''), pg_catalog.chr(10))"]

    def unpack(self, results: Sequence[bytes | None], rows: int) -> Packed:
        """Return the lines; empty ones are NULL."""
        data = (results[0] or b"") + b"\n"
        has_nulls = data.startswith(b"\n") or b"\n\n" in data
        return Packed(data, bytes(map(bool, data[:-1].split(b"\n"))) if has_nulls else b"\1" * rows)

    def _convert(self, buffers: Buffers, validity: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        lines = pa.array([bytes(buffers.data[:-1])], pa.string())
        texts = pc.split_pattern(lines, "\n").values
        if validity is not None:
            texts = pa.Array.from_buffers(pa.string(), len(texts), [validity, *texts.buffers()[1:]])
        return _check_digits(texts, self.arrow_type).cast(self.arrow_type)


def arrow_column(column: psycopg.Column, encoding: str) -> ArrowColumn:
    """Return the reader of a column.

    :param encoding: Python's name of the client's encoding.
    :raises ValueError: if no Arrow type is wide enough.
    """
    import pyarrow as pa

    name, info = column.name, psycopg.adapters.types.get(column.type_code)
    type_name = info.name if info and info.oid == column.type_code else ""  # info may be of the array's elements
    if type_name == "numeric":
        return NumericColumn(name, _decimal_type(column))
    if type_name == "bytea":
        return BytesColumn(name, pa.binary())
    if type_name in ("text", "varchar", "bpchar", "name", "json"):  # their binary format is their text
        return BytesColumn(name, pa.string(), encoding)
    days, times = (_FIRST_DAY, _LAST_DAY), (_FIRST_DAY * _DAY, (_LAST_DAY + 1) * _DAY - 1)
    fixed_width: dict[str, tuple[Any, ...]] = {
        "int2": (pa.int16(), "h"),
        "int4": (pa.int32(), "i"),
        "int8": (pa.int64(), "q"),
        "float4": (pa.float32(), "f"),
        "float8": (pa.float64(), "d"),
        "bool": (pa.bool_(), "b"),
        "date": (pa.date32(), "i", days, _EPOCH_DAYS),
        "time": (pa.time64("us"), "q", (0, _DAY - 1)),
        "timestamp": (pa.timestamp("us"), "q", times, _EPOCH_DAYS * _DAY),
        "timestamptz": (pa.timestamp("us", "UTC"), "q", times, _EPOCH_DAYS * _DAY),
    }
    if type_name in fixed_width:
        underscore = "_" if type_name in ("date", "time", "timestamp", "timestamptz") else ""
        return replace(FixedWidthColumn(name, *fixed_width[type_name]), send=f"{type_name}{underscore}send")
    return TextColumn(name, pa.string(), encoding)


def select_values(query: sql.Composed, columns: Sequence[ArrowColumn]) -> sql.Composed:
    """Return the query with the values that the columns read."""
    if all(column.expression == ArrowColumn.expression for column in columns):
        return query
    names = [sql.Identifier(f"c{number}") for number in range(len(columns))]
    selected = [sql.SQL(column.expression).format(name) for column, name in zip(columns, names, strict=True)]
    comma = sql.SQL(", ")
    # OFFSET 0 keeps the server from computing an expression of the query once per reference to its name.
    return sql.SQL("SELECT {} FROM ({} OFFSET 0) AS rows ({})").format(comma.join(selected), query, comma.join(names))


def _join_on_server(value: str) -> str:
    return f"pg_catalog.string_agg({value}, '')"


def _as_bytea(value: bytes) -> str:
    return f"pg_catalog.decode('{value.hex()}', 'hex')"


def _join(separator: bytes, values: Sequence[bytes | None], null: bytes) -> tuple[bytes, bytes, Sequence[bytes]]:
    """Return the values joined, a byte per value that is 0 for NULL, and the values with ``null`` for NULL."""
    try:
        return separator.join(values), b"\1" * len(values), values  # type: ignore[arg-type,return-value]
    except TypeError:  # there are NULLs
        valid = bytes(map(is_not, values, repeat(None)))
        filled = [null if value is None else value for value in values]
        return separator.join(filled), valid, filled


def _validity(valid: bytearray) -> Any:
    """Return Arrow's bitmap of the values that are not NULL; None if there are no NULLs."""
    import pyarrow as pa

    if b"\0" not in valid:
        return None
    flags = pa.Array.from_buffers(pa.uint8(), len(valid), [None, pa.py_buffer(valid)])
    return flags.cast(pa.bool_()).buffers()[1]


def _describe(value: int, size: int, limits: tuple[int, int]) -> str:
    if limits[0] == 0:
        return "24:00:00"
    infinity = 2 ** (8 * size - 1) - 1
    names = {infinity: "infinity", -infinity - 1: "-infinity"}
    return names.get(value, "a year before 1 or after 9999")


def _check_digits(texts: Any, arrow_type: Any) -> Any:
    """Return the texts if each fits the decimal type: Arrow's cast returns wrong values for some with too many digits.

    :raises ArrowInvalid: if a value has more digits before or after the decimal point than the type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whole_digits, scale = arrow_type.precision - arrow_type.scale, arrow_type.scale
    safe_length = (38 if arrow_type.bit_width == 128 else 76) - scale
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= safe_length:  # Arrow detects every overflow
        return texts
    texts = pc.replace_substring_regex(texts, rf"(\.\d{{{scale}}})0+$", r"\1")
    fraction = rf"(\.\d{{1,{scale}}})?" if scale else ""
    whole = rf"\d{{1,{whole_digits}}}" if whole_digits else "0"
    fits = pc.match_substring_regex(texts, rf"^-?({whole}|0){fraction}$")
    if not pc.all(fits).as_py():
        wrong = texts.filter(pc.invert(fits))[0].as_py()
        raise pa.ArrowInvalid(f"got {wrong[:100]}")
    return texts


def _decimal_type(column: psycopg.Column) -> Any:
    """Return the decimal type that holds every value of the column.

    :raises ValueError: if no Arrow type is wide enough.
    """
    import pyarrow as pa

    precision, scale = (column.precision, column.scale or 0) if column.precision else _DEFAULT_NUMERIC
    # PostgreSQL allows a scale below 0 and above the precision.
    precision, scale = max(precision, precision - scale, scale), max(scale, 0)
    if precision > 76:
        raise ValueError(
            f"Arrow's decimals have at most 76 digits, and {column.name} may have {precision}."
            f" {as_text_advice(column.name)}"
        )
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
