"""The explanation of a choice, and hints about what makes a job slow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql

from burla_provider.ranges import Key
from burla_provider.ranges.catalog import Column, Leaf
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import CTID
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import SortKey
from burla_provider.ranges.statistics import Statistics
from burla_provider.ranges.strategy_choice import StrategyChoice, collect_hints, explain_choices
from burla_provider.ranges.window import Window

ID, NUMBER = Column("id", "bigint"), Column("number", "integer")
LEAF = Leaf("public", "orders", "r", "heap", 1000, 10, 10, 81920, 0, True)
BIG = replace(LEAF, pages=1_000, bytes=5 * 2**30)
# Three rows in ten have the key 7.
SEVENS = Distribution(
    (HistogramBound(("1",), 1, bucket_rows=35.0), HistogramBound(("7",), 7, frequency=30.0, bucket_rows=35.0))
)
SIZING = RangeSizing(rows_per_range=1000)


def profile(**more: Any) -> RelationProfile:
    parts = {"statistics": Statistics(SEVENS, 2, 0.0, 1.0), "is_indexed": True, "leaves": (LEAF,), **more}
    return RelationProfile(sql.Identifier("orders"), None, Key((ID,)), SortKey((ID,)), Window(), 1000.0, **parts)


def test_a_fast_plan_has_no_hints() -> None:
    assert collect_hints([profile()], SIZING) == ()


def test_pages_and_empty_tables_need_no_index() -> None:
    pages = replace(profile(statistics=None, is_indexed=False), key=CTID, sort_key=SortKey(()))
    empty = profile(is_indexed=False, leaves=(replace(LEAF, pages=0),))
    assert collect_hints([pages, empty], SIZING) == ()


def test_a_key_without_an_index_is_named() -> None:
    hint = "No index has the order of id. Every range reads the whole table, unless another index finds its rows."
    assert collect_hints([profile(is_indexed=False)] * 3, SIZING) == (hint,)


@pytest.mark.parametrize(
    ("leaf", "correlation", "allows_pages", "has_hint"),
    [
        (BIG, 0.05, True, True),
        (BIG, -0.05, True, True),
        (BIG, 0.1, True, False),
        (BIG, -0.9, True, False),
        (BIG, 0.05, False, False),
        (LEAF, 0.05, True, False),
    ],
)
def test_pages_are_faster_for_a_large_table_in_another_order(
    leaf: Leaf, correlation: float, allows_pages: bool, has_hint: bool
) -> None:
    table = profile(leaves=(leaf,), statistics=Statistics(SEVENS, 2, 0.0, correlation))
    hints = collect_hints([replace(table, rows=100_000.0)], SIZING, allows_pages=allows_pages)
    # 100 ranges, 100 rows per page: 100 * (1 - 0.99 ** 100).
    hint = (
        "Rows are not stored in the order of id: about 63 ranges read each page. Without key and with split='pages',"
        " in one snapshot, each page is read once."
    )
    assert [found for found in hints if "pages" in found] == [hint] * has_hint


@pytest.mark.parametrize(("rows_per_range", "has_hint"), [(100, True), (120, True), (150, False), (200, False)])
def test_a_key_that_fills_several_ranges_is_named(rows_per_range: int, has_hint: bool) -> None:
    hint = "About 300 rows have the same key (7). They stay in one range."
    assert collect_hints([profile()], RangeSizing(rows_per_range=rows_per_range)) == (hint,) * has_hint


@pytest.mark.parametrize(
    ("leaves", "relation", "has_hint"), [(501, None, True), (500, None, False), (501, ("public", "orders_1"), False)]
)
def test_many_partitions_per_range_are_many_locks(leaves: int, relation: Any, has_hint: bool) -> None:
    hints = collect_hints([replace(profile(leaves=(LEAF,) * leaves), relation=relation)], SIZING)
    assert ["Every range may lock all 501 partitions" in hint for hint in hints] == [True] * has_hint


@pytest.mark.parametrize(
    ("by_partition", "advice"),
    [(True, "Request more ranges than partitions,"), (False, "Use a key that begins with the partition key,")],
)
def test_the_advice_about_locks_fits_how_the_table_is_split(by_partition: bool, advice: str) -> None:
    [hint] = collect_hints([profile(leaves=(LEAF,) * 501)], SIZING, by_partition=by_partition)
    assert advice in hint


def test_a_frequent_value_of_the_first_column_is_cut_by_the_second() -> None:
    pair = replace(profile(), key=Key((ID, NUMBER)), sort_key=SortKey((ID, NUMBER)))
    assert collect_hints([pair], RangeSizing(rows_per_range=100)) == ()


def test_one_reason_is_one_sentence() -> None:
    choice = StrategyChoice("histogram", "the statistics are fresh")
    assert explain_choices([choice, choice]) == "The statistics are fresh."
    assert explain_choices([]) == "No partition has rows in the window."


def test_reasons_are_counted_by_strategy() -> None:
    fresh, unknown = StrategyChoice("histogram", "fresh"), StrategyChoice("keyset", "unknown")
    assert (
        explain_choices([fresh, unknown, fresh]) == "2 partitions by histogram: fresh; 1 partition by keyset: unknown."
    )
