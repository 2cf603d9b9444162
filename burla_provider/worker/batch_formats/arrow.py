"""Batches are Arrow record batches. A function may also return a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from burla_provider.worker.arrow_values import python_values


class ArrowFormat:
    """``pyarrow.RecordBatch``."""

    packages: ClassVar[tuple[str, ...]] = ("pyarrow",)
    types: ClassVar[frozenset[tuple[str, str]]] = frozenset({("pyarrow", "RecordBatch"), ("pyarrow", "Table")})

    def from_arrow(self, batch: Any) -> Any:
        """Return the record batch itself."""
        return batch

    def names(self, batch: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        names: Sequence[Any] = batch.schema.names
        return names

    def values(self, batch: Any, name: str) -> list[Any]:
        """Return the values of a column."""
        return python_values(name, batch.column(name))

    def is_reordered(self, batch: Any) -> bool:
        """Return False: a batch does not show it."""
        return False
