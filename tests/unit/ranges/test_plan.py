"""The coverage proof of a plan, its description, and its stored form."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from burla_provider.ranges import Key, KeyRange, PlanCoverageError, RangePlan
from burla_provider.ranges.catalog import Leaf, TableFacts
from burla_provider.ranges.key import CTID, KeyColumn
from burla_provider.ranges.plan import from_record, to_record
from burla_provider.ranges.window import Window

KEY = Key((KeyColumn("id", "bigint"),))
PAIR = Key((KeyColumn("tenant", "integer"), KeyColumn("word", "text")))
WORDS = Key((KeyColumn("word", "text", nullable=True),))


def facts() -> TableFacts:
    leaf = Leaf("public", "orders", "r", "heap", 1000, 10, 10, 81920, 0, True)
    return TableFacts(1, "public", "orders", "r", (), (), (leaf,), False, 160000)


def made(*ends: tuple[str | None, str | None], key: Key = KEY, window: Window | None = None, **more) -> RangePlan:
    ranges = tuple(
        KeyRange(key, index, lower and (lower,), upper and (upper,), expected_rows=10 * index)
        for index, (lower, upper) in enumerate(ends)
    )
    parts = {"relations": (None,), "strategy": "keyset", "reason": "So it is.", "facts": facts(), **more}
    return RangePlan("public", "orders", key, window or Window(includes_nulls=key.nullable), ranges=ranges, **parts)


def with_nulls(plan: RangePlan, number: int = 1) -> RangePlan:
    nulls = (KeyRange(plan.key, len(plan.ranges) + n, nulls=True, expected_rows=n) for n in range(number))
    return replace(plan, ranges=(*plan.ranges, *nulls))


COMPLETE = {
    "everything": made((None, None)),
    "two": made((None, "5"), ("5", None)),
    "a window": made(("1", "5"), ("5", "9"), window=Window(("1",), ("9",))),
    "NULL keys": with_nulls(made((None, "a"), ("a", None), key=WORDS)),
    "NULL keys in the only range": made((None, None), key=WORDS),
    "NULL keys of a frozen window": with_nulls(
        made((None, "a"), key=WORDS, window=Window(upper=("a",), includes_nulls=True))
    ),
    "no range of an empty window": made(window=Window(is_empty=True)),
    "NULL keys of an empty window": with_nulls(made(key=WORDS, window=Window(includes_nulls=True, is_empty=True))),
    "no relation": made(relations=()),
    "an empty range": made((None, "5"), ("5", "5"), ("5", None)),
}
DEFECTIVE = {
    "no range": made(),
    "a gap": made((None, "5"), ("6", None)),
    "an overlap": made((None, "6"), ("5", None)),
    "going down": made((None, "5"), ("5", "3"), ("3", None)),
    "a start too late": made(("1", None)),
    "an end too early": made((None, "9")),
    "an end beyond the window": made(("1", None), window=Window(("1",), ("9",))),
    "open in the middle": made((None, None), (None, None)),
    "no NULL keys": made((None, "a"), ("a", None), key=WORDS),
    "NULL keys twice": with_nulls(made((None, None), key=WORDS)),
    "two ranges of NULL keys": with_nulls(made((None, "a"), ("a", None), key=WORDS), 2),
    "NULL keys in a window": with_nulls(made(("a", "b"), key=WORDS, window=Window(("a",), ("b",)))),
    "a range in an empty window": made((None, None), window=Window(is_empty=True)),
    "a relation missing": made((None, None), relations=(None, ("public", "other"))),
    "a wrong relation": made((None, None), relations=(("public", "other"),)),
    "wrong numbers": replace(made((None, None)), ranges=(KeyRange(KEY, 1),)),
}


@pytest.mark.parametrize("case", COMPLETE)
def test_a_plan_that_covers_the_window_passes(case: str) -> None:
    COMPLETE[case].verify_coverage()


@pytest.mark.parametrize("case", DEFECTIVE)
def test_a_plan_that_does_not_cover_the_window_fails(case: str) -> None:
    with pytest.raises(PlanCoverageError):
        DEFECTIVE[case].verify_coverage()


def test_the_order_of_text_is_that_of_the_server() -> None:
    plan = with_nulls(made((None, "b"), ("b", "a"), ("a", None), key=WORDS))
    assert plan.verify_coverage() == [[("b",), ("a",)]]


def test_the_order_of_infinity_is_that_of_the_server() -> None:
    days = Key((KeyColumn("day", "date"),))
    assert made((None, "2024-01-01"), ("2024-01-01", "infinity"), ("infinity", None), key=days).verify_coverage() == [
        [("2024-01-01",), ("infinity",)]
    ]


def test_sizes_are_those_of_ranges_of_keys() -> None:
    plan = with_nulls(made((None, "b"), ("b", "c"), ("c", None), key=WORDS))
    plan = replace(plan, ranges=(*plan.ranges[:-1], replace(plan.ranges[-1], expected_rows=10**6)))
    assert plan.as_dict()["rows_per_range"] == {"smallest": 0, "median": 10, "largest": 20}
    assert plan.expected_rows == 10**6 + 30


def test_the_largest_range_comes_first_and_an_unknown_one_before_it() -> None:
    plan = with_nulls(made((None, "5"), ("5", "9"), ("9", None)))
    plan = replace(plan, ranges=(*plan.ranges[:-1], replace(plan.ranges[-1], expected_rows=None)))
    assert [one.index for one in plan.largest_first()] == [3, 2, 1, 0]


def test_only_ranges_that_are_cut_by_pages_need_a_snapshot() -> None:
    assert made((None, "(5,0)"), ("(5,0)", None), key=CTID).needs_snapshot
    assert not made((None, None), key=CTID).needs_snapshot
    assert not COMPLETE["two"].needs_snapshot


def test_a_plan_prints_as_a_short_table() -> None:
    plan = made((None, "5"), ("5", "9"), ("9", None), queries=7, seconds=0.0123, hints=("Do this.",))
    assert str(plan).splitlines() == [
        "table          public.orders",
        "key            id",
        "strategy       keyset: So it is.",
        "ranges         3, about 30 rows",
        "rows per range 0 smallest, 10 median, 20 largest",
        "first          ... <= id < 5",
        "last           9 <= id < ...",
        "planned with   7 queries in 12 ms",
        "hint           Do this.",
    ]


def test_a_plan_without_ranges_prints_too() -> None:
    assert "0, about 0 rows" in str(COMPLETE["no relation"])
    assert "0 smallest, 0 median, 0 largest" in str(COMPLETE["no relation"])


def test_a_plan_of_partitions_names_them() -> None:
    leaf = ("public", "orders_2024")
    plan = made((None, "5"), ("5", None), relations=(leaf, ("public", "orders_2025")), hints=("Do this.",))
    plan = replace(plan, ranges=tuple(replace(one, relation=leaf) for one in plan.ranges), queries=7, seconds=0.123456)
    assert "public.orders, 2 partitions" in str(plan)
    assert "last           5 <= id < ... in public.orders_2024" in str(plan)
    assert plan.as_dict() == {
        "table": "public.orders",
        "key": ["id"],
        "strategy": "keyset",
        "reason": "So it is.",
        "hints": ["Do this."],
        "ranges": 2,
        "partitions": 2,
        "expected_rows": 10,
        "rows_per_range": {"smallest": 0, "median": 5, "largest": 10},
        "lower": None,
        "upper": None,
        "first": ["... <= id < 5 in public.orders_2024", "5 <= id < ... in public.orders_2024"],
        "last": [],
        "needs_snapshot": False,
        "queries": 7,
        "seconds": 0.1235,
    }


def test_a_summary_shows_the_window_and_only_the_beginning_of_long_bounds() -> None:
    fits, long = "a" * 80, "b" * 81
    plan = made((fits, long), key=WORDS, window=Window((fits,), (long,)))
    assert (plan.as_dict()["lower"], plan.as_dict()["upper"]) == (fits, "b" * 80 + "...")
    assert plan.as_dict()["first"] == [f"{fits} <= word < {'b' * 80}..."]


def test_a_summary_is_small_json_however_many_ranges_there_are() -> None:
    long = "x" * 5000
    bounds = [None, *(f"{n:06}{long}" for n in range(2000)), None]
    plan = with_nulls(made(*pairwise(bounds), key=WORDS))
    summary = plan.as_dict()
    assert len(json.dumps(summary)) < 4000
    assert summary["ranges"] == 2002
    assert summary["expected_rows"] == plan.expected_rows
    assert len(summary["first"]) == len(summary["last"]) == 3
    assert summary["last"][-1] == "word IS NULL"


def test_a_summary_names_no_range_twice() -> None:
    summary = made((None, "5"), ("5", "7"), ("7", "8"), ("8", None)).as_dict()
    assert summary["first"] == ["... <= id < 5", "5 <= id < 7", "7 <= id < 8"]
    assert summary["last"] == ["8 <= id < ..."]


def test_a_stored_plan_is_the_same_plan() -> None:
    partition = ("sales", "orders_2024")
    ranges = (
        KeyRange(PAIR, 0, ("1", "a"), ("1", "b"), relation=partition, expected_rows=3),
        KeyRange(PAIR, 1, ("1", "b"), ("2", "a"), relation=partition, expected_rows=7),
    )
    plan = made(key=PAIR, window=Window(("1", "a"), ("2", "a")), relations=(partition,))
    plan = replace(plan, ranges=ranges)
    record = to_record(plan)
    stored = from_record(json.loads(json.dumps(record)))
    assert (stored.schema, stored.table, stored.key, stored.ranges) == ("public", "orders", PAIR, ranges)
    assert stored.largest_first() == plan.largest_first() == [ranges[1], ranges[0]]
    assert stored.as_dict() == plan.as_dict()
    assert str(stored) == str(plan)
    assert to_record(stored) == record
