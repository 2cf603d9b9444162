"""Rows as Arrow record batches, with PostgreSQL's numeric as decimal, never as float."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import psycopg
from psycopg import sql

BATCH = 20_000
"""Rows in one batch; a megabyte or two of usual rows."""

UNDECLARED = (38, 18)
"""Precision and scale of a numeric that declares none. A value that does not fit is an error, not a rounded value."""


def read_batches(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """``pyarrow.RecordBatch`` es of the query's columns.

    Integers, floats, numeric, boolean, date, time, timestamp and timestamptz (in UTC) have Arrow's own types; all
    others are strings, PostgreSQL's text of them.

    :raises ValueError: a value that the column's Arrow type cannot hold, such as an infinite timestamp.
    """
    types = _arrow_types(connection, query)
    lines: list[bytes] = []
    # CSV, because Arrow parses it in C++, exactly; and psycopg hands over one row of it at a time.
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)
    with connection.cursor() as cursor, cursor.copy(copy) as rows:
        for row in rows:
            lines.append(bytes(row))
            if len(lines) == BATCH:
                yield _batch(lines, types)
                lines = []
    if lines:
        yield _batch(lines, types)


def _batch(lines: list[bytes], types: dict[str, Any]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    text = b"".join(lines)
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=list(types), use_threads=False, block_size=len(text)),
            # A row of one NULL is an empty line.
            csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types=types,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(
            f'Arrow cannot hold a value: {error}. Leave the column out, or use row_format "tuple" or "dict".'
        ) from None
    (batch,) = table.combine_chunks().to_batches()
    if batch.num_rows != len(lines):
        raise ValueError(f"Arrow read {batch.num_rows} rows where PostgreSQL sent {len(lines)}.")
    return batch


def _arrow_types(connection: psycopg.Connection[Any], query: sql.Composed) -> dict[str, Any]:
    empty = sql.SQL("SELECT * FROM ({}) AS rows LIMIT 0").format(query)
    description = connection.execute(empty).description or []
    return {column.name: _arrow_type(column) for column in description}


def _arrow_type(column: psycopg.Column) -> Any:
    import pyarrow as pa

    if column.type_display.startswith("numeric"):
        precision, scale = (column.precision, column.scale) if column.precision else UNDECLARED
        decimal = pa.decimal128 if precision <= 38 else pa.decimal256
        return decimal(precision, scale)
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
    }
    info = psycopg.adapters.types.get(column.type_code)
    return simple.get(info.name if info else "", pa.string())
