"""The whole job as one query, and what else a query of the user's may read."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg import sql

from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.task.sql_text import words
from burla_provider.worker.processors import RangeProcessor, SqlTotals
from burla_provider.worker.source import Source


def whole_query(source: Source, processor: RangeProcessor, key: Key) -> sql.Composable:
    """Return the whole job as one query that also reads the columns of the key."""
    names = [sql.Identifier(name) for name in key.names]
    if isinstance(processor, SqlTotals):
        columns = [*processor.columns, *(sql.SQL("count({})").format(name) for name in names)]
    else:
        columns = [source.column_list, *names]
    return source.select(sql.SQL(", ").join(columns), KeyRange(Key(), 0))


def may_read_other_tables(source: Source, totals: Mapping[str, str] | None) -> bool:
    """Return whether the user's SQL may contain a subquery."""
    expressions = source.columns.values() if isinstance(source.columns, Mapping) else ()
    texts = [source.where or "", *expressions, *(totals or {}).values()]
    return any(not words(text).isdisjoint({"select", "table"}) for text in texts)
