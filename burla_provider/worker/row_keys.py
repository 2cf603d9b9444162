"""Name the rows of a range of physical pages by the table's key, because a person cannot use a ctid."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from burla_provider.exceptions import RangeTimeoutError
from burla_provider.ranges.key import Bound, Key
from burla_provider.ranges.key_range import KeyRange, bound_text
from burla_provider.worker.source import Source
from burla_provider.worker.time_limit import time_limit

MAX_VALUE_LENGTH = 80
"""Characters of the values of one key."""


@dataclass
class KeyFinder:
    """Finds the keys of failed ranges of pages.

    :param seconds: time for all ranges of a worker process together. If every range failed at its first row, the keys
        of all ranges would be a scan of the whole table.
    """

    seconds: float = 5.0

    def find(
        self,
        key_range: KeyRange,
        transaction: Callable[[KeyRange], AbstractContextManager[psycopg.Connection[Any]]],
        source: Source,
        row_key: Key,
    ) -> str:
        """Return a condition on the key that all rows of the range meet: "id between 3 and 9".

        Return "" if the range has no rows, or if their keys cannot be read in the time that is left.

        :param transaction: opens a transaction for the range, and rolls it back at the end.
        """
        if self.seconds <= 0:
            return ""
        # Without the condition of the job: evaluating it may be what failed.
        every_row = replace(source, where=None)
        started = time.monotonic()
        try:
            with time_limit(self.seconds), transaction(key_range) as connection:
                ends = read_first_and_last(connection, every_row, key_range, row_key)
        except (Exception, RangeTimeoutError):  # the range's own error must be reported, whatever happens here
            return ""
        finally:
            self.seconds -= time.monotonic() - started
        return describe_keys(row_key, *ends) if ends else ""


def read_first_and_last(
    connection: psycopg.Connection[Any], source: Source, part: KeyRange, row_key: Key
) -> tuple[Bound, Bound] | None:
    """Return the first and the last key of the rows of a part; None if it has no rows."""
    names = [sql.Identifier(f"key {position}") for position in range(len(row_key.columns))]
    columns = (
        sql.SQL("{} AS {}").format(sql.Identifier(column), name)
        for column, name in zip(row_key.names, names, strict=True)
    )
    # Only two keys are converted to text, after the sort.
    ends = (
        sql.SQL("(SELECT ARRAY[{}] FROM (SELECT * FROM part ORDER BY {} LIMIT 1) AS found)").format(
            sql.SQL(", ").join(sql.SQL("{}::text").format(name) for name in names),
            sql.SQL(", ").join(sql.SQL("{} {}").format(name, sql.SQL(direction)) for name in names),
        )
        for direction in ("ASC", "DESC")
    )
    # Materialized: otherwise the server may search the key's whole index for the first row that is in these pages.
    query = sql.SQL("WITH part AS MATERIALIZED ({}) SELECT {}").format(
        source.select(sql.SQL(", ").join(columns), part), sql.SQL(", ").join(ends)
    )
    [(first, last)] = connection.execute(query).fetchall()
    return None if first is None else (tuple(first), tuple(last))


def describe_keys(row_key: Key, first: Bound, last: Bound) -> str:
    """Return the condition on the key: "id = 17", "id between 3 and 9" or "(a, b) between (1, 2) and (4, 7)"."""
    if first == last:
        return " and ".join(f"{name} = {_text((value,))}" for name, value in zip(row_key.names, first, strict=True))
    template = "{} between {} and {}" if len(row_key.columns) == 1 else "({}) between ({}) and ({})"
    return template.format(row_key, _text(first), _text(last))


def _text(values: Bound) -> str:
    return bound_text(values, MAX_VALUE_LENGTH)
