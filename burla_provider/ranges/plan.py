"""The plan: the ranges that cover a table, and the check that no row is left out or read twice.

A plan is stored as plain data (a record), so that a retry processes the same ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, pairwise
from statistics import median
from typing import Any, Protocol

from burla_provider.database.wording import quantity
from burla_provider.exceptions import PlanCoverageError
from burla_provider.ranges.catalog import TableFacts
from burla_provider.ranges.key import CTID, Bound, Key, KeyColumn
from burla_provider.ranges.key_range import KeyRange, bound_text
from burla_provider.ranges.ordinals import ordinal_codec
from burla_provider.ranges.window import Window

_SUMMARY_RANGES = 3
"""How many of the first and of the last ranges a summary shows."""

_MAX_BOUND_LENGTH = 80
"""Characters of a bound that a summary shows."""

Relation = tuple[str, str] | None
"""Schema and name of a partition that is read separately; None: the whole table."""


class Plan(Protocol):
    """The part of a plan that running a job requires. A ``RangePlan`` is new, a ``StoredPlan`` was stored."""

    @property
    def schema(self) -> str:
        """The table's schema."""

    @property
    def table(self) -> str:
        """The table's name, without the schema."""

    @property
    def key(self) -> Key:
        """The columns that the table is split by."""

    @property
    def ranges(self) -> tuple[KeyRange, ...]:
        """All ranges, in the order of their indexes."""

    def largest_first(self) -> list[KeyRange]:
        """Return the ranges in the order to start them in."""

    def as_dict(self) -> dict[str, Any]:
        """Return a summary as JSON data."""


