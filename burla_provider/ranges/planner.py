"""From a table and a wish to a plan."""

from __future__ import annotations

import gc
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import psycopg

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.catalog import TableFacts, read_facts
from burla_provider.ranges.explanation import hints_of, reason_of
from burla_provider.ranges.freeze_window import freeze
from burla_provider.ranges.key import CTID, Key
from burla_provider.ranges.key_choice import columns_of
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.plan import PlanCoverageError, RangePlan
from burla_provider.ranges.plan_request import Request
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.refine import OVERSIZE
from burla_provider.ranges.refine import refine as cut_oversize
from burla_provider.ranges.relations import RelationProfile, TableProfile, survey
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import SortKey, is_sorted
from burla_provider.ranges.spans import Span, tile
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.ranges.strategy_choice import Choice, choose_cut_key, choose_strategy
from burla_provider.ranges.window import Window, WindowLimits, read_window

_SESSION = {
    "client_encoding": "UTF8",  # a database in SQL_ASCII answers bytes otherwise
    "datestyle": "ISO",  # keeps the order of day and month that the user's own values are read by
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "max_parallel_workers_per_gather": "0",  # a parallel plan's row estimates are those of one worker
    "jit": "off",
}
"""Makes every bound's text exact and the same in every session, and estimates comparable."""

_ESTIMATED = ("histogram", "probed")
"""Strategies that go by what ANALYZE saw."""

_NOTEWORTHY = 0.25
"""Rows that ANALYZE did not see, of such a part of a range, are worth a look at the first and the last range."""

_ROOM = 0.99
"""Part of the ranges that there may be, when they are cut: looks at the first and the last ones make a few more."""

_SAMPLED = 300
"""Rows that ANALYZE looks at for each step of its statistics: https://www.postgresql.org/docs/current/planner-stats.html."""


def plan_ranges(
    connection: psycopg.Connection[Any],
    *,
    table: str,
    key: str | Sequence[str] | None = None,
    start_id: int | None = None,
    end_id: int | None = None,
    lower: Any = None,
    upper: Any = None,
    where: str | None = None,
    split: str = "auto",
    rows_per_range: int | None = None,
    ranges: int | None = None,
    parallelism: int | None = None,
    max_ranges: int = 100_000,
    refine: bool = False,
    freeze_upper: bool = False,
    by_partition: bool = True,
) -> RangePlan:
    """Splits a table into ranges of about equal size that cover it exactly.

    Reads the catalog, the statistics and, where those do not say enough, the key's index. Writes nothing, and leaves
    session and transaction as they were, so the connection may be in a transaction whose snapshot the workers share.

    :param table: as SQL names it: ``orders``, ``sales.orders``, ``"Sales"."Orders"``. A partitioned table is split
        partition by partition; a view or a foreign table needs ``key``.
    :param key: the column (or columns, most significant first) to split by; None: the primary key, else another unique
        key, else the physical pages, which need a snapshot. Every type with an order will do. Several columns must be
        NOT NULL; the rows whose only key column is NULL get a range of their own.
    :param start_id: least id, inclusive, of an integer key.
    :param end_id: greatest id, inclusive, of an integer key.
    :param lower: least key, inclusive, for any type; a list for several columns. With any bound given, rows whose key
        is NULL are left out.
    :param upper: first key that is no longer wanted.
    :param where: SQL condition that the ranges' rows will be filtered by, without placeholders: for the estimate.
    :param split: "auto", or a strategy by name: "width", "histogram", "probed", "keyset", "pages", "single".
    :param rows_per_range: about how many rows (that pass ``where``) a range should have; with "width" and an integer
        key: how many ids.
    :param ranges: about how many ranges there should be. With neither: 12 for each of ``parallelism``, but neither
        dust nor giants.
    :param parallelism: how many ranges will be worked at the same time; None: 8.
    :param max_ranges: there may not be more.
    :param refine: look how large ranges really are, by the key's index: "auto" then walks over it, for ranges that are
        exact; "width", "histogram" and "probed" cut those that are too large.
    :param freeze_upper: end the last range right behind the greatest key of now, so that a table that grows has an end.
    :param by_partition: split a partitioned table partition by partition. False: across all partitions at once, so that
        also the bounds alone (``start_id`` and ``end_id``) select a range's rows from the table.
    :raises InvalidParameterError: a parameter cannot be used; it says which and why.
    """
    limits = WindowLimits(start_id, end_id, lower, upper)
    size = RangeSizing(rows_per_range, ranges, parallelism, max_ranges)
    request = Request(key, limits, where, split, size, refine, freeze_upper, by_partition)
    return _plan(connection, table, request)


