"""When a job has failed because of its failed items."""

from __future__ import annotations

import pytest

from burla_provider.task.failure_policy import allowance


@pytest.mark.parametrize(
    ("tolerated", "items", "expected"),
    [("0.57%", 10_000, 57), ("1.13 %", 10_000, 113), ("5%", 20, 1), ("100%", 3, 3), (" 7 ", 3, 7), ("0%", 3, 0)],
)
def test_a_percentage_of_items_is_exact(tolerated: str, items: int, expected: int) -> None:
    assert allowance(tolerated, items) == expected
