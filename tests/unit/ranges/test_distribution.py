"""Where to cut for ranges of equal size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from burla_provider.ranges.distribution import Distribution, HistogramBound
from burla_provider.ranges.key import KeyColumn
from burla_provider.ranges.ordinals import axis_of

AXIS = axis_of(KeyColumn("id", "bigint"))


def knot(place: int, gap: float = 0.0, mass: float = 0.0) -> HistogramBound:
    return HistogramBound((str(place),), place, mass, gap)


def distribution(*knots: HistogramBound, axis=AXIS) -> Distribution:
    return Distribution(knots, axis)


def cuts(shape: Distribution, count: int) -> list[tuple[str, float]]:
    return [(cut.bound[0], cut.before) for cut in shape.cuts(count)]


def test_an_even_gap_is_cut_into_equal_stretches() -> None:
    assert cuts(distribution(knot(0, 100), knot(1000)), 4) == [("250", 25), ("500", 50), ("750", 75)]


def test_a_dense_stretch_gets_more_cuts() -> None:
    shape = distribution(knot(0, 100), knot(1000, 100), knot(1500, 100), knot(2000))
    assert cuts(shape, 6) == [("500", 50), ("1000", 100), ("1250", 150), ("1500", 200), ("1750", 250)]


def test_a_gap_beside_a_much_denser_one_is_not_cut_inside() -> None:
    shape = distribution(knot(0, 100), knot(10_000, 100), knot(10_100))
    assert cuts(shape, 2) == [("10000", 100)]
    # 1.5 gaps a range: the cut goes to where the number of rows is known.
    assert cuts(distribution(knot(0, 50), knot(5_000, 50), knot(10_000, 50), knot(10_010)), 2) == [("5000", 50)]
    assert cuts(distribution(knot(0, 50), knot(9_000, 50), knot(9_010, 50), knot(9_020)), 2) == [("9000", 50)]


def test_a_gap_with_more_rows_than_a_range_is_cut_however_uneven() -> None:
    shape = distribution(knot(0, 100), knot(10_000, 100), knot(10_100))
    assert cuts(shape, 4) == [("5000", 50), ("10000", 100), ("10050", 150)]


def test_without_an_axis_cuts_are_at_known_keys_only() -> None:
    shape = distribution(*(knot(place, 10) for place in range(10)), knot(10), axis=None)
    assert cuts(shape, 4) == [("2", 20), ("5", 50), ("7", 70)]


def test_a_frequent_key_is_cut_off_on_both_sides() -> None:
    assert [place for place, _ in cuts(distribution(knot(0, 10), knot(50, 10, mass=80), knot(100)), 10)] == ["50", "51"]


def test_no_cut_leaves_a_range_without_rows() -> None:
    assert cuts(distribution(knot(0, mass=5), knot(7, mass=5)), 50) == [("7", 5)]


def test_a_gap_is_cut_no_finer_than_its_keys_are_apart() -> None:
    assert [place for place, _ in cuts(distribution(knot(0, 100), knot(3)), 50)] == ["1", "2"]


def test_a_gap_of_two_places_can_be_cut_once() -> None:
    assert cuts(distribution(knot(0, 100), knot(2)), 2) == [("1", 50)]


@pytest.mark.parametrize(("dense", "inside"), [(700, True), (850, False)])
def test_gaps_of_about_one_density_are_cut_inside(dense: int, inside: bool) -> None:
    shape = distribution(knot(0, 100), knot(100, 100), knot(200, dense), knot(300))
    assert (cuts(shape, 6)[0][0] not in ("0", "100", "200")) is inside


def test_nothing_is_cut_where_there_are_no_rows() -> None:
    assert cuts(distribution(knot(0), knot(100)), 4) == []


def test_settled_cuts_are_the_knots() -> None:
    shape = Distribution((knot(0, 10), knot(10, 30), knot(40, 1)), AXIS, settled=True)
    assert cuts(shape, 50) == [("10", 10), ("40", 40)]


def test_other_columns_have_their_least_value_in_a_cut() -> None:
    shape = Distribution((knot(0, 10), knot(100)), AXIS, suffix_bounds=("-infinity",))
    assert [cut.bound for cut in shape.cuts(2)] == [("50", "-infinity")]


def test_places_that_no_float_can_hold_are_exact() -> None:
    start, end = -(2**63), 2**63 - 1
    [(middle, _)] = cuts(distribution(knot(start, 10), knot(end)), 2)
    assert int(middle) == start + (end - start) // 2


@pytest.mark.parametrize(("place", "rows"), [(-5, 0), (0, 0), (1, 21), (50, 70), (100, 120), (101, 121), (900, 125)])
def test_rows_before_a_place_are_known(place: int, rows: float) -> None:
    shape = distribution(knot(0, 100, mass=20), knot(100, 4, mass=1), knot(500))
    assert shape.rows_before([place])[0] == pytest.approx(rows, abs=0.1)


def test_scaling_keeps_the_shape() -> None:
    shape = distribution(knot(0, 10, mass=10), knot(100)).scaled(200)
    assert (shape.rows, shape.knots[0].mass, shape.knots[0].gap) == (200, 100, 100)


KNOTS = st.lists(
    st.tuples(st.integers(0, 1000), st.floats(0, 100), st.floats(0, 100)), min_size=1, unique_by=lambda knot: knot[0]
).map(lambda knots: tuple(knot(*parts) for parts in sorted(knots)))


@given(KNOTS, st.integers(1, 100), st.booleans())
@example((knot(0, mass=5e-324),), 2, True)
def test_cuts_always_go_up_and_stay_inside(knots: tuple[HistogramBound, ...], count: int, countable: bool) -> None:
    shape = Distribution(knots, AXIS if countable else None)
    made = shape.cuts(count)
    places = [int(cut.bound[0]) for cut in made]
    assert all(earlier < later for earlier, later in pairwise(places))
    assert all(knots[0].place < place <= knots[-1].place for place in places)
    assert all(earlier.before < later.before for earlier, later in pairwise(made))
    assert all(0 < cut.before < shape.rows for cut in made)
    assert shape.least_cuts(count) <= len(made) < count


def test_how_many_cuts_there_will_be_is_known_without_them() -> None:
    wide, narrow = distribution(knot(0, 10**9), knot(10**12)), distribution(knot(0, 10**9), knot(1000))
    assert wide.least_cuts(10**8) == pytest.approx(10**8, rel=1e-6)
    assert narrow.least_cuts(10**8) == pytest.approx(1000, rel=0.01)
    # Few keys, however many rows.
    assert distribution(knot(0, 0, 10**9), knot(10, 0, 10**9)).least_cuts(10**8) == 0


def test_a_gap_has_no_more_cuts_than_places_inside() -> None:
    # Of nine places (101 to 109), those of three goals next to the knots may be at the knots, or none.
    assert distribution(knot(100, 1000), knot(110)).least_cuts(100) == 9 - 3
    assert distribution(knot(100), knot(110, 1000)).least_cuts(100) == 0
