"""Rows as Arrow record batches, with PostgreSQL's numeric as decimal, never as float."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import chain, islice
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from burla_provider.work.stream import stream

FIRST, MOST = 1_000, 50_000
"""Rows of the first batch, and of the largest."""

BYTES = 8_000_000
"""What a batch should not be much larger than; the rows before tell how many rows that are."""

UNDECLARED = (38, 18)
"""Precision and scale of a numeric that declares none. A value that does not fit is an error, not a rounded value."""


def record_batches(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """``pyarrow.RecordBatch`` es of the query's columns.

    Integers, floats, numeric, boolean, date, time, timestamp, timestamptz (in UTC) and bytea have Arrow's own types;
    all others are strings, PostgreSQL's text of them.

    :raises ValueError: a value that the column's Arrow type cannot hold, such as an infinite timestamp.
    """
    columns = _columns(connection, query)
    chunks = stream(connection, query, tuple_row, as_text=[column.type_code for column in columns])
    rows = chain.from_iterable(chunks)
    size = FIRST
    try:
        while some := list(islice(rows, size)):
            batch = _batch(some, columns)
            yield batch
            size = min(MOST, max(1, BYTES * batch.num_rows // max(batch.nbytes, 1)))
    finally:
        chunks.close()


def _batch(rows: Sequence[tuple[str | None, ...]], columns: Sequence[psycopg.Column]) -> Any:
    import pyarrow as pa

    arrays = [_array(values, column) for values, column in zip(zip(*rows, strict=True), columns, strict=True)]
    return pa.record_batch(arrays, names=[column.name for column in columns])


def _array(texts: Sequence[str | None], column: psycopg.Column) -> Any:
    """The column's values, which Arrow parses from their text: in C++, and exactly."""
    import pyarrow as pa

    arrow_type = _arrow_type(column)
    try:
        if arrow_type == pa.binary():
            return pa.array([None if text is None else bytes.fromhex(text[2:]) for text in texts], arrow_type)
        if arrow_type == pa.bool_():
            return pa.array([None if text is None else text == "t" for text in texts], arrow_type)
        return pa.array(texts, pa.string()).cast(arrow_type)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Arrow's {arrow_type} cannot hold a value of {column.name}: {error}. Leave the column out, or use"
            ' row_format "tuple" or "dict".'
        ) from None


def _arrow_type(column: psycopg.Column) -> Any:
    import pyarrow as pa

    info = psycopg.adapters.types.get(column.type_code)
    name = info.name if info else ""
    if name == "numeric":
        precision, scale = (column.precision, column.scale or 0) if column.precision else UNDECLARED
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
    return simple.get(name, pa.string())


def _columns(connection: psycopg.Connection[Any], query: sql.Composed) -> list[psycopg.Column]:
    empty = sql.SQL("SELECT * FROM ({}) AS rows LIMIT 0").format(query)
    return connection.execute(empty).description or []
