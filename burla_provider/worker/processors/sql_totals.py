"""Let PostgreSQL compute the partial aggregates of a range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.processors.processor import RangeResult
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class SqlTotals:
    """Returns, for each aggregate, the list of its partial values over the range."""

    aggregates: tuple[Aggregate, ...]

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return the partial values, and how many rows the range has."""
        query = source.select(sql.SQL(", ").join(self.columns), key_range)
        [(row_count, *values)] = connection.execute(query).fetchall()
        remaining = iter(values)
        value = {aggregate.name: [next(remaining) for _ in aggregate.partials()] for aggregate in self.aggregates}
        return RangeResult(value, row_count)

    @property
    def columns(self) -> list[sql.Composable]:
        """The columns to select: the number of rows, and the partial values."""
        return [sql.SQL("count(*)"), *(part for aggregate in self.aggregates for part in aggregate.partials())]
