"""One range of a table's key: half-open, as plain data, and as SQL."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from burla_provider.database.quoting import Identifier, Literal
from burla_provider.ranges.condition import range_condition
from burla_provider.ranges.key import INTEGER_LIMITS, Bound, Key


@dataclass(frozen=True)
class KeyRange:
    """The rows with ``lower <= key < upper``, or, with ``nulls``, those whose key is NULL.

    :param key: the columns that the bounds are of.
    :param index: the range's number within its plan, from 0.
    :param lower: inclusive; None is open-ended.
    :param upper: exclusive; None is open-ended.
    :param nulls: the rows whose (single) key column is NULL, instead of a stretch of keys.
    :param relation: schema and name of the leaf partition to read with ONLY; None: the plan's table.
    :param expected_rows: the planner's estimate.
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
        """The least integer id of the range, inclusive. An open end is the type's own limit.

        :raises TypeError: the key is not one integer column, or the range has NULL keys, or is of one partition.
        """
        return self._integer_limit(0) if self.lower is None else int(self.lower[self._integer_key()])

    @property
    def end_id(self) -> int:
        """The greatest integer id of the range, inclusive, so that ``BETWEEN start_id AND end_id`` is the range.

        :raises TypeError: as ``start_id``.
        """
        return self._integer_limit(1) if self.upper is None else int(self.upper[self._integer_key()]) - 1

    @property
    def where(self) -> sql.Composable:
        """The condition that alone selects the range's rows from the plan's table, whatever the key, NULL included.

        It contains no percent sign, so it means the same in a query with and without parameters.
        """
        if self.relation is None:
            return self.key_condition
        # The partition's constraint would select the same rows, but its text depends on the search path, and the
        # server does not prune by it for hash partitions either.
        leaf = Literal(sql.Identifier(*self.relation).as_string())
        return sql.SQL("{} AND tableoid = {}::regclass").format(self.key_condition, leaf)

    @property
    def key_condition(self) -> sql.Composable:
        """The condition on the key. It selects the range's rows from ``ONLY relation``, where the range has one."""
        if self.nulls:
            return sql.SQL("{} IS NULL").format(Identifier(self.key.names[0]))
        return range_condition(self.key, self.lower, self.upper)

    @property
    def idempotency_key(self) -> str:
        """The same text whenever this job works these bounds, however often: for effects outside the database.

        The range's number would not do: where a job is planned anew, it may be that of other rows.
        """
        bounds = json.dumps([self.relation, self.lower, self.upper, self.nulls])
        return f"{self.job_key}/{hashlib.blake2b(bounds.encode(), digest_size=8).hexdigest()}"

    def to_item(self) -> list[Any]:
        """The range without what all ranges of a plan share: JSON, and small."""
        return [self.lower, self.upper, self.nulls, self.relation, self.expected_rows]

    @classmethod
    def from_item(cls, key: Key, index: int, item: list[Any], job_key: str = "") -> KeyRange:
        """The inverse of ``to_item``; lists that were tuples before a trip through JSON become tuples again."""
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

    def __str__(self) -> str:
        if self.nulls:
            return f"range {self.index} ({self.key} IS NULL)"
        lower, upper = (_text(bound) for bound in (self.lower, self.upper))
        place = f" of {'.'.join(self.relation)}" if self.relation else ""
        return f"range {self.index} ({lower} <= {self.key} < {upper}){place}"

    def _integer_key(self) -> int:
        if self.nulls or not self.key.is_integer:
            raise TypeError(f"{self} has no integer ids: use key_range.where in the query.")
        if self.relation is not None:
            raise TypeError(f"{self} is of one partition, which ids do not select: use key_range.where in the query.")
        if self.key.nullable and self.lower is None and self.upper is None:
            raise TypeError(f"{self} has rows whose {self.key} may be NULL: use key_range.where in the query.")
        return 0

    def _integer_limit(self, end: int) -> int:
        return INTEGER_LIMITS[self.key.columns[self._integer_key()].type][end]


def _text(bound: Bound | None) -> str:
    return "..." if bound is None else ", ".join(bound)
