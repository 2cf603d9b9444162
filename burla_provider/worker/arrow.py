"""Rows as Arrow record batches, with PostgreSQL's numeric as decimal, never as float."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

from burla_provider.worker.stream import as_text_advice, describe, may_be_large, stream

FIRST, MOST = 1_000, 50_000
"""Rows of the first batch, and of the largest, about."""

BYTES = 8_000_000
"""What a batch should not be much larger than, if it has more than one row."""

UNDECLARED = (38, 18)
"""Precision and scale of a numeric that declares none. A value that does not fit is an error, not a rounded value."""


def record_batches(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """``pyarrow.RecordBatch`` es of the query's columns.

    Integers, floats, numeric, boolean, date, time, timestamp, timestamptz (in UTC) and bytea have Arrow's own types;
    all others, arrays included, are strings, PostgreSQL's text of them.

    :raises ValueError: a value that the column's Arrow type cannot hold, such as an infinite timestamp.
    """
    columns = describe(connection, query)
    types = [_arrow_type(column) for column in columns]  # before the first row: one of them may be refused

    def load_text(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
        for oid in {column.type_code for column in columns if not _is(column, "bytea")}:
            cursor.adapters.register_loader(oid, TextLoader)
        cursor.adapters.register_loader("timestamp", TextLoader)  # what a timestamptz is in UTC

    chunks = stream(connection, _in_utc(query, columns), tuple_row, load_text)
    wide = [number for number, column in enumerate(columns) if may_be_large(column)]
    rows: list[tuple[Any, ...]] = []
    size, limit = 0, FIRST
    try:
        for chunk in chunks:
            more = _size(chunk, wide)
            if rows and size + more > BYTES:
                batch = _batch(rows, columns, types)
                rows, size = [], 0
                yield batch
            rows += chunk
            size += more
            if len(rows) >= limit:
                batch = _batch(rows, columns, types)
                limit = min(MOST, max(1, BYTES * batch.num_rows // max(batch.nbytes, 1)))
                rows, size = [], 0
                yield batch
        if rows:
            yield _batch(rows, columns, types)
    finally:
        chunks.close()


def _size(rows: Iterable[tuple[Any, ...]], wide: Sequence[int]) -> int:
    return sum(len(row[number]) for number in wide for row in rows if row[number] is not None)


def _batch(rows: Sequence[tuple[Any, ...]], columns: Sequence[psycopg.Column], types: Sequence[Any]) -> Any:
    import pyarrow as pa

    arrays = [_array(*one) for one in zip(zip(*rows, strict=True), columns, types, strict=True)]
    return pa.record_batch(arrays, names=[column.name for column in columns])


def _array(values: Sequence[Any], column: psycopg.Column, arrow_type: Any) -> Any:
    """The column's values, which Arrow parses from their text: in C++, and exactly."""
    import pyarrow as pa

    try:
        if arrow_type in (pa.binary(), pa.string()):
            return pa.array(values, arrow_type)
        if arrow_type == pa.bool_():
            return pa.array([None if text is None else text == "t" for text in values], arrow_type)
        return _parsed(pa.array(values, pa.string()), arrow_type)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Arrow's {arrow_type} cannot hold a value of {column.name}: {error}. {as_text_advice(column.name)}"
        ) from None


def _parsed(texts: Any, arrow_type: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(arrow_type):
        texts = _fitting(texts, arrow_type)
    elif pa.types.is_time(arrow_type):  # Arrow parses timestamps only
        return pc.binary_join_element_wise("1970-01-01", texts, " ").cast(pa.timestamp("us")).cast(arrow_type)
    elif pa.types.is_timestamp(arrow_type):
        texts = texts.cast(pa.timestamp("us"))
    return texts.cast(arrow_type)


def _fitting(texts: Any, arrow_type: Any) -> Any:
    """The texts, if each is a value of the decimal type. Arrow's cast gives others for some that have too many digits.

    :raises ArrowInvalid: a value has more digits before or behind the point than the type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    before, behind = arrow_type.precision - arrow_type.scale, arrow_type.scale
    room = (38 if arrow_type.bit_width == 128 else 76) - behind
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) <= room:  # then there is no overflow that Arrow would not see
        return texts
    texts = pc.replace_substring_regex(texts, rf"(\.\d{{{behind}}})0+$", r"\1")
    fraction = rf"(\.\d{{1,{behind}}})?" if behind else ""
    whole = rf"\d{{1,{before}}}" if before else "0"
    fits = pc.match_substring_regex(texts, rf"^-?({whole}|0){fraction}$")
    if not pc.all(fits).as_py():
        wrong = texts.filter(pc.invert(fits))[0].as_py()
        raise pa.ArrowInvalid(f"got {wrong[:100]}")
    return texts


def _arrow_type(column: psycopg.Column) -> Any:
    """:raises ValueError: Arrow has none that is wide enough."""
    import pyarrow as pa

    if _is(column, "numeric"):
        precision, scale = (column.precision, column.scale or 0) if column.precision else UNDECLARED
        # PostgreSQL has scales below 0 and above the precision.
        precision, scale = max(precision, precision - scale, scale), max(scale, 0)
        if precision > 76:
            raise ValueError(
                f"Arrow's decimals have at most 76 digits, and {column.name} may have {precision}."
                f" {as_text_advice(column.name)}"
            )
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    simple = {
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "bool": pa.bool_(),
        "date": pa.date32(),
        "time": pa.time64("us"),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
        "bytea": pa.binary(),
    }
    return next((arrow_type for name, arrow_type in simple.items() if _is(column, name)), pa.string())


def _is(column: psycopg.Column, type_name: str) -> bool:
    # By number: psycopg gives an array the name of its elements' type.
    return bool(column.type_code == psycopg.adapters.types[type_name].oid)


def _in_utc(query: sql.Composed, columns: Sequence[psycopg.Column]) -> sql.Composed:
    """The query with each timestamptz as the timestamp that it is in UTC. Arrow does not know all offsets."""
    if not any(_is(column, "timestamptz") for column in columns):
        return query
    names = [sql.Identifier(f"c{number}") for number in range(len(columns))]
    selected = [
        sql.SQL("{} AT TIME ZONE 'UTC'" if _is(column, "timestamptz") else "{}").format(name)
        for name, column in zip(names, columns, strict=True)
    ]
    comma = sql.SQL(", ")
    return sql.SQL("SELECT {} FROM ({}) AS rows ({})").format(comma.join(selected), query, comma.join(names))