def plan_table(connection: psycopg.Connection[Any], facts: TableFacts, request: Request) -> RangePlan:
    """Split a table of which the catalog was read already, as ``plan_ranges`` does.

    :param connection: in the snapshot in which the facts were read, if there is one.
    :raises InvalidParameterError: a parameter cannot be used.
    """
    return _plan(connection, facts, request)


def _plan(connection: psycopg.Connection[Any], table: TableFacts | str, request: Request) -> RangePlan:
    started = time.perf_counter()
    queries = PlannerConnection(connection)
    with queries.locally(**_SESSION), _no_collection():
        facts = read_facts(queries, table) if isinstance(table, str) else table
        plan = _make_plan(queries, facts, request)
    return replace(plan, queries=queries.count, seconds=time.perf_counter() - started)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Python's collector would look at a hundred thousand new ranges over and over, for a third of a plan's time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _make_plan(queries: PlannerConnection, facts: TableFacts, request: Request) -> RangePlan:
    key = choose_cut_key(facts, request)
    order = SortKey(tuple(columns_of(facts, key)))
    window = read_window(queries, order, key, request.limits)
    if request.freeze_upper:
        window = freeze(queries, facts.source, key, order, window)
    seen = survey(queries, facts, key, order, window, request.where, _most_pieces(request, key))
    row_bytes = _row_bytes(facts, seen, window)
    size = replace(request.size, rows=seen.rows, row_bytes=row_bytes, selectivity=seen.selectivity)
    choices = [choose_strategy(queries, piece, size, request) for piece in seen.pieces]
    spans = _cut(queries, seen.pieces, choices, size, request)
    size.allow("max_ranges" if request.size.rows_per_range is None else "rows_per_range", _count(spans))
    plan = RangePlan(
        schema=facts.schema,
        table=facts.table,
        key=key,
        window=window,
        relations=tuple(piece.relation for piece in seen.pieces),
        ranges=tuple(_number(key, seen, spans)),
        strategy=", ".join(dict.fromkeys(choice.strategy for choice in choices)) or "single",
        reason=reason_of(choices),
        hints=hints_of(seen.pieces, size, row_security=facts.row_security),
        facts=facts,
    )
    for bounds in plan.verify_coverage():
        if not is_sorted(queries, order, bounds):
            raise PlanCoverageError("the server does not find the bounds in order.")
    return plan


def _most_pieces(request: Request, key: Key) -> int | None:
    if request.split == "single" or not request.by_partition:
        return 0
    # The same pages of all partitions have as many rows as there are partitions; a key can be cut as finely as needed.
    return None if key == CTID else request.size.ranges or request.size.max_ranges


def _row_bytes(facts: TableFacts, seen: TableProfile, window: Window) -> float:
    # Of a table that was never counted, the server estimates what is in the window, and that may be all.
    rows = facts.rows if facts.rows is not None or window.bounded else seen.rows
    return facts.bytes / rows if rows else 0.0