@dataclass(frozen=True)
class RangePlan:
    """How a table is split.

    :param schema: the table's schema.
    :param table: the table's name, without the schema.
    :param key: the columns that the table is split by; no columns if it is one range.
    :param window: the keys that the ranges cover. ``freeze_upper`` sets its upper bound.
    :param relations: the whole table (None), or the partitions of the ranges, in the order of the ranges.
    :param ranges: the ranges, in the key's order within each relation; ``ranges[i].index == i``.
    :param strategy: how the cuts were found: a value of ``split``, or several, comma-separated.
    :param reason: why this strategy was chosen, a sentence.
    :param hints: what would make the job faster, sentences.
    :param queries: how many queries the planner ran.
    :param seconds: how long planning took.
    :param facts: the catalog's facts about the table.
    """

    schema: str
    table: str
    key: Key
    window: Window
    relations: tuple[Relation, ...]
    ranges: tuple[KeyRange, ...]
    strategy: str
    reason: str
    facts: TableFacts = field(repr=False)
    hints: tuple[str, ...] = ()
    queries: int = 0
    seconds: float = 0.0

    @property
    def expected_rows(self) -> int:
        """Estimated rows of all ranges. Rows with a NULL key are included as far as they are known."""
        return sum(key_range.expected_rows or 0 for key_range in self.ranges)

    @property
    def needs_snapshot(self) -> bool:
        """Whether the ranges are valid with one shared snapshot only, and for one try: they are cut by pages."""
        return self.key == CTID and any(key_range.lower or key_range.upper for key_range in self.ranges)

    def largest_first(self) -> list[KeyRange]:
        """Return the ranges in the order to start them in, so that the last one to finish is small."""
        return _largest_first(self.ranges)

    def verify_coverage(self) -> list[list[Bound]]:
        """Check that every row of the window is in exactly one range.

        In each relation, the first range must begin and the last one must end where the window does, each range must
        begin where the previous one ends, and the bounds must ascend. NULL keys must have their own range, unless a
        range that is open at both ends includes them.

        :returns: per relation, the bounds whose order only the server knows. The planner checks them.
        :raises PlanCoverageError: if a row might be left out or be in two ranges.
        """
        if [key_range.index for key_range in self.ranges] != list(range(len(self.ranges))):
            raise PlanCoverageError("The ranges are not numbered in their order.")
        groups = [(name, list(group)) for name, group in groupby(self.ranges, lambda key_range: key_range.relation)]
        expected = () if self.window.is_empty and not self.window.includes_nulls else self.relations
        if tuple(relation for relation, _ in groups) != expected:
            raise PlanCoverageError("The ranges do not belong to the relations that contain the rows.")
        bounds_per_relation = [self._verify_relation(relation, ranges) for relation, ranges in groups]
        return [bounds for bounds in bounds_per_relation if not _is_sorted(self.key, bounds)]

    def _verify_relation(self, relation: Relation, ranges: list[KeyRange]) -> list[Bound]:
        """Return all bounds of a relation's ranges, which cover the window if the bounds ascend."""
        name = "the table" if relation is None else ".".join(relation)
        key_ranges = [key_range for key_range in ranges if not key_range.nulls]
        if self.window.is_empty != (not key_ranges):
            problem = "ranges of keys, but an empty window" if key_ranges else "no range of keys"
            raise PlanCoverageError(f"{name} has {problem}.")
        if key_ranges and (key_ranges[0].lower, key_ranges[-1].upper) != (self.window.lower, self.window.upper):
            raise PlanCoverageError(f"The ranges of {name} do not begin and end where the window does.")
        if any(before.upper is None or before.upper != after.lower for before, after in pairwise(key_ranges)):
            raise PlanCoverageError(f"A range of {name} does not begin where the previous one ends.")
        is_open_range = len(key_ranges) == 1 and not self.window.is_bounded
        null_ranges = [True] * (self.window.includes_nulls and not is_open_range)
        if [key_range.nulls for key_range in ranges[len(key_ranges) :]] != null_ranges:
            raise PlanCoverageError(f"The rows of {name} whose key is NULL are not in exactly one range.")
        bounds = [key_range.lower for key_range in key_ranges] + [key_range.upper for key_range in key_ranges[-1:]]
        return [bound for bound in bounds if bound is not None]

    def as_dict(self) -> dict[str, Any]:
        """Return a summary as JSON data: a few KB, however many ranges there are."""
        smallest, middle, largest = self._range_sizes()
        return {
            "table": f"{self.schema}.{self.table}",
            "key": list(self.key.names),
            "strategy": self.strategy,
            "reason": self.reason,
            "hints": list(self.hints),
            "ranges": len(self.ranges),
            "partitions": self._partition_count(),
            "expected_rows": self.expected_rows,
            "rows_per_range": {"smallest": smallest, "median": middle, "largest": largest},
            "lower": self.window.lower and bound_text(self.window.lower, _MAX_BOUND_LENGTH),
            "upper": self.window.upper and bound_text(self.window.upper, _MAX_BOUND_LENGTH),
            "first": [_describe(key_range) for key_range in self.ranges[:_SUMMARY_RANGES]],
            "last": [_describe(key_range) for key_range in self.ranges[_SUMMARY_RANGES:][-_SUMMARY_RANGES:]],
            "needs_snapshot": self.needs_snapshot,
            "queries": self.queries,
            "seconds": round(self.seconds, 4),
        }

    def __str__(self) -> str:
        smallest, middle, largest = (f"{size:,}" for size in self._range_sizes())
        partitions = self._partition_count()
        lines = [
            ("table", f"{self.schema}.{self.table}" + (f", {quantity(partitions, 'partition')}" if partitions else "")),
            ("key", str(self.key)),
            ("strategy", f"{self.strategy}: {self.reason}"),
            ("ranges", f"{len(self.ranges):,}, about {quantity(self.expected_rows, 'row')}"),
            ("rows per range", f"{smallest} smallest, {middle} median, {largest} largest"),
            *([("first", _describe(self.ranges[0])), ("last", _describe(self.ranges[-1]))] if self.ranges else []),
            ("planned with", f"{quantity(self.queries, 'query')} in {self.seconds * 1000:,.0f} ms"),
            *(("hint", hint) for hint in self.hints),
        ]
        return "\n".join(f"{name:<14} {text}" for name, text in lines)

    def _partition_count(self) -> int:
        return sum(relation is not None for relation in self.relations)

    def _range_sizes(self) -> tuple[int, int, int]:
        """Return the smallest, the median and the largest expected number of rows."""
        rows = [
            key_range.expected_rows
            for key_range in self.ranges
            if key_range.expected_rows is not None and not key_range.nulls
        ]
        return (min(rows), round(median(rows)), max(rows)) if rows else (0, 0, 0)


