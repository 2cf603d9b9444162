"""The protocol of batch formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol


class BatchFormat(Protocol):
    """Converts batches from and to Arrow. A package is imported when it is needed, because workers may not have it."""

    packages: ClassVar[tuple[str, ...]]
    """What workers must install."""
    types: ClassVar[frozenset[tuple[str, str]]]
    """Package and name of the classes of batches."""

    def from_arrow(self, batch: Any) -> Any:
        """Return a ``pyarrow.RecordBatch`` as a batch of this format.

        :raises ValueError: if the format cannot hold the values of a column exactly.
        """
        ...

    def names(self, batch: Any) -> Sequence[Any]:
        """Return the names of the columns."""
        ...

    def values(self, batch: Any, name: str) -> list[Any]:
        """Return the values of a column as Python objects, with None for NULL.

        :raises ReturnedRowError: if a value cannot be written exactly.
        """
        ...

    def is_reordered(self, batch: Any) -> bool:
        """Return whether a batch has the rows of ``from_arrow`` in another order, as far as the batch shows it."""
        ...
