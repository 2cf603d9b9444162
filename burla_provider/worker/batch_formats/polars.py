"""Batches are Polars data frames, which share the memory of Arrow arrays where the types allow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from burla_provider.worker.arrow_values import not_exact, python_values
from burla_provider.worker.stream import as_text_advice


class PolarsFormat:
    """``polars.DataFrame``."""

    packages: ClassVar[tuple[str, ...]] = ("polars", "pyarrow")
    types: ClassVar[frozenset[tuple[str, str]]] = frozenset({("polars", "DataFrame")})

    def from_arrow(self, batch: Any) -> Any:
        """Return a data frame with the types of the batch.

        :raises ValueError: if a column may have decimals of more than 38 digits.
        """
        import polars
        import pyarrow as pa

        for field in batch.schema:
            if pa.types.is_decimal256(field.type):
                raise ValueError(
                    f"Polars' decimals have at most 38 digits, and {field.name} may have {field.type.precision}."
                    f" {as_text_advice(field.name)}"
                )
        return polars.from_arrow(batch)

    def names(self, batch: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        names: Sequence[Any] = batch.columns
        return names

    def values(self, batch: Any, name: str) -> list[Any]:
        """Return the values of a column.

        :raises ReturnedRowError: if a value cannot be written exactly.
        """
        import polars

        series = batch.get_column(name)
        if series.dtype in (polars.Object, polars.Int128):  # Arrow has no such types
            values: list[Any] = series.to_list()
            return values
        try:
            array = series.to_arrow()
        except Exception as error:
            raise not_exact(name, series.dtype, error) from error
        return python_values(name, array)

    def is_reordered(self, batch: Any) -> bool:
        """Return False: a batch does not show it."""
        return False
