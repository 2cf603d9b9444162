"""Plan how to split a table: from the caller's parameters to a plan with verified coverage."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

import psycopg

from burla_provider.database.settings import EXACT_TEXT
from burla_provider.exceptions import PlanCoverageError
from burla_provider.ranges.catalog import TableFacts, read_facts
from burla_provider.ranges.cutting import MeasuredRelation, Span, cut_relations, span_count
from burla_provider.ranges.key import CTID, Key
from burla_provider.ranges.key_choice import choose_split_key
from burla_provider.ranges.key_range import KeyRange
from burla_provider.ranges.pages_choice import allows_pages
from burla_provider.ranges.plan import RangePlan
from burla_provider.ranges.plan_request import PlanRequest
from burla_provider.ranges.planner_connection import PlannerConnection
from burla_provider.ranges.relations import TableProfile, profile_table
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import SortKey, is_sorted
from burla_provider.ranges.strategies import STRATEGIES
from burla_provider.ranges.strategy_choice import choose_strategy, collect_hints, explain_choices
from burla_provider.ranges.window import Window, WindowLimits, freeze_window, read_window

_SESSION_SETTINGS = {
    "client_encoding": "UTF8",  # otherwise a database in SQL_ASCII returns bytes
    **EXACT_TEXT,  # "ISO" keeps the order of day and month in which the user's values are read
    "max_parallel_workers_per_gather": "0",  # row estimates of a parallel plan are per worker
    "jit": "off",
}
"""Make the text of a bound exact and the same in every session, and estimates comparable."""


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
    """Split a table into ranges of about equal size that cover it exactly.

    Reads the catalog, the statistics and, if these do not suffice, the key's index. Writes nothing, and restores the
    session and the transaction, so the connection may be in a transaction whose snapshot the workers share.

    :param table: as in SQL: ``orders``, ``sales.orders``, ``"Sales"."Orders"``. A partitioned table is split partition
        by partition; a view or a foreign table requires ``key``.
    :param key: the column, or list of columns, most significant first, to split by. Any type that can be sorted is
        supported. Several columns must be NOT NULL; for a single column, the rows with NULL get a range of their own.
        None: the primary key, or else another unique key, or else the physical pages, which require a shared snapshot.
    :param start_id: minimum id, inclusive, of an integer key.
    :param end_id: maximum id, inclusive, of an integer key.
    :param lower: minimum key, inclusive, of any type; a list for several columns. If any bound is given, rows with a
        NULL key are left out.
    :param upper: upper bound of the key, exclusive.
    :param where: SQL condition, without placeholders, that the rows will be filtered by. Used for estimates.
    :param split: "auto", or a strategy: "width", "histogram", "probed", "keyset", "pages" or "single".
    :param rows_per_range: about how many rows that pass ``where`` a range should have; with "width" and an integer key,
        how many ids.
    :param ranges: about how many ranges there should be. Without this and ``rows_per_range``: 12 per ``parallelism``,
        but with a minimum and a maximum size.
    :param parallelism: how many ranges will be processed at the same time; None: 8.
    :param max_ranges: maximum number of ranges.
    :param refine: check the sizes of ranges in the key's index. "auto" then scans the index, for exact ranges; "width",
        "histogram" and "probed" cut ranges that are too large.
    :param freeze_upper: end the last range directly after the current maximum key. Otherwise a table that grows during
        the run would never be finished.
    :param by_partition: split a partitioned table partition by partition. Read all ranges in one snapshot then, because
        rows may move to other partitions. False: across all partitions, so that the bounds alone (``start_id`` and
        ``end_id``) select a range's rows from the table.
    :raises InvalidParameterError: if a parameter cannot be used. The message names it.
    """
    limits = WindowLimits(start_id, end_id, lower, upper)
    sizing = RangeSizing(rows_per_range, ranges, parallelism, max_ranges)
    request = PlanRequest(key, limits, where, split, sizing, refine, freeze_upper, by_partition)
    return plan_table(connection, table, request)


def plan_table(connection: psycopg.Connection[Any], table: TableFacts | str, request: PlanRequest) -> RangePlan:
    """Split a table as ``plan_ranges`` does.

    :param connection: a connection in the snapshot in which the facts were read, if there is a snapshot.
    :param table: the catalog facts about the table, or its name as in SQL if they are not known.
    :raises InvalidParameterError: if a parameter cannot be used.
    """
    started = time.perf_counter()
    planner_connection = PlannerConnection(connection)
    with planner_connection.local_settings(**_SESSION_SETTINGS), _garbage_collection_paused():
        facts = read_facts(planner_connection, table) if isinstance(table, str) else table
        plan = _make_plan(planner_connection, facts, request)
    return replace(plan, queries=planner_connection.statement_count, seconds=time.perf_counter() - started)


def _make_plan(connection: PlannerConnection, facts: TableFacts, request: PlanRequest) -> RangePlan:
    key, key_reason = choose_split_key(connection, facts, request)
    sort_key = SortKey(facts.columns_of(key))
    window = read_window(connection, key, sort_key, request.limits)
    if request.freeze_upper:
        window = freeze_window(connection, facts.from_sql, key, sort_key, window)
    table = profile_table(connection, facts, key, sort_key, window, request.where, _max_partitions(request, key))
    if key == CTID:
        table = table.with_even_pages()
    row_bytes = _row_bytes(facts, table, window)
    sizing = replace(request.sizing, rows=table.rows, row_bytes=row_bytes, selectivity=table.selectivity)
    choices = [choose_strategy(connection, profile, sizing, request) for profile in table.relations]
    relations = []
    for profile, choice in zip(table.relations, choices, strict=True):
        strategy = STRATEGIES[choice.strategy]
        relations.append(MeasuredRelation(profile, strategy, strategy.measure(connection, profile, sizing)))
    spans = cut_relations(connection, relations, sizing, refine=request.refine)
    sizing.check_limit("max_ranges" if sizing.rows_per_range is None else "rows_per_range", span_count(spans))
    plan = RangePlan(
        schema=facts.schema,
        table=facts.table,
        key=key,
        window=window,
        relations=tuple(profile.relation for profile in table.relations),
        ranges=tuple(_key_ranges(key, table, spans)),
        strategy=", ".join(dict.fromkeys(choice.strategy for choice in choices)) or "single",
        reason=f"{explain_choices(choices)} {key_reason}".strip(),
        hints=collect_hints(
            table.relations,
            sizing,
            row_security=facts.row_security,
            by_partition=request.by_partition,
            allows_pages=allows_pages(facts, request),
        ),
        facts=facts,
    )
    for bounds in plan.verify_coverage():
        if not is_sorted(connection, sort_key, bounds):
            raise PlanCoverageError("The bounds are not in the server's order.")
    return plan


def _max_partitions(request: PlanRequest, key: Key) -> int | None:
    """Return the maximum number of partitions to split one by one; with more, the table is split as a whole."""
    if request.split == "single" or not request.by_partition:
        return 0
    # A range of the same pages of all partitions cannot be made as small as needed, unlike a range of keys.
    return None if key == CTID else request.sizing.ranges or request.sizing.max_ranges


def _row_bytes(facts: TableFacts, table: TableProfile, window: Window) -> float:
    # Without a number of rows in the catalog, use the server's estimate for the window if that is the whole table.
    rows = facts.rows if facts.rows is not None or window.is_bounded else table.rows
    return facts.bytes / rows if rows else 0.0


def _key_ranges(key: Key, table: TableProfile, spans: Sequence[Sequence[Span]]) -> Iterator[KeyRange]:
    """Yield the ranges of each relation: its spans, and its NULL keys unless a single range includes all rows."""
    indexes = count()
    for profile, relation_spans in zip(table.relations, spans, strict=True):
        is_open = len(relation_spans) == 1 and relation_spans[0].lower is None and relation_spans[0].upper is None
        for span in relation_spans:
            rows = round((span.rows + ((profile.null_rows or 0) if is_open else 0)) * table.selectivity)
            yield KeyRange(key, next(indexes), span.lower, span.upper, relation=profile.relation, expected_rows=rows)
        if profile.window.includes_nulls and not is_open:
            nulls = None if profile.null_rows is None else round(profile.null_rows * table.selectivity)
            yield KeyRange(key, next(indexes), nulls=True, relation=profile.relation, expected_rows=nulls)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Pause Python's garbage collector. Traversing all new ranges repeatedly would take a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
