"""Convert rows to Arrow record batches; numeric becomes decimal, never float."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row
from psycopg.types.string import TextLoader

from burla_provider.worker.stream import as_text_advice, describe_columns, may_be_large, stream

FIRST_BATCH_ROWS, MAX_BATCH_ROWS = 1_000, 50_000
"""Approximate number of rows of the first batch, and of the largest batch."""

_MAX_BATCH_BYTES = 8_000_000
"""Approximate maximum size of a batch with more than one row."""

_DEFAULT_NUMERIC = (38, 18)
"""Precision and scale of a numeric without declared ones. A value that does not fit is an error; none is rounded."""


def record_batches(connection: psycopg.Connection[Any], query: sql.Composed) -> Generator[Any, None, None]:
    """Yield the rows of a query as ``pyarrow.RecordBatch`` objects.

    Integers, floats, numeric, boolean, date, time, timestamp, timestamptz (in UTC) and bytea get Arrow's types. Other
    types, including arrays, become strings: the text that PostgreSQL prints.

    :raises ValueError: if the column's Arrow type cannot hold a value, such as an infinite timestamp.
    """
    columns = describe_columns(connection, query)
    types = [_arrow_type(column) for column in columns]  # before the first row, because a type may be refused

    def load_text(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
        for oid in {column.type_code for column in columns if not _is(column, "bytea")}:
            cursor.adapters.register_loader(oid, TextLoader)
        # timestamptz columns are selected as timestamps in UTC
        cursor.adapters.register_loader("timestamp", TextLoader)

    chunks = stream(connection, _in_utc(query, columns), tuple_row, load_text)
    wide = [number for number, column in enumerate(columns) if may_be_large(column)]
    rows: list[tuple[Any, ...]] = []
    size, limit = 0, FIRST_BATCH_ROWS
    try:
        for chunk in chunks:
            more = _size(chunk, wide)
            if rows and size + more > _MAX_BATCH_BYTES:
                batch = _batch(rows, columns, types)
                rows, size = [], 0
                yield batch
            rows += chunk
            size += more
            if len(rows) >= limit:
                batch = _batch(rows, columns, types)
                limit = min(MAX_BATCH_ROWS, max(1, _MAX_BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
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

    arrays = [_array(*column) for column in zip(zip(*rows, strict=True), columns, types, strict=True)]
    return pa.record_batch(arrays, names=[column.name for column in columns])


def _array(values: Sequence[Any], column: psycopg.Column, arrow_type: Any) -> Any:
    """Return the column's values, which Arrow parses from text in C++."""
    import pyarrow as pa

    try:
        if arrow_type in (pa.binary(), pa.string()):
            return pa.array(values, arrow_type)
        if arrow_type == pa.bool_():
            return pa.array([None if text is None else text == "t" for text in values], arrow_type)
        return _parse(pa.array(values, pa.string()), arrow_type)
    except pa.ArrowInvalid as error:
        raise ValueError(
            f"Arrow's {arrow_type} cannot hold a value of {column.name}: {error}. {as_text_advice(column.name)}"
        ) from None


def _parse(texts: Any, arrow_type: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_decimal(arrow_type):
        texts = _check_digits(texts, arrow_type)
    elif pa.types.is_time(arrow_type):  # Arrow parses timestamps only
        return pc.binary_join_element_wise("1970-01-01", texts, " ").cast(pa.timestamp("us")).cast(arrow_type)
    elif pa.types.is_timestamp(arrow_type):
        texts = texts.cast(pa.timestamp("us"))
    return texts.cast(arrow_type)


def _check_digits(texts: Any, arrow_type: Any) -> Any:
    """Return the texts if each fits the decimal type: Arrow's cast returns wrong values for some with too many digits.

    :raises ArrowInvalid: if a value has more digits before or after the decimal point than the type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    whole_digits, scale = arrow_type.precision - arrow_type.scale, arrow_type.scale
    safe_length = (38 if arrow_type.bit_width == 128 else 76) - scale
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) <= safe_length:  # Arrow detects every overflow
        return texts
    texts = pc.replace_substring_regex(texts, rf"(\.\d{{{scale}}})0+$", r"\1")
    fraction = rf"(\.\d{{1,{scale}}})?" if scale else ""
    whole = rf"\d{{1,{whole_digits}}}" if whole_digits else "0"
    fits = pc.match_substring_regex(texts, rf"^-?({whole}|0){fraction}$")
    if not pc.all(fits).as_py():
        wrong = texts.filter(pc.invert(fits))[0].as_py()
        raise pa.ArrowInvalid(f"got {wrong[:100]}")
    return texts


def _arrow_type(column: psycopg.Column) -> Any:
    """Return the column's Arrow type.

    :raises ValueError: if no Arrow type is wide enough.
    """
    import pyarrow as pa

    if _is(column, "numeric"):
        precision, scale = (column.precision, column.scale or 0) if column.precision else _DEFAULT_NUMERIC
        # PostgreSQL allows a scale below 0 and above the precision.
        precision, scale = max(precision, precision - scale, scale), max(scale, 0)
        if precision > 76:
            raise ValueError(
                f"Arrow's decimals have at most 76 digits, and {column.name} may have {precision}."
                f" {as_text_advice(column.name)}"
            )
        return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    arrow_types = {
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
    return next((arrow_type for name, arrow_type in arrow_types.items() if _is(column, name)), pa.string())


def _is(column: psycopg.Column, type_name: str) -> bool:
    # By OID, because psycopg gives an array the name of its element type.
    return bool(column.type_code == psycopg.adapters.types[type_name].oid)


def _in_utc(query: sql.Composed, columns: Sequence[psycopg.Column]) -> sql.Composed:
    """Return the query with each timestamptz as a timestamp in UTC, because Arrow does not parse all offsets."""
    if not any(_is(column, "timestamptz") for column in columns):
        return query
    names = [sql.Identifier(f"c{number}") for number in range(len(columns))]
    selected = [
        sql.SQL("{} AT TIME ZONE 'UTC'" if _is(column, "timestamptz") else "{}").format(name)
        for name, column in zip(names, columns, strict=True)
    ]
    comma = sql.SQL(", ")
    return sql.SQL("SELECT {} FROM ({}) AS rows ({})").format(comma.join(selected), query, comma.join(names))
