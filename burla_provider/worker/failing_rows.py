"""Find the rows that make a range fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.errors import is_canceled, is_transient
from burla_provider.exceptions import ConnectionLimitError, RangeTimeoutError, SnapshotLostError, UserFunctionError
from burla_provider.ranges.condition import prefix_condition
from burla_provider.ranges.key import Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.row_keys import describe_keys, read_first_and_last
from burla_provider.worker.source import Source

MAX_FAILING_KEYS = 10
"""Failing keys to report per range."""


def find_failing_keys(
    key_range: KeyRange,
    transaction: Callable[[KeyRange], AbstractContextManager[psycopg.Connection[Any]]],
    processor: Callable[[psycopg.Connection[Any], Source, KeyRange], Any],
    source: Source,
    row_key: Key,
) -> str:
    """Return the keys of the failing rows: "id = 17; id = 23".

    :param processor: processes a part of the range.
    :param transaction: opens a transaction for a part of the range, and rolls it back at the end.
    :param row_key: the columns that identify a row, if the range's own key does not; no columns: unknown.
    """

    def fails(part: KeyRange) -> bool:
        try:
            with transaction(part) as connection:
                processor(connection, source, part)
        except BaseException as error:
            if not is_caused_by_rows(error):
                raise
            return True
        return False

    def split(part: KeyRange) -> tuple[KeyRange, KeyRange] | None:
        with transaction(part) as connection:
            return halve(connection, source, part)

    def describe(part: KeyRange) -> str:
        with transaction(part) as connection:
            return describe_rows(connection, source, part, row_key)

    return "; ".join(describe(part) for part in find_failing_parts(key_range, fails, split))


def is_caused_by_rows(error: BaseException) -> bool:
    """Return whether the contents of rows may have caused the error."""
    return is_specific_to_range(error) and not is_canceled(error) and not isinstance(error, RangeTimeoutError)


def is_specific_to_range(error: BaseException) -> bool:
    """Return whether the range's rows, or their number, may have caused the error."""
    other_causes = UserFunctionError | SnapshotLostError | ConnectionLimitError
    return (
        isinstance(error, Exception | RangeTimeoutError)
        and not isinstance(error, other_causes)
        and not is_transient(error)
    )


def find_failing_parts(
    key_range: KeyRange,
    fails: Callable[[KeyRange], bool],
    split: Callable[[KeyRange], tuple[KeyRange, KeyRange] | None],
) -> list[KeyRange]:
    """Return the smallest parts of a failing range that fail, in key order, at most ``MAX_FAILING_KEYS``.

    :param fails: processes a part and returns whether it failed.
    :param split: splits a part in two; returns None if it has only one key.
    """
    pending, found = [key_range], list[KeyRange]()
    while pending and len(found) < MAX_FAILING_KEYS:
        part = pending.pop()
        halves = split(part)
        failing = [half for half in halves if fails(half)] if halves else []
        if failing:
            pending.extend(reversed(failing))
        else:  # one key, or rows that fail only together
            found.append(part)
    return found


def halve(connection: psycopg.Connection[Any], source: Source, part: KeyRange) -> tuple[KeyRange, KeyRange] | None:
    """Return two parts with about the same number of rows; None if all rows have the same key, or no key."""
    if part.nulls or not part.key.columns:
        return None
    [(rows,)] = connection.execute(source.select(sql.SQL("count(*)"), part)).fetchall()
    first = _key_at(connection, source, part, 0)
    middle = _key_at(connection, source, part, rows // 2)
    if first is not None and middle == first:  # many rows with this key: split after them
        middle = _key_at(connection, source, part, 0, after=first)
    if middle is None:
        return None
    return replace(part, upper=middle), replace(part, lower=middle)


def describe_rows(connection: psycopg.Connection[Any], source: Source, part: KeyRange, row_key: Key) -> str:
    """Return the condition that selects the part's rows: "id = 17"."""
    if part.nulls or not part.key.columns:
        return str(part)
    if row_key.columns and (ends := read_first_and_last(connection, source, part, row_key)):
        keys = describe_keys(row_key, *ends)
        return keys if ends[0] == ends[1] else f"{part} with {keys}"
    first = _key_at(connection, source, part, 0)
    if first is None or halve(connection, source, part) is not None:
        return str(part)
    return describe_keys(part.key, first, first)


def _key_at(
    connection: psycopg.Connection[Any],
    source: Source,
    part: KeyRange,
    offset: int,
    after: tuple[str, ...] | None = None,
) -> tuple[str, ...] | None:
    columns = [sql.Identifier(name) for name in part.key.names]
    # Not named as the column: ORDER BY would sort by the text.
    texts = sql.SQL(", ").join(
        sql.SQL("{}::text AS {}").format(column, sql.Identifier(f"text {position}"))
        for position, column in enumerate(columns)
    )
    order = sql.SQL(", ").join(columns)
    condition: sql.Composable = sql.SQL("")
    if after is not None:
        not_before = replace(part, lower=after, upper=None).key_condition
        same = prefix_condition(part.key, after)
        condition = sql.SQL("AND ({}) AND NOT ({})").format(not_before, same)
    query = sql.SQL("{} {} ORDER BY {} OFFSET {} LIMIT 1").format(
        source.select(texts, part), condition, order, sql.Literal(offset)
    )
    row = connection.execute(query).fetchone()
    return None if row is None else tuple(row)
