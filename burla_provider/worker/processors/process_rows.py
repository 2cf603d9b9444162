"""Call a user's function with an iterator over the rows of the range."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg

from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.page_blocks import find_pages
from burla_provider.worker.processors.processor import RangeResult, check_value
from burla_provider.worker.rows import ROW_FORMATS, read_batches
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class ProcessRows:
    """``function(rows) -> dict``; the rows taken from the iterator ``rows`` are the range's row count.

    :param function: the user's function.
    :param row_format: type of the rows, see ``ROW_FORMATS``.
    :param batch_format: type of the batches, see ``BATCH_FORMATS``; None: the function gets single rows.
    :param batch_size: rows per batch; None: about 2 MB.
    """

    function: Callable[[Iterator[Any]], dict[str, Any]]
    row_format: str = "tuple"
    batch_format: str | None = None
    batch_size: int | None = None

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return what the function returned, and how many rows it took."""
        query = source.select(source.column_list, key_range)
        rows = (
            ROW_FORMATS[self.row_format](connection, query)
            if self.batch_format is None
            else read_batches(connection, query, self.batch_format, self.batch_size, find_pages(source, key_range))
        )
        with rows as iterator:
            try:
                value = self.function(iterator)
            except (TypeError, AttributeError, ValueError, KeyError) as error:
                if note := self._note(str(error), type(iterator).__name__):
                    error.add_note(note)
                raise
        result = check_value(value, key_range)
        if result.get("row_count", rows.count) != rows.count:
            raise UserFunctionError(
                f"For {key_range}, the function returned row_count={result['row_count']!r}, but it took {rows.count:,}"
                " rows. Use another name: the provider sets row_count."
            )
        return RangeResult(result, rows.count)

    def _note(self, text: str, iterator_type: str) -> str | None:
        """Return a hint if a typical mistake caused the error."""
        if re.search(rf"'(\w+\.)?{iterator_type}'|values to unpack", text):
            noun, plural = ("row", "rows") if self.batch_format is None else ("batch", "batches")
            return (
                f"The function is called once per range, with an iterator over its {plural}: write for {noun} in"
                f" {plural}."
            )
        if self.batch_format is not None:
            return None
        if self.row_format == "tuple" and re.search(
            r"^tuple indices must be integers|^'tuple' object has no attr", text
        ):
            return 'Rows are tuples, in the order of the columns: give row_format="dict" to use their names.'
        if self.row_format == "dict" and re.search(r"^'dict' object has no attribute|^\d+$", text):
            return 'Rows are dicts: use row["name"].'
        return None
