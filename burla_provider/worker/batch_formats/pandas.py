"""Batches are pandas data frames with Arrow's types, so that decimals, and integers beside NULL, stay what they are.

A function may return a data frame of any types.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

from burla_provider.worker.arrow_values import not_exact, python_values


class PandasFormat:
    """``pandas.DataFrame``. The index is used only to recognize another order."""

    packages: ClassVar[tuple[str, ...]] = ("pandas", "pyarrow")
    types: ClassVar[frozenset[tuple[str, str]]] = frozenset({("pandas", "DataFrame")})

    def from_arrow(self, batch: Any) -> Any:
        """Return a data frame of the same memory."""
        import pandas

        return batch.to_pandas(types_mapper=pandas.ArrowDtype)

    def names(self, batch: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        names: Sequence[Any] = batch.columns.tolist()
        return names

    def values(self, batch: Any, name: str) -> list[Any]:
        """Return the values of a column. NaN is a number in a NumPy column of floats, and NULL in all others.

        :raises ReturnedRowError: if a value cannot be written exactly.
        """
        return _values(name, batch[name])

    def is_reordered(self, batch: Any) -> bool:
        """Return whether the index has the numbers of the rows, in another order."""
        import numpy

        index = batch.index
        if index.dtype.kind not in "iu" or index.is_monotonic_increasing:
            return False
        return numpy.array_equal(index.sort_values(), numpy.arange(len(index)))


def _values(name: str, series: Any) -> list[Any]:
    import numpy
    import pandas
    import pyarrow as pa

    dtype = series.dtype
    if isinstance(dtype, pandas.SparseDtype):
        return _values(name, series.sparse.to_dense())
    if isinstance(dtype, pandas.CategoricalDtype):
        categories = _values(name, dtype.categories.to_series())
        return [categories[code] if code >= 0 else None for code in series.cat.codes.tolist()]
    if isinstance(dtype, numpy.dtype):
        if dtype.kind in "biu" or dtype == numpy.float64:
            values: list[Any] = series.to_numpy().tolist()
            return values
        is_arrow = dtype.kind in "fmM"
    else:
        is_arrow = isinstance(dtype, pandas.ArrowDtype | pandas.StringDtype) or dtype.kind in "biufmM"
    if not is_arrow:
        return _exact_objects(name, series.to_numpy(dtype=object, copy=True))
    try:
        is_numpy_float = isinstance(dtype, numpy.dtype) and dtype.kind == "f"
        array = pa.array(series.to_numpy(), from_pandas=False) if is_numpy_float else pa.array(series)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise not_exact(name, dtype, error) from error
    return python_values(name, array)


def _exact_objects(name: str, array: Any) -> list[Any]:
    import numpy
    import pandas

    for number in numpy.flatnonzero(pandas.isna(array)):
        if not isinstance(array[number], Decimal):  # NaN is a value of numeric
            array[number] = None
    values: list[Any] = array.tolist()
    converted = (numpy.generic, numpy.ndarray, pandas.Timestamp, pandas.Timedelta, list)
    if not any(issubclass(kind, converted) for kind in set(map(type, values))):
        return values
    try:
        return list(map(_exact_object, values))
    except ValueError as error:
        raise not_exact(name, "object", error) from error


def _exact_object(value: Any) -> Any:
    """Return a Python object that is equal to an object of NumPy or pandas.

    :raises ValueError: if Python has no equal object.
    """
    import numpy
    import pandas

    if isinstance(value, list):
        return [_exact_object(item) for item in value]
    if isinstance(value, numpy.datetime64 | numpy.timedelta64):
        value = pandas.Timestamp(value) if isinstance(value, numpy.datetime64) else pandas.Timedelta(value)
    if value is pandas.NaT:
        return None
    if isinstance(value, pandas.Timestamp | pandas.Timedelta):
        is_timestamp = isinstance(value, pandas.Timestamp)
        if value.nanosecond if is_timestamp else value.nanoseconds:
            raise ValueError(f"{value} has nanoseconds")
        return value.to_pydatetime() if is_timestamp else value.to_pytimedelta()
    if isinstance(value, numpy.ndarray):
        if value.dtype in (numpy.float16, numpy.float32):
            value = value.astype(str).astype(float)  # the shortest decimal numbers
        # NumPy's own lists of times have integers.
        return _exact_object(list(value)) if value.dtype.kind in "mMO" else value.tolist()
    if isinstance(value, numpy.float16 | numpy.float32):
        return float(str(value))
    return value.item() if isinstance(value, numpy.generic) else value
