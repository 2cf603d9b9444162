"""What cuts a table when nobody asked for it by name: which key, which strategy, and why, in words."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import STORED_KINDS, TableFacts
from burla_provider.ranges.key import CTID, Key
from burla_provider.ranges.key_choice import choose_key
from burla_provider.ranges.ordinals import axis_of
from burla_provider.ranges.plan_request import AUTO, Request
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import RelationProfile, can_read_leaves
from burla_provider.ranges.sizing import LEAST_BYTES, RangeSizing
from burla_provider.ranges.strategies.keyset import MOST_STEPS
from burla_provider.ranges.strategies.sampled import can_probe

_PAGES_SINCE = 140000
"""The first server version that reads a range of pages without reading the whole table."""

_STEPS_A_RANGE = 1.5
"""How many buckets of the statistics a range must have where cuts are possible only between them."""

_QUICKLY_WALKED = 500_000
"""Rows whose index is walked in less time than it takes to find out whether that is needed."""

_LONG_TO_WALK = 100_000_000
"""Rows whose index takes half a minute. What looks at it miss may make a few small ranges uneven, which is better."""


@dataclass(frozen=True)
class Choice:
    """A strategy, and why it is the right one: a clause, such as "the statistics are fresh"."""

    strategy: str
    reason: str


def choose_cut_key(facts: TableFacts, request: Request) -> Key:
    """The key to cut by: columns, the physical pages, or none at all for a table that stays whole.

    :raises InvalidParameterError: there is none for such a request.
    """
    if request.split == "pages":
        if problem := _why_no_pages(facts):
            raise InvalidParameterError("split", problem, "Split by a key.")
        return CTID
    key = choose_key(facts, request.key)
    if key.columns or (request.split == "single" and not request.limits.given_names and not request.freeze_upper):
        return key
    if request.split != AUTO or request.limits.given_names or request.freeze_upper:
        raise _no_key(facts, "")
    if _is_tiny(facts, request.size):
        return Key()
    if problem := _why_no_pages(facts):
        raise _no_key(facts, f" {problem}")
    return CTID


def choose_strategy(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing, request: Request) -> Choice:
    """The strategy that was asked for, else the cheapest one that gives balanced ranges."""
    if piece.window.is_empty or not piece.rows:
        return Choice("single", "there is no key in the window")
    if request.split != AUTO:
        return Choice(request.split, "it was asked for")
    if piece.key == CTID:
        return Choice("pages", "the table has no unique key, so it is cut by its pages, which takes one snapshot")
    if not piece.key.columns:
        return Choice("single", "the table is small and has no unique key")
    return _choose_for_key(queries, piece, size, refine=request.refine)


def _choose_for_key(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing, *, refine: bool) -> Choice:
    doubt = piece.distrust_reason
    if _is_small(queries, piece, size, doubt):
        return Choice("single", f"about {piece.rows:,.0f} rows are no more than one range should have")
    looked = "the index was walked" if piece.is_indexed else "the table was sorted once, as no index is in its order"
    if refine:
        return Choice("keyset", f"refine asks for exact ranges, so {looked}")
    coarseness = _coarseness(piece, size)
    why = doubt or coarseness
    if why is None:
        return Choice("histogram", f"the statistics are fresh, so {_what_is_read(piece, size)} had to be read")
    # A walk of more steps takes a second longer than the looks do.
    is_walk_better = coarseness is not None and size.share(piece.rows) <= MOST_STEPS
    if can_probe(piece) and piece.rows > (_LONG_TO_WALK if is_walk_better else _QUICKLY_WALKED):
        return Choice("probed", f"{why}, so the index was looked at in many places, and walked where needed")
    if not piece.is_indexed and piece.statistics and piece.statistics.distribution:
        return Choice("histogram", f"{why}, and there is no index to do better by")
    return Choice("keyset", f"{why}, so {looked}")


def _what_is_read(piece: RelationProfile, size: RangeSizing) -> str:
    shape = piece.statistics.distribution if piece.statistics else None
    if shape is None or len(piece.key.columns) == 1 or shape.most_common.mass / shape.rows * piece.rows <= size.target:
        return "no row"
    return f"only the index of frequent values of {piece.key.names[0]}"


def _is_small(queries: PlannerConnection, piece: RelationProfile, size: RangeSizing, doubt: str | None) -> bool:
    if size.share(piece.rows) > 1:
        return False
    if doubt is None or size.ranges == 1:
        return True
    if not piece.is_indexed and piece.window.is_bounded and all(leaf.kind in STORED_KINDS for leaf in piece.leaves):
        return sum(leaf.bytes for leaf in piece.leaves) <= LEAST_BYTES
    # The estimate is all there is, and it may be anything: look whether there are more rows.
    statement = sql.SQL("SELECT EXISTS (SELECT FROM {} AS origin WHERE {} OFFSET {})")
    return not queries.fetch_value(statement.format(piece.source, piece.window_condition, sql.Literal(int(size.least))))


def _coarseness(piece: RelationProfile, size: RangeSizing) -> str | None:
    """Why the statistics are too coarse for ranges of that size; None: they are not."""
    if piece.statistics is None or piece.statistics.distribution is None:
        return None
    shape, ranges, column = piece.statistics.distribution, size.share(piece.rows), piece.key.columns[0]
    if all(knot.gap == 0 for knot in shape.knots):
        return None  # every key is known
    known = piece.statistics.bound_count
    # Within a bucket, nobody knows where the gaps are.
    if ranges > (known if axis_of(column) else known / _STEPS_A_RANGE):
        return f"{ranges:,} ranges are finer than the statistics of {column.name}"
    return None


def _is_tiny(facts: TableFacts, size: RangeSizing) -> bool:
    asked = size.ranges or size.rows_per_range
    return not asked and facts.kind in STORED_KINDS and facts.bytes <= LEAST_BYTES


def _why_no_pages(facts: TableFacts) -> str | None:
    if facts.kind not in STORED_KINDS or (facts.is_tree and not can_read_leaves(facts)):
        return f"{facts} is a {facts.kind_name}, whose pages cannot be read by themselves."
    if any(leaf.access_method != "heap" for leaf in facts.leaves):
        return f"{facts} is not stored as a heap."
    if facts.server_version < _PAGES_SINCE:
        return f"PostgreSQL {facts.server_version // 10000} cannot read a range of pages."
    return None


def _no_key(facts: TableFacts, more: str) -> InvalidParameterError:
    indexed = sorted({index.columns[0] for index in facts.indexes})
    advice = "Name the column to split by" + (f": there is an index on {', '.join(indexed)}." if indexed else ".")
    return InvalidParameterError("key", f"{facts}, a {facts.kind_name}, has no unique key to take.{more}", advice)
