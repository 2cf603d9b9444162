"""The plan: ranges that cover a table, how they were found, and the proof that nothing is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from statistics import median
from typing import Any

from burla_provider.exceptions import BurlaProviderError
from burla_provider.ranges.catalog import TableFacts
from burla_provider.ranges.key import CTID, Bound, Key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.ordinals import axis_of
from burla_provider.ranges.window import Window

Relation = tuple[str, str] | None
"""Schema and name of a partition that is read by itself; None: the whole table."""


class PlanCoverageError(BurlaProviderError):
    """A plan's ranges leave a gap or overlap. This is a fault of the planner: please report it."""


@dataclass(frozen=True)
class RangePlan:
    """How a table is split.

    :param schema: of the table.
    :param table: its name, without the schema.
    :param key: what it is split by; without columns when it is read as a whole.
    :param window: the keys that the ranges cover. Its upper end is what ``freeze_upper`` froze.
    :param relations: what the ranges are of: the whole table (None) or partitions, in the order of the ranges.
    :param ranges: in the key's order, within each relation; ``ranges[i].index == i``.
    :param strategy: how the cuts were found: "width", "histogram", "probed", "keyset", "pages" or "single".
    :param reason: why that way, one sentence.
    :param hints: what would make the job faster, sentences.
    :param queries: how many the planner ran.
    :param seconds: how long it took.
    :param facts: what the catalog says of the table.
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
        """Estimated rows of all ranges; rows with a NULL key are in it as far as they are known."""
        return sum(key_range.expected_rows or 0 for key_range in self.ranges)

    @property
    def needs_snapshot(self) -> bool:
        """Whether the ranges are right under one shared snapshot only, and for one attempt: they are cut by pages."""
        return self.key == CTID and any(one.lower or one.upper for one in self.ranges)

    def largest_first(self) -> list[KeyRange]:
        """The ranges in the order to start them in: see the function of this name."""
        return largest_first(self.ranges)

    def check(self) -> None:
        """Proves that every row of the window is in exactly one range.

        Each relation's ranges must begin and end where the window does, each where the one before it ends; NULL keys
        have a range of their own exactly when an open one does not have them; the bounds never go down. (The order
        of texts only the server knows: it is asked when the plan is made.)

        :raises PlanCoverageError: they do not.
        """
        self.verify_coverage()

    def verify_coverage(self) -> list[list[Bound]]:
        """As ``check``, and returns what remains to be proved: bounds whose order only the server knows.

        :raises PlanCoverageError: something is left out, or is in two ranges.
        """
        if [key_range.index for key_range in self.ranges] != list(range(len(self.ranges))):
            raise PlanCoverageError("the ranges are not numbered in their order.")
        groups = [(relation, list(group)) for relation, group in groupby(self.ranges, lambda one: one.relation)]
        expected = () if self.window.is_empty and not self.window.includes_nulls else self.relations
        if tuple(relation for relation, _ in groups) != expected:
            raise PlanCoverageError("the ranges are not of the relations that hold the rows.")
        bounds = [self._tiled(relation, group) for relation, group in groups]
        return [of_relation for of_relation in bounds if not _is_sorted(self.key, of_relation)]

    def as_dict(self) -> dict[str, Any]:
        """What a person wants to know of the plan, as JSON: a few KB, however many ranges there are."""
        smallest, middle, largest = self._sizes()
        return {
            "table": f"{self.schema}.{self.table}",
            "key": list(self.key.names),
            "strategy": self.strategy,
            "reason": self.reason,
            "hints": list(self.hints),
            "ranges": len(self.ranges),
            "partitions": sum(relation is not None for relation in self.relations),
            "expected_rows": self.expected_rows,
            "rows_per_range": {"smallest": smallest, "median": middle, "largest": largest},
            "lower": _shown(self.window.lower, None),
            "upper": _shown(self.window.upper, None),
            "first": [_describe(one) for one in self.ranges[:_SHOWN]],
            "last": [_describe(one) for one in self.ranges[_SHOWN:][-_SHOWN:]],
            "needs_snapshot": self.needs_snapshot,
            "queries": self.queries,
            "seconds": round(self.seconds, 4),
        }

    def __str__(self) -> str:
        smallest, middle, largest = (f"{size:,}" for size in self._sizes())
        partitions = sum(relation is not None for relation in self.relations)
        lines = [
            ("table", f"{self.schema}.{self.table}" + (f", {partitions:,} partitions" if partitions else "")),
            ("key", str(self.key)),
            ("strategy", f"{self.strategy}: {self.reason}"),
            ("ranges", f"{len(self.ranges):,}, about {self.expected_rows:,} rows"),
            ("rows a range", f"{smallest} smallest, {middle} median, {largest} largest"),
            *([("first", _describe(self.ranges[0])), ("last", _describe(self.ranges[-1]))] if self.ranges else []),
            ("planned with", f"{self.queries} queries in {self.seconds * 1000:,.0f} ms"),
            *(("hint", hint) for hint in self.hints),
        ]
        return "\n".join(f"{name:<13} {text}" for name, text in lines)

    def _sizes(self) -> tuple[int, int, int]:
        """The smallest, the median and the largest expected number of rows."""
        sizes = [one.expected_rows for one in self.ranges if one.expected_rows is not None and not one.nulls]
        return (min(sizes), round(median(sizes)), max(sizes)) if sizes else (0, 0, 0)

    def _tiled(self, relation: Relation, ranges: list[KeyRange]) -> list[Bound]:
        """All bounds of a relation's ranges, which tile the window provided that the bounds are in order."""
        where = "the table" if relation is None else ".".join(relation)
        stretches = [one for one in ranges if not one.nulls]
        if self.window.is_empty != (not stretches):
            raise PlanCoverageError(
                f"{where} has ranges of keys although its window is empty, or none although it is not."
            )
        if stretches and (stretches[0].lower, stretches[-1].upper) != (self.window.lower, self.window.upper):
            raise PlanCoverageError(f"the ranges of {where} do not begin and end where the window does.")
        if any(before.upper is None or before.upper != after.lower for before, after in pairwise(stretches)):
            raise PlanCoverageError(f"a range of {where} does not begin where the one before it ends.")
        takes_nulls = len(stretches) == 1 and not self.window.is_bounded
        if [one.nulls for one in ranges[len(stretches) :]] != [True] * (self.window.includes_nulls and not takes_nulls):
            raise PlanCoverageError(f"the rows of {where} whose key is NULL are not in exactly one range.")
        bounds = [one.lower for one in stretches] + [one.upper for one in stretches[-1:]]
        return [bound for bound in bounds if bound is not None]


