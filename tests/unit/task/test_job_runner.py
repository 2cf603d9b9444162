"""The items of a trial."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burla_provider.task.job_runner import spread


@given(st.integers(1, 200), st.integers(2, 200))
def test_the_items_of_a_trial_are_evenly_spread_from_the_first_to_the_last(length: int, count: int) -> None:
    items = list(range(length))
    chosen = spread(items, count)
    assert len(chosen) == min(count, length)
    assert (chosen[0], chosen[-1]) == (0, length - 1)
    steps = {second - first for first, second in itertools.pairwise(chosen)}
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)


@pytest.mark.parametrize(("length", "chosen"), [(1, 0), (2, 1), (9, 4), (10, 5)])
def test_a_trial_of_one_item_takes_the_middle_one(length: int, chosen: int) -> None:
    assert spread(range(length), 1) == [chosen]
