"""Read whole pages in blocks: the server packs the values of a column of some pages into one value.

The result has a row per block instead of one per row of the table. For narrow rows, the server and the worker together
need half of the processor time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.arrow_columns import ArrowColumn, BytesColumn, Packed, TextColumn, select_values
from burla_provider.worker.source import Source
from burla_provider.worker.stream import CHUNK_ROWS, Shape, stream_binary

_PAGES_PER_BLOCK = 32
"""256 kB of the table. The block of a table without TOAST data is not much larger."""

_MIN_ROWS_PER_PAGE = 20
"""Longer texts take the server more time in blocks than the worker saves."""

_NO_PAGE = 2**32 - 1
"""The number behind that of the last possible page."""

_PAGE_NODES = {"Nested Loop", "Memoize", "Function Scan", "Aggregate", "Subquery Scan", "Tid Range Scan", "Result"}
"""What the server's plan consists of if it reads only pages."""

_FACTS = """
    SELECT relkind IN ('r', 'm') AND NOT relhassubclass,
           pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint,
           -- From version 18 on, NOT NULL can be NOT VALID.
           ARRAY(SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attnotnull
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint
                                  WHERE conrelid = c.oid AND contype = 'n' AND NOT convalidated)),
           CASE WHEN reltuples > 0 THEN reltuples >= relpages * %s ELSE true END,
           -- The estimated cost of the query is high, but compiling it takes longer than it runs.
           pg_catalog.set_config('jit', 'off', true)
      FROM pg_catalog.pg_class AS c WHERE oid = %s::text::pg_catalog.regclass
"""

_QUERY = """
    SELECT block.* FROM pg_catalog.generate_series({first}::bigint, {last}::bigint, {step}) AS burla_blocks (page),
    LATERAL (SELECT pg_catalog.int8send(pg_catalog.count(*)), {aggregates}
             FROM ({rows}{fence}) AS rows ({names})) AS block
"""

_ON_PAGES = """
    ctid >= pg_catalog.concat('(', {first}, ',0)')::pg_catalog.tid
    AND ctid < pg_catalog.concat('(', {end}, ',0)')::pg_catalog.tid
"""

_NEXT_BLOCK = "CASE WHEN burla_blocks.page + {step} <= {last} THEN burla_blocks.page + {step} ELSE {end} END"


@dataclass(frozen=True)
class Pages:
    """The pages of a range.

    :param relation: the table, or the partition, that they are in.
    :param bounds: the first page, and the one after the last; None: to the last page of the table.
    :param select: returns a query of the rows of the pages that meet a condition.
    :param is_leaf: whether only the table itself is read, not the tables that inherit from it.
    :param has_expressions: whether columns are expressions instead of columns of the table.
    """

    relation: sql.Identifier
    bounds: tuple[int, int | None]
    select: Callable[[sql.Composable], sql.Composed]
    is_leaf: bool
    has_expressions: bool


def find_pages(source: Source, key_range: KeyRange) -> Pages | None:
    """Return the pages of a range; None if it does not consist of whole pages of one table."""
    bounds = key_range.page_bounds
    if bounds is None or (source.partitioned and not key_range.relation):
        return None
    return Pages(
        sql.Identifier(*key_range.relation) if key_range.relation else source.relation,
        bounds,
        lambda condition: source.select(source.column_list, key_range, condition),
        key_range.relation is not None,
        not isinstance(source.columns, tuple),
    )


def read_blocks(
    connection: psycopg.Connection[Any], pages: Pages, shape: Shape, columns: Sequence[ArrowColumn]
) -> Generator[tuple[list[Packed], int], None, None] | None:
    """Return the values of each block, and its number of rows.

    None: values may be large or need a conversion, or an index is better than the pages.
    """
    if shape.chunk_rows != CHUNK_ROWS or not _has_same_text(connection, columns):
        return None
    relation = pages.relation.as_string(connection)
    row = connection.execute(_FACTS, [_MIN_ROWS_PER_PAGE, relation]).fetchone()
    if row is None or not (row[0] or pages.is_leaf) or (shape.wide and not row[3]):
        return None
    columns = _with_text(shape, columns)
    not_null = set() if pages.has_expressions else set(row[2])
    parts = [column.aggregates(column.name not in not_null) for column in columns]
    first, end = pages.bounds
    packed = _pack(pages, row[1], columns, parts)
    unpacked = pages.select(sql.SQL(_ON_PAGES).format(first=first, end=_NO_PAGE if end is None else end))
    if not _read_only_pages(connection, unpacked, packed):
        return None
    return _unpack(connection, packed, columns, list(map(len, parts)))