@dataclass(frozen=True)
class StoredPlan:
    """The ranges and the description of an earlier plan.

    :param summary: its ``as_dict()``.
    :param text: its ``str()``.
    """

    schema: str
    table: str
    key: Key
    ranges: tuple[KeyRange, ...]
    summary: dict[str, Any]
    text: str

    def largest_first(self) -> list[KeyRange]:
        """Return the ranges in the order to start them in, so that the last one to finish is small."""
        return _largest_first(self.ranges)

    def as_dict(self) -> dict[str, Any]:
        """Return the earlier plan's summary."""
        return self.summary

    def __str__(self) -> str:
        return self.text


def to_record(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON data."""
    return {
        "schema": plan.schema,
        "table": plan.table,
        "key": [asdict(column) for column in plan.key.columns],
        "items": [key_range.to_item() for key_range in plan.ranges],
        "summary": plan.as_dict(),
        "text": str(plan),
    }


def from_record(record: dict[str, Any]) -> StoredPlan:
    """Return the plan that ``to_record`` stored."""
    columns = (column | {"operators": tuple(column.get("operators", ()))} for column in record["key"])
    key = Key(tuple(KeyColumn(**column) for column in columns))
    ranges = tuple(KeyRange.from_item(key, index, item) for index, item in enumerate(record["items"]))
    return StoredPlan(record["schema"], record["table"], key, ranges, record["summary"], record["text"])


def extend_plan(plan: StoredPlan, more: Plan) -> StoredPlan:
    """Return the plan with the ranges of another plan appended. Its own ranges keep their indexes."""
    count = len(plan.ranges)
    added = tuple(replace(key_range, index=count + number) for number, key_range in enumerate(more.ranges))
    old, new = plan.summary, more.as_dict()
    summary = {
        **(new if added else old),
        "lower": old["lower"],
        "first": old["first"] or new["first"],
        "ranges": count + len(added),
        "expected_rows": old["expected_rows"] + new["expected_rows"],
    }
    return replace(plan, ranges=plan.ranges + added, summary=summary, text=f"{plan}\n\nfollowed by\n{more}")


def _largest_first(ranges: Iterable[KeyRange]) -> list[KeyRange]:
    """Sort by expected rows. Ranges of unknown size come first."""

    def size(key_range: KeyRange) -> float:
        return float("inf") if key_range.expected_rows is None else key_range.expected_rows

    return sorted(ranges, key=size, reverse=True)


def _is_sorted(key: Key, bounds: Sequence[Bound]) -> bool:
    """Return True if the bounds ascend; False if only the server knows their order.

    :raises PlanCoverageError: if they do not ascend.
    """
    codecs = [ordinal_codec(column, (bound[n] for bound in bounds)) for n, column in enumerate(key.columns)]
    if None in codecs:
        return False
    ordinals = [[codec.encode(bound[n]) for bound in bounds] for n, codec in enumerate(codecs) if codec is not None]
    if any(None in column for column in ordinals):
        return False
    if any(later < earlier for earlier, later in pairwise(zip(*ordinals, strict=True))):
        raise PlanCoverageError("The bounds are not in order.")
    return True


def _describe(key_range: KeyRange) -> str:
    partition = f" in {'.'.join(key_range.relation)}" if key_range.relation else ""
    return f"{key_range.describe(_MAX_BOUND_LENGTH)}{partition}"
