"""A range of a table's key: half-open, as plain data and as SQL."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal
from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.key import CTID, INTEGER_LIMITS, Bound, Key

_PAGE_START = re.compile(r"\((\d+),0\)")
"""The ctid before the first row of a page."""


@dataclass(frozen=True)
class KeyRange:
    """The rows with ``lower <= key < upper``, or, with ``nulls``, the rows with a NULL key.

    :param key: the columns that the bounds apply to.
    :param index: the range's number in its plan, from 0.
    :param lower: inclusive; None is open.
    :param upper: exclusive; None is open.
    :param nulls: whether the range consists of the rows whose (single) key column is NULL.
    :param relation: schema and name of the partition to read with ONLY; None: the whole table.
    :param expected_rows: the planner's estimate; None: unknown.
    :param job_key: identifies the job across its retries; part of ``idempotency_key``.
    """

    key: Key
    index: int
    lower: Bound | None = None
    upper: Bound | None = None
    nulls: bool = False
    relation: tuple[str, str] | None = None
    expected_rows: int | None = None
    job_key: str = ""

    @property
    def start_id(self) -> int:
        """The minimum integer id of the range, inclusive. An open end is the type's minimum.

        :raises TypeError: if the key is not one integer column, or the range includes NULL keys or is in one partition.
        """
        self._check_integer()
        return self._integer_limits[0] if self.lower is None else int(self.lower[0])

    @property
    def end_id(self) -> int:
        """The maximum integer id of the range, inclusive, for ``BETWEEN start_id AND end_id``.

        :raises TypeError: as ``start_id``.
        """
        self._check_integer()
        return self._integer_limits[1] if self.upper is None else int(self.upper[0]) - 1

    @property
    def where(self) -> sql.Composable:
        """The condition that alone selects the range's rows from the plan's table, for any key, NULL included.

        It does not contain the operator's ``where``. It contains no percent sign, so it means the same in a query with
        and without parameters.
        """
        if self.relation is None:
            return self.key_condition
        # The partition constraint would select the same rows, but its text depends on the search path, and the server
        # does not prune hash partitions by it.
        leaf = Literal(sql.Identifier(*self.relation).as_string())
        return sql.SQL("{} AND tableoid = {}::regclass").format(self.key_condition, leaf)

    @property
    def key_condition(self) -> sql.Composable:
        """The condition on the key. It selects the range's rows from ``ONLY relation``, if the range has a relation."""
        if self.nulls:
            return sql.SQL("{} IS NULL").format(Identifier(self.key.names[0]))
        return range_condition(self.key, self.lower, self.upper)

    @property
    def idempotency_key(self) -> str:
        """The same text each time this job processes these bounds, for effects outside the database.

        It does not use the range's number, which may belong to other rows when the job is planned again.
        """
        bounds = json.dumps([self.relation, self.lower, self.upper, self.nulls])
        return f"{self.job_key}/{hashlib.blake2b(bounds.encode(), digest_size=8).hexdigest()}"

    def to_item(self) -> list[Any]:
        """Return the range as small JSON data, without what all ranges of a plan share."""
        return [self.lower, self.upper, self.nulls, self.relation, self.expected_rows]

    @classmethod
    def from_item(cls, key: Key, index: int, item: list[Any], job_key: str = "") -> KeyRange:
        """Return the range of an item from ``to_item``. JSON turns tuples into lists; they become tuples again."""
        lower, upper, nulls, relation, expected_rows = item
        return cls(
            key=key,
            index=index,
            lower=None if lower is None else tuple(lower),
            upper=None if upper is None else tuple(upper),
            nulls=nulls,
            relation=None if relation is None else (relation[0], relation[1]),
            expected_rows=expected_rows,
            job_key=job_key,
        )

    def describe(self, max_bound_length: int | None = None) -> str:
        """Return the bounds as a text: ``1 <= id < 5`` or ``pages 0 to 255``. Longer bounds are cut off."""
        if self.nulls:
            return f"{self.key} IS NULL"
        if not self.key.columns:
            return "all rows"
        if self.page_bounds:
            return self._describe_pages(*self.page_bounds)
        lower, upper = (bound_text(bound, max_bound_length) for bound in (self.lower, self.upper))
        return f"{lower} <= {self.key} < {upper}"

    def __str__(self) -> str:
        partition = f" of {'.'.join(self.relation)}" if self.relation else ""
        return f"range {self.index} ({self.describe()}){partition}"

    @property
    def page_bounds(self) -> tuple[int, int | None] | None:
        """The first page and the page after the last one, if the range consists of whole pages. None is open."""
        first = _page_that_starts_at(self.lower) if self.lower else 0
        end = _page_that_starts_at(self.upper) if self.upper else None
        if self.key != CTID or first is None or (self.upper and end is None):
            return None
        return first, end

    def _describe_pages(self, first: int, end: int | None) -> str:
        if self.lower is None and self.upper is None:
            return "all pages"
        if end is None:
            return f"pages {first:,} to the last"
        return f"page {first:,}" if end == first + 1 else f"pages {first:,} to {end - 1:,}"

    def _check_integer(self) -> None:
        if self.nulls or not self.key.is_integer:
            raise TypeError(f"{self} has no integer ids. Use key_range.where in the query.")
        if self.relation is not None:
            raise TypeError(f"{self} is in one partition, which ids do not select. Use key_range.where in the query.")
        if self.key.nullable and self.lower is None and self.upper is None:
            raise TypeError(f"{self} has rows whose {self.key} can be NULL. Use key_range.where in the query.")

    @property
    def _integer_limits(self) -> tuple[int, int]:
        return INTEGER_LIMITS[self.key.columns[0].type]


def _page_that_starts_at(bound: Bound) -> int | None:
    """Return the number of the page that starts at this ctid; None if the ctid is inside of a page."""
    found = _PAGE_START.fullmatch(bound[0])
    return int(found[1]) if found else None


def bound_text(bound: Bound | None, max_length: int | None = None) -> str:
    """Return a bound as a text, cut off after ``max_length`` characters; "..." if it is open."""
    if bound is None:
        return "..."
    text = ", ".join(bound)
    return text if max_length is None or len(text) <= max_length else f"{text[:max_length]}..."
