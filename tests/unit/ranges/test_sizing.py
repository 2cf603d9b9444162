"""How many ranges a table gets by default."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges.sizing import RangeSizing


@pytest.mark.parametrize(
    ("rows", "row_bytes", "parallelism", "ranges"),
    [
        (0, 0, 8, 1),
        (5_000, 100, 8, 1),
        (14_999, 100, 8, 1),
        (100_000, 100, 8, 10),  # not smaller
        (10_000_000, 100, 2, 24),
        (10_000_000, 100, None, 96),
        (10_000_000, 100, 50, 600),
        (10_000_000_000, 50, 2, 2_000),  # not larger, by rows
        (1_000_000, 100_000, 2, 93),  # not larger, by bytes
        (4_000, 1_000_000, 8, 96),
        (10**12, 100, 8, 100_000),
    ],
)
def test_workers_get_a_dozen_ranges_each_within_limits_of_size(rows, row_bytes, parallelism, ranges) -> None:
    assert RangeSizing(parallelism=parallelism, rows=rows, row_bytes=row_bytes).range_count(rows) == ranges


def test_rows_per_range_counts_rows_that_pass_the_condition() -> None:
    sizing = RangeSizing(rows_per_range=100, rows=10_000, selectivity=0.25)
    assert sizing.target == 400
    assert sizing.range_count(10_000) == 25


def test_an_estimate_that_no_row_passes_does_not_make_ranges_huge() -> None:
    assert RangeSizing(rows_per_range=100, rows=10_000, selectivity=0.0).target == 1000


def test_parts_of_a_table_share_its_ranges() -> None:
    sizing = RangeSizing(ranges=10, rows=1000)
    assert [sizing.ranges_for(rows) for rows in (0, 10, 500, 490)] == [1, 1, 5, 5]


def test_a_range_has_at_least_one_row() -> None:
    assert replace(RangeSizing(ranges=10), rows=3).target == 1


@pytest.mark.parametrize("name", ["rows_per_range", "ranges", "parallelism", "max_ranges"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "7", True])
def test_only_positive_integers_are_accepted(name: str, value: object) -> None:
    with pytest.raises(
        InvalidParameterError, match=f"{name}: must be a positive integer, got {re.escape(repr(value))}"
    ):
        RangeSizing(**{name: value})


def test_too_many_ranges_are_refused_without_advice_that_operators_cannot_follow() -> None:
    with pytest.raises(InvalidParameterError) as error:
        RangeSizing(ranges=200_000)
    problem = "ranges: the plan would have at least 200,000 ranges, and the maximum is 100,000."
    assert str(error.value) == f"{problem} Use fewer or larger ranges."
