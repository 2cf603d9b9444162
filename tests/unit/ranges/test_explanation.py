"""What a plan says would make it better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from burla_provider.ranges.explanation import hints_of
from psycopg import sql

from burla_provider.ranges import Key
from burla_provider.ranges.catalog import Column, Leaf
from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import CTID
from burla_provider.ranges.relations import RelationProfile
from burla_provider.ranges.sizing import RangeSizing
from burla_provider.ranges.sort_key import SortKey
from burla_provider.ranges.statistics import Statistics
from burla_provider.ranges.window import Window

ID, NUMBER = Column("id", "bigint"), Column("number", "integer")
LEAF = Leaf("public", "orders", "r", "heap", 1000, 10, 10, 81920, 0, True)
BIG = replace(LEAF, bytes=5 * 2**30)
# Three rows in ten have the key 7.
SEVENS = Distribution((HistogramBound(("1",), 1, gap=35.0), HistogramBound(("7",), 7, mass=30.0, gap=35.0)))
SIZE = RangeSizing(rows_per_range=1000)


def piece(**more: Any) -> RelationProfile:
    parts = {"statistics": Statistics(SEVENS, 2, 0.0, 1.0), "is_indexed": True, "leaves": (LEAF,), **more}
    return RelationProfile(sql.Identifier("orders"), None, Key((ID,)), SortKey((ID,)), Window(), 1000.0, **parts)


def test_where_nothing_could_be_better_nothing_is_said() -> None:
    assert hints_of([piece()], SIZE) == ()


def test_pages_and_tables_without_a_row_need_no_index() -> None:
    pages = replace(piece(statistics=None, is_indexed=False), key=CTID, sort_key=SortKey(()))
    empty = piece(is_indexed=False, leaves=(replace(LEAF, pages=0),))
    assert hints_of([pages, empty], SIZE) == ()


def test_a_key_without_index_is_named() -> None:
    hint = "No index is in the order of id: every range reads the whole table, unless another index finds its rows."
    assert hints_of([piece(is_indexed=False)] * 3, SIZE) == (hint,)


@pytest.mark.parametrize(
    ("leaf", "correlation", "said"),
    [(BIG, 0.05, True), (BIG, -0.05, True), (BIG, 0.1, False), (BIG, -0.9, False), (LEAF, 0.05, False)],
)
def test_pages_are_better_for_a_table_on_disk_in_no_order(leaf: Leaf, correlation: float, said: bool) -> None:
    hints = hints_of([piece(leaves=(leaf,), statistics=Statistics(SEVENS, 2, 0.0, correlation))], SIZE)
    assert ["split='pages'" in hint for hint in hints] == [True] * said


@pytest.mark.parametrize(("rows_per_range", "said"), [(100, True), (120, True), (150, False), (200, False)])
def test_a_key_that_fills_several_ranges_is_named(rows_per_range: int, said: bool) -> None:
    hint = "About 300 rows have the same key, 7, so that they stay in one range."
    assert hints_of([piece()], RangeSizing(rows_per_range=rows_per_range)) == (hint,) * said


@pytest.mark.parametrize(
    ("leaves", "relation", "said"), [(501, None, True), (500, None, False), (501, ("public", "orders_1"), False)]
)
def test_many_partitions_in_every_range_are_many_locks(leaves: int, relation: Any, said: bool) -> None:
    hints = hints_of([replace(piece(leaves=(LEAF,) * leaves), relation=relation)], SIZE)
    assert ["Every range may lock all 501 partitions" in hint for hint in hints] == [True] * said


def test_a_frequent_first_column_can_be_cut_by_the_second() -> None:
    pair = replace(piece(), key=Key((ID, NUMBER)), sort_key=SortKey((ID, NUMBER)))
    assert hints_of([pair], RangeSizing(rows_per_range=100)) == ()