def _has_same_text(connection: psycopg.Connection[Any], columns: Sequence[ArrowColumn]) -> bool:
    encodings = (connection.info.parameter_status("server_encoding"), connection.info.encoding)
    return encodings == ("UTF8", "utf-8") or not any(isinstance(column, BytesColumn) for column in columns)


def _with_text(shape: Shape, columns: Sequence[ArrowColumn]) -> list[ArrowColumn]:
    """Return the columns, with conversions to text of the types that are only sent as text."""
    as_they_are = {psycopg.adapters.types[name].oid for name in ("text", "varchar", "bytea")}
    return [
        TextColumn(column.name, column.arrow_type, column.encoding)
        if isinstance(column, BytesColumn) and found.type_code not in as_they_are
        else column
        for column, found in zip(columns, shape.columns, strict=True)
    ]


def _read_only_pages(connection: psycopg.Connection[Any], *queries: sql.Composed) -> bool:
    """Return whether the server reads nothing but the pages of the range, each once.

    It may prefer an index to them; and it does not know how few pages a block has, and may read an index, or another
    table, for each block.
    """
    return all(_node_types(_explain(connection, query)) <= _PAGE_NODES for query in queries)


def _explain(connection: psycopg.Connection[Any], query: sql.Composed) -> dict[str, Any]:
    [([explained],)] = connection.execute(sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)).fetchall()
    plan: dict[str, Any] = explained["Plan"]
    return plan


def _node_types(plan: dict[str, Any]) -> set[str]:
    return {plan["Node Type"]}.union(*map(_node_types, plan.get("Plans", ())))


def _pack(
    pages: Pages, page_count: int, columns: Sequence[ArrowColumn], parts: Sequence[Sequence[str]]
) -> sql.Composed:
    """Return the query of the blocks.

    :param page_count: of the table. Without a snapshot, rows may have moved to later pages since it was read.
    :param parts: aggregates of each column.
    """
    first, end = pages.bounds
    last = (page_count if end is None else end) - 1
    names = [sql.Identifier(f"c{number}") for number in range(len(columns))]
    aggregates = [sql.SQL(text).format(name) for texts, name in zip(parts, names, strict=True) for text in texts]
    next_block = sql.SQL(_NEXT_BLOCK).format(step=_PAGES_PER_BLOCK, last=last, end=_NO_PAGE if end is None else end)
    on_pages = sql.SQL(_ON_PAGES).format(first=sql.Identifier("burla_blocks", "page"), end=next_block)
    is_computed = pages.has_expressions or any(isinstance(column, TextColumn) for column in columns)
    return sql.SQL(_QUERY).format(
        first=first,
        last=max(first, last),
        step=_PAGES_PER_BLOCK,
        aggregates=sql.SQL(", ").join(aggregates),
        rows=select_values(pages.select(on_pages), columns),
        # Otherwise the server computes a value once per aggregate.
        fence=sql.SQL(" OFFSET 0" if is_computed else ""),
        names=sql.SQL(", ").join(names),
    )


def _unpack(
    connection: psycopg.Connection[Any], query: sql.Composed, columns: Sequence[ArrowColumn], widths: Sequence[int]
) -> Generator[tuple[list[Packed], int], None, None]:
    """Yield what the query returns.

    :param widths: number of results per column.
    """
    with closing(stream_binary(connection, query, Shape((), (), 1))) as blocks:
        for [(count, *results)] in blocks:
            rows = int.from_bytes(count or b"", "big")
            if rows:
                left = iter(results)
                taken = [list(islice(left, width)) for width in widths]
                yield [column.unpack(values, rows) for column, values in zip(columns, taken, strict=True)], rows
