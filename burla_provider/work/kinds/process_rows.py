"""A user's function that gets the rows of a range, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import psycopg

from burla_provider.ranges.key_range import KeyRange
from burla_provider.work.kinds.kind import Worked, checked
from burla_provider.work.rows import ROW_FORMATS
from burla_provider.work.source import Source


@dataclass(frozen=True)
class ProcessRows:
    """``function(rows) -> dict``. ``rows`` is an iterator; what it has given counts as the range's rows.

    :param row_format: "tuple" in the order of the columns, "dict", or "arrow": a ``pyarrow.RecordBatch`` of many rows.
    """

    function: Callable[[Iterator[Any]], dict[str, Any]]
    row_format: Literal["tuple", "dict", "arrow"] = "tuple"

    may_write: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> Worked:
        query = source.select(source.column_list, key_range)
        rows = ROW_FORMATS[self.row_format](connection, query)
        with rows as taken:
            value = self.function(taken)
        return Worked(checked(value, key_range), rows.count)
