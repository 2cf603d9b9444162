"""Let PostgreSQL compute the partial aggregates of a range."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import psycopg
from psycopg import sql

from burla_provider.database.quoting import as_text
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.aggregates import Aggregate
from burla_provider.worker.processors.processor import RangeResult
from burla_provider.worker.source import Source


@dataclass(frozen=True)
class SqlTotals:
    """Returns, for each aggregate, the list of its partial values over the range."""

    aggregates: tuple[Aggregate, ...]
    _prepared: list[tuple[sql.SQL, dict[str, int]]] = field(default_factory=list, init=False, repr=False, compare=False)

    writes: ClassVar[bool] = False

    def __call__(self, connection: psycopg.Connection[Any], source: Source, key_range: KeyRange) -> RangeResult:
        """Return the partial values, and how many rows the range has."""
        if not self._prepared:
            counts = {aggregate.name: len(aggregate.partials()) for aggregate in self.aggregates}
            self._prepared.append((as_text(sql.SQL(", ").join(self.columns)), counts))
        select_list, counts = self._prepared[0]
        [(row_count, *values)] = connection.execute(source.select(select_list, key_range)).fetchall()
        remaining = iter(values)
        value = {name: [next(remaining) for _ in range(count)] for name, count in counts.items()}
        return RangeResult(value, row_count)

    @property
    def columns(self) -> list[sql.Composable]:
        """The columns to select: the number of rows, and the partial values."""
        return [sql.SQL("count(*)"), *(part for aggregate in self.aggregates for part in aggregate.partials())]
