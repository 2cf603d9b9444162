"""A user's function that gets the rows of a range, a few at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import psycopg

from burla_provider.exceptions import UserFunctionError
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.processors.processor import RangeResult, checked
from burla_provider.worker.rows import ROW_FORMATS
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class ProcessRows:
    """``function(rows) -> dict``. ``rows`` is an iterator; what it has given counts as the range's rows.

    :param row_format: "tuple" in the order of the columns, "dict", or "arrow": a ``pyarrow.RecordBatch`` of many rows.
    """

    function: Callable[[Iterator[Any]], dict[str, Any]]
    row_format: Literal["tuple", "dict", "arrow"] = "tuple"

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        query = source.select(source.column_list, key_range)
        rows = ROW_FORMATS[self.row_format](connection, query)
        with rows as taken:
            try:
                value = self.function(taken)
            except (TypeError, AttributeError, ValueError, KeyError) as error:
                if note := self._note(str(error), type(taken).__name__):
                    error.add_note(note)
                raise
        result = checked(value, key_range)
        if result.get("row_count", rows.count) != rows.count:
            raise UserFunctionError(
                f"For {key_range}, the function returned row_count={result['row_count']!r}, but it took {rows.count:,}"
                " rows. Use another name: row_count is counted."
            )
        return RangeResult(result, rows.count)

    def _note(self, text: str, rows: str) -> str | None:
        """What a typical mistake is, told by the error that it ends in."""
        if re.search(rf"'(\w+\.)?{rows}'|values to unpack", text):
            return "The function is called once per range, with an iterator over its rows: write for row in rows."
        if self.row_format == "tuple" and re.search(
            r"^tuple indices must be integers|^'tuple' object has no attr", text
        ):
            return 'Rows are tuples, in the order of the columns: give row_format="dict" to use their names.'
        if self.row_format == "dict" and re.search(r"^'dict' object has no attribute|^\d+$", text):
            return 'Rows are dicts: use row["name"].'
        return None