def _cut(
    queries: PlannerConnection,
    pieces: Sequence[RelationProfile],
    choices: Sequence[Choice],
    size: RangeSizing,
    request: Request,
) -> list[list[Span]]:
    """The spans of each piece. How many each gets is decided once all are measured, because they share one target."""
    shapes = [STRATEGIES[choice.strategy](queries, piece, size) for piece, choice in zip(pieces, choices, strict=True)]
    size = replace(size, rows=sum(shape.rows for shape in shapes))
    if size.rows_per_range is not None:
        # Before they are made, which might take all memory.
        size.allow("rows_per_range", int(sum(shape.least_cuts(size.share(shape.rows)) for shape in shapes)))

    def cut(wanted: RangeSizing, *, ends: bool = True) -> list[list[Span]]:
        spans = [
            tile(piece.window, shape.cuts(wanted.share(shape.rows)), shape.rows)
            for piece, shape in zip(pieces, shapes, strict=True)
        ]
        return [
            list(_refined(queries, piece, choice, own, wanted.target, refine=request.refine, ends=ends))
            for piece, choice, own in zip(pieces, choices, spans, strict=True)
        ]

    may_differ = not request.refine and size.rows_per_range is None
    is_estimated = any(choice.strategy in _ESTIMATED for choice in choices)
    count, room = size.count(size.rows), _ROOM * size.max_ranges
    # With room for them at once, for to cut so many ranges a second time takes a second.
    first = min(count, max(int(room), 1)) if may_differ and is_estimated else count
    found = cut(size if first == count else replace(size, ranges=first))
    if may_differ and _count(found) > size.max_ranges:
        found = cut(replace(size, ranges=max(int(first * room / _count(found)), 1)))
    # Ends that may be a little larger are better than no plan.
    fits = request.refine or _count(found) <= size.max_ranges
    return found if fits else cut(size, ends=False)


def _count(spans: Sequence[Sequence[Span]]) -> int:
    return sum(map(len, spans))


def _refined(
    queries: PlannerConnection,
    piece: RelationProfile,
    choice: Choice,
    spans: Sequence[Span],
    target: float,
    *,
    refine: bool,
    ends: bool,
) -> Iterable[Span]:
    if choice.strategy not in ("width", *_ESTIMATED):
        return spans
    if refine and not piece.indexed:
        problem = f"no index is in the order of {piece.key}, so that looking would take a scan for each range."
        raise InvalidParameterError("refine", problem, "Make an index, or leave refine out.")
    suspects = range(len(spans)) if refine else _suspects(piece, choice, spans, target, ends=ends)
    return cut_oversize(queries, piece, spans, target, suspects, exact=refine) if suspects else spans


def _suspects(
    piece: RelationProfile, choice: Choice, spans: Sequence[Span], target: float, *, ends: bool
) -> Collection[int]:
    """Numbers of the spans that may be too large though the statistics are fresh; with ``ends`` also first and last."""
    if choice.strategy not in _ESTIMATED or not piece.indexed:
        return ()
    # A frequent value of the first column can still be cut by the next one, of which the statistics say nothing.
    several = len(piece.key.columns) > 1
    heavy = {number for number, span in enumerate(spans) if several and span.rows > OVERSIZE * target}
    # What came since ANALYZE is mostly beyond the ends that it saw, and some rows of then are too.
    beyond = piece.changed + piece.rows / (_SAMPLED * max(piece.statistics.steps if piece.statistics else 1, 1))
    return heavy | {0, len(spans) - 1} if ends and beyond > _NOTEWORTHY * target else heavy


def _number(key: Key, seen: TableProfile, spans: Sequence[Sequence[Span]]) -> Iterator[KeyRange]:
    """The ranges: each span, and the NULL keys of each piece unless one range takes everything."""
    numbers = count()
    for piece, own in zip(seen.pieces, spans, strict=True):
        takes_all = len(own) == 1 and own[0].lower is None and own[0].upper is None
        for span in own:
            rows = round((span.rows + ((takes_all and piece.null_rows) or 0)) * seen.selectivity)
            yield KeyRange(key, next(numbers), span.lower, span.upper, relation=piece.relation, expected_rows=rows)
        if piece.window.nulls and not takes_all:
            nulls = None if piece.null_rows is None else round(piece.null_rows * seen.selectivity)
            yield KeyRange(key, next(numbers), nulls=True, relation=piece.relation, expected_rows=nulls)
