"""Where to cut for ranges of equal size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.ordinals import ordinal_codec

CODEC = ordinal_codec(KeyColumn("id", "bigint"))


def bound(ordinal: int, bucket_rows: float = 0.0, frequency: float = 0.0) -> HistogramBound:
    return HistogramBound((str(ordinal),), ordinal, frequency, bucket_rows)


def distribution_of(*bounds: HistogramBound, codec=CODEC) -> Distribution:
    return Distribution(bounds, codec)


def cuts(distribution: Distribution, count: int) -> list[tuple[str, float]]:
    return [(cut.bound[0], cut.rows_before) for cut in distribution.cuts(count)]


def test_a_bucket_is_cut_into_equal_parts() -> None:
    assert cuts(distribution_of(bound(0, 100), bound(1000)), 4) == [("250", 25), ("500", 50), ("750", 75)]


def test_dense_buckets_get_more_cuts() -> None:
    distribution = distribution_of(bound(0, 100), bound(1000, 100), bound(1500, 100), bound(2000))
    assert cuts(distribution, 6) == [("500", 50), ("1000", 100), ("1250", 150), ("1500", 200), ("1750", 250)]


def test_a_bucket_next_to_a_much_denser_one_is_not_cut_inside() -> None:
    distribution = distribution_of(bound(0, 100), bound(10_000, 100), bound(10_100))
    assert cuts(distribution, 2) == [("10000", 100)]
    # 1.5 buckets per range: the cut is where the number of rows is known.
    assert cuts(distribution_of(bound(0, 50), bound(5_000, 50), bound(10_000, 50), bound(10_010)), 2) == [("5000", 50)]
    assert cuts(distribution_of(bound(0, 50), bound(9_000, 50), bound(9_010, 50), bound(9_020)), 2) == [("9000", 50)]


def test_a_bucket_with_more_rows_than_a_range_is_cut_however_uneven() -> None:
    distribution = distribution_of(bound(0, 100), bound(10_000, 100), bound(10_100))
    assert cuts(distribution, 4) == [("5000", 50), ("10000", 100), ("10050", 150)]


def test_without_a_codec_cuts_are_at_known_keys_only() -> None:
    distribution = distribution_of(*(bound(ordinal, 10) for ordinal in range(10)), bound(10), codec=None)
    assert cuts(distribution, 4) == [("2", 20), ("5", 50), ("7", 70)]


def test_a_frequent_key_is_cut_off_on_both_sides() -> None:
    assert [
        ordinal for ordinal, _ in cuts(distribution_of(bound(0, 10), bound(50, 10, frequency=80), bound(100)), 10)
    ] == ["50", "51"]


def test_no_cut_leaves_a_range_without_rows() -> None:
    assert cuts(distribution_of(bound(0, frequency=5), bound(7, frequency=5)), 50) == [("7", 5)]


def test_a_bucket_is_cut_no_finer_than_its_keys() -> None:
    assert [ordinal for ordinal, _ in cuts(distribution_of(bound(0, 100), bound(3)), 50)] == ["1", "2"]


def test_a_bucket_of_two_keys_can_be_cut_once() -> None:
    assert cuts(distribution_of(bound(0, 100), bound(2)), 2) == [("1", 50)]


@pytest.mark.parametrize(("dense", "inside"), [(700, True), (850, False)])
def test_buckets_of_similar_density_are_cut_inside(dense: int, inside: bool) -> None:
    distribution = distribution_of(bound(0, 100), bound(100, 100), bound(200, dense), bound(300))
    assert (cuts(distribution, 6)[0][0] not in ("0", "100", "200")) is inside


def test_a_distribution_without_rows_is_not_cut() -> None:
    assert cuts(distribution_of(bound(0), bound(100)), 4) == []


def test_fixed_cuts_are_the_bounds() -> None:
    distribution = Distribution((bound(0, 10), bound(10, 30), bound(40, 1)), CODEC, cuts_fixed=True)
    assert cuts(distribution, 50) == [("10", 10), ("40", 40)]


def test_other_columns_have_their_minimum_in_a_cut() -> None:
    distribution = Distribution((bound(0, 10), bound(100)), CODEC, suffix_bounds=("-infinity",))
    assert [cut.bound for cut in distribution.cuts(2)] == [("50", "-infinity")]


def test_ordinals_that_no_float_can_hold_are_exact() -> None:
    start, end = -(2**63), 2**63 - 1
    [(middle, _)] = cuts(distribution_of(bound(start, 10), bound(end)), 2)
    assert int(middle) == start + (end - start) // 2


@pytest.mark.parametrize(("ordinal", "rows"), [(-5, 0), (0, 0), (1, 21), (50, 70), (100, 120), (101, 121), (900, 125)])
def test_rows_before_an_ordinal_are_known(ordinal: int, rows: float) -> None:
    distribution = distribution_of(bound(0, 100, frequency=20), bound(100, 4, frequency=1), bound(500))
    assert distribution.rows_before([ordinal])[0] == pytest.approx(rows, abs=0.1)


def test_scaling_keeps_the_distribution() -> None:
    distribution = distribution_of(bound(0, 10, frequency=10), bound(100)).scaled(200)
    assert (distribution.rows, distribution.bounds[0].frequency, distribution.bounds[0].bucket_rows) == (200, 100, 100)


BOUNDS = st.lists(
    st.tuples(st.integers(0, 1000), st.floats(0, 100), st.floats(0, 100)), min_size=1, unique_by=lambda parts: parts[0]
).map(lambda bounds: tuple(bound(*parts) for parts in sorted(bounds)))


@given(BOUNDS, st.integers(1, 100), st.booleans())
@example((bound(0, frequency=5e-324),), 2, True)
def test_cuts_always_ascend_and_stay_inside(bounds: tuple[HistogramBound, ...], count: int, countable: bool) -> None:
    distribution = Distribution(bounds, CODEC if countable else None)
    made = distribution.cuts(count)
    ordinals = [int(cut.bound[0]) for cut in made]
    assert all(earlier < later for earlier, later in pairwise(ordinals))
    assert all(bounds[0].ordinal < ordinal <= bounds[-1].ordinal for ordinal in ordinals)
    assert all(earlier.rows_before < later.rows_before for earlier, later in pairwise(made))
    assert all(0 < cut.rows_before < distribution.rows for cut in made)
    assert distribution.min_cuts(count) <= len(made) < count


def test_the_minimum_number_of_cuts_is_known_without_making_them() -> None:
    wide, narrow = distribution_of(bound(0, 10**9), bound(10**12)), distribution_of(bound(0, 10**9), bound(1000))
    assert wide.min_cuts(10**8) == pytest.approx(10**8, rel=1e-6)
    assert narrow.min_cuts(10**8) == pytest.approx(1000, rel=0.01)
    # Few keys, however many rows.
    assert distribution_of(bound(0, 0, 10**9), bound(10, 0, 10**9)).min_cuts(10**8) == 0


def test_a_bucket_has_no_more_cuts_than_keys_inside() -> None:
    # Of nine keys (101 to 109), those of three goals next to the bounds may be cut at the bounds, or not at all.
    assert distribution_of(bound(100, 1000), bound(110)).min_cuts(100) == 9 - 3
    assert distribution_of(bound(100), bound(110, 1000)).min_cuts(100) == 0