def _is_sorted(key: Key, bounds: Sequence[Bound]) -> bool:
    """Whether the bounds never go down; False when only the server knows.

    :raises PlanCoverageError: they do.
    """
    axes = [axis_of(column, (bound[n] for bound in bounds)) for n, column in enumerate(key.columns)]
    if None in axes:
        return False
    places = [[axis.read(bound[n]) for bound in bounds] for n, axis in enumerate(axes) if axis is not None]
    if any(None in column for column in places):
        return False
    if any(later < earlier for earlier, later in pairwise(zip(*places, strict=True))):
        raise PlanCoverageError("the bounds are not in order.")
    return True


def largest_first(ranges: Iterable[KeyRange]) -> list[KeyRange]:
    """The order to start ranges in, so that the last one to finish is small. Unknown is large."""
    return sorted(ranges, key=_size, reverse=True)


def _size(key_range: KeyRange) -> float:
    return float("inf") if key_range.expected_rows is None else key_range.expected_rows


def _describe(key_range: KeyRange) -> str:
    place = f" in {'.'.join(key_range.relation)}" if key_range.relation else ""
    if key_range.nulls:
        return f"{key_range.key} IS NULL{place}"
    lower = _shown(key_range.lower, "...")
    return f"{lower} <= {key_range.key} < {_shown(key_range.upper, '...')}{place}"


def _shown(bound: Bound | None, otherwise: str | None) -> str | None:
    if bound is None:
        return otherwise
    text = ", ".join(bound)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."


_SHOWN = 3
"""How many of the first and of the last ranges a summary shows."""

_WIDTH = 80
"""Characters of a bound that people are shown."""
