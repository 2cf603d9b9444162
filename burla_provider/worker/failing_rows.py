"""From a range that fails to the rows that make it fail."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.database.errors import ConnectionLimitError, SnapshotLostError, is_canceled, is_transient
from burla_provider.ranges.condition import prefix_condition
from burla_provider.ranges.key_range import KeyRange
from burla_provider.worker.errors import UserFunctionError
from burla_provider.worker.processors import RangeProcessor
from burla_provider.worker.source import Source

FOUND = 10
"""Failing keys to look for; where everything fails, ten say so as well as a million."""


def failing_keys(
    whole: KeyRange,
    transaction: Callable[[KeyRange], AbstractContextManager[psycopg.Connection[Any]]],
    kind: RangeProcessor,
    source: Source,
) -> str:
    """What a person can look the failing rows up by: "id = 17; id = 23".

    :param transaction: opens one for a part of the range, and undoes all that is done in it.
    """

    def fails(part: KeyRange) -> bool:
        try:
            with transaction(part) as connection:
                kind(connection, source, part)
        except BaseException as error:
            if not is_of_rows(error):
                raise
            return True
        return False

    def halved(part: KeyRange) -> tuple[KeyRange, KeyRange] | None:
        with transaction(part) as connection:
            return halve(connection, source, part)

    def key(part: KeyRange) -> str:
        with transaction(part) as connection:
            return key_of(connection, source, part)

    return "; ".join(key(part) for part in failing_parts(whole, fails, halved))


def is_of_rows(error: BaseException) -> bool:
    """Whether an error may come from what is in the rows, rather than from the function's form or from outside."""
    outside = UserFunctionError | SnapshotLostError | ConnectionLimitError
    return (
        isinstance(error, Exception)
        and not isinstance(error, outside)
        and not is_transient(error)
        and not is_canceled(error)
    )


def failing_parts(
    whole: KeyRange,
    fails: Callable[[KeyRange], bool],
    halve: Callable[[KeyRange], tuple[KeyRange, KeyRange] | None],
) -> list[KeyRange]:
    """The smallest parts of a failing range that fail by themselves, at most ``FOUND``, in the order of the key.

    :param fails: works a part, and undoes it.
    :param halve: a part in two; None when it holds one key only.
    """
    pending, found = [whole], list[KeyRange]()
    while pending and len(found) < FOUND:
        part = pending.pop()
        halves = halve(part)
        bad = [half for half in halves if fails(half)] if halves else []
        if bad:
            pending.extend(reversed(bad))
        else:  # one key, or rows that fail only together
            found.append(part)
    return found


def halve(connection: psycopg.Connection[Any], source: Source, part: KeyRange) -> tuple[KeyRange, KeyRange] | None:
    """The part as two parts of about as many rows; None when all its rows have one key, or none."""
    if part.nulls or not part.key.columns:
        return None
    [(rows,)] = connection.execute(source.select(sql.SQL("count(*)"), part)).fetchall()
    first = _key_at(connection, source, part, 0)
    middle = _key_at(connection, source, part, rows // 2)
    if first is not None and middle == first:  # many rows of one key: cut behind them
        middle = _key_at(connection, source, part, 0, behind=first)
    if middle is None:
        return None
    return replace(part, upper=middle), replace(part, lower=middle)


def key_of(connection: psycopg.Connection[Any], source: Source, part: KeyRange) -> str:
    """What a person can look the part's rows up by: "id = 17"."""
    if part.nulls or not part.key.columns:
        return str(part)
    first = _key_at(connection, source, part, 0)
    if first is None or halve(connection, source, part) is not None:
        return str(part)
    return " and ".join(f"{name} = {value}" for name, value in zip(part.key.names, first, strict=True))


def _key_at(
    connection: psycopg.Connection[Any],
    source: Source,
    part: KeyRange,
    offset: int,
    behind: tuple[str, ...] | None = None,
) -> tuple[str, ...] | None:
    columns = [sql.Identifier(name) for name in part.key.names]
    # Named otherwise than the column, or ORDER BY would mean the text.
    texts = sql.SQL(", ").join(
        sql.SQL("{}::text AS {}").format(column, sql.Identifier(f"text {place}"))
        for place, column in enumerate(columns)
    )
    order = sql.SQL(", ").join(columns)
    condition: sql.Composable = sql.SQL("")
    if behind is not None:
        not_the_first = replace(part, lower=behind, upper=None).key_condition
        same = prefix_condition(part.key, behind)
        condition = sql.SQL("AND ({}) AND NOT ({})").format(not_the_first, same)
    query = sql.SQL("{} {} ORDER BY {} OFFSET {} LIMIT 1").format(
        source.select(texts, part), condition, order, sql.Literal(offset)
    )
    row = connection.execute(query).fetchone()
    return None if row is None else tuple(row)
