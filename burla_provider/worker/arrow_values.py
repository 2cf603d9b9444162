"""Convert Arrow arrays to Python values that psycopg writes exactly, without Python code per value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from burla_provider.exceptions import ReturnedRowError

_EPOCH = datetime(1970, 1, 1)
_UTC_EPOCH = _EPOCH.replace(tzinfo=UTC)


def python_values(name: str, array: Any) -> list[Any]:
    """Return the values of an array, with None for NULL.

    :param name: name of the column, for errors.
    :raises ReturnedRowError: if a value cannot be written exactly: a nanosecond, or a year after 9999.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        if pa.types.is_run_end_encoded(array.type):
            array = pc.run_end_decode(array)
        # By text, so that 0.1 becomes 0.1, as psycopg reads a real, and not 0.10000000149011612.
        for exact in [_exact_type(array.type, float32) for float32 in (pa.string(), pa.float64())]:
            if exact != array.type:
                array = array.cast(exact)
        return _convert(array)
    except (pa.ArrowException, ValueError, OverflowError, TypeError) as error:
        raise not_exact(name, array.type, error) from error


def _convert(array: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_timestamp(array.type):  # to_pylist takes ten times as long
        epoch = _UTC_EPOCH if array.type.tz else _EPOCH
        numbers = array.cast(pa.int64()).to_pylist()
        return [None if number is None else epoch + timedelta(0, 0, number) for number in numbers]
    if pa.types.is_decimal(array.type):  # to_pylist takes twice as long
        return [None if text is None else Decimal(text) for text in array.cast(pa.string()).to_pylist()]
    values: list[Any] = array.to_pylist()
    return values


def not_exact(name: str, kind: Any, error: Exception) -> ReturnedRowError:
    """Return the error of a column with a value that cannot be written exactly.

    :param kind: type of the column.
    """
    return ReturnedRowError(
        f"map_batch returned a column {name} of type {kind} with a value that cannot be written exactly: {error}. Round"
        " times to microseconds, and convert other values to numbers or text."
    )


def _exact_type(kind: Any, float32: Any) -> Any:
    """Return the type whose values are Python's own objects, and equal to those of this type.

    :param float32: the type for 32-bit floats.
    :raises TypeError: if no conversion is known.
    """
    import pyarrow as pa

    types = pa.types
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_date64(kind):
        return pa.date32()
    if types.is_float16(kind):
        return pa.float64()
    if types.is_float32(kind):
        return float32
    if types.is_dictionary(kind):
        return _exact_type(kind.value_type, float32)
    if types.is_run_end_encoded(kind):
        return pa.run_end_encoded(kind.run_end_type, _exact_type(kind.value_type, float32))
    if types.is_map(kind):
        return pa.map_(_exact_type(kind.key_type, float32), _exact_type(kind.item_type, float32))
    if types.is_list_view(kind):  # a cast to a list would lose the items of the last one
        return pa.list_view(_exact_type(kind.value_type, float32))
    if types.is_large_list_view(kind):
        return pa.large_list_view(_exact_type(kind.value_type, float32))
    if types.is_nested(kind) and hasattr(kind, "value_type"):  # all other kinds of lists
        return pa.list_(_exact_type(kind.value_type, float32))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_exact_type(field.type, float32)) for field in kind])
    if types.is_interval(kind) or (isinstance(kind, pa.BaseExtensionType) and kind.extension_name != "arrow.uuid"):
        raise TypeError(f"{kind} is not supported")
    return kind
