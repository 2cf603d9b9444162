"""The ranges of the guide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.exceptions import InvalidParameterError
from burla_provider.ranges import build_id_ranges


def as_in_the_guide(start_id: int, end_id: int, rows_per_range: int) -> list[tuple[int, int]]:
    id_ranges = []
    range_start_id = start_id
    while range_start_id <= end_id:
        range_end_id = min(range_start_id + rows_per_range - 1, end_id)
        id_ranges.append((range_start_id, range_end_id))
        range_start_id = range_end_id + 1
    return id_ranges


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(1, 500))
def test_ranges_are_those_of_the_guide(start_id: int, end_id: int, rows_per_range: int) -> None:
    assert build_id_ranges(start_id, end_id, rows_per_range) == as_in_the_guide(start_id, end_id, rows_per_range)


def test_the_guides_example() -> None:
    ranges = build_id_ranges(start_id=1, end_id=1_000_000, rows_per_range=25_000)
    assert (len(ranges), ranges[0], ranges[-1]) == (40, (1, 25_000), (975_001, 1_000_000))


@pytest.mark.parametrize("rows_per_range", [0, -1])
def test_ranges_without_rows_are_refused(rows_per_range: int) -> None:
    with pytest.raises(InvalidParameterError, match="rows_per_range: "):
        build_id_ranges(1, 10, rows_per_range)
