"""How many failed items are tolerated."""

from __future__ import annotations

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.task.failure_policy import allowance


@pytest.mark.parametrize(
    ("tolerated", "count"), [("0.57%", 57), (" 1.13 % ", 113), ("100%", 10_000), (5, 5), ("7", 7), (0, 0)]
)
def test_a_percentage_of_items_is_exact(tolerated: int | str, count: int) -> None:
    assert allowance(tolerated, 10_000) == count


@pytest.mark.parametrize("tolerated", ["nan%", "inf%", "-1%", "100.1%", "1e999999999%", "%", "", "1.5", -1, None])
def test_what_is_no_number_of_items_is_refused(tolerated: object) -> None:
    with pytest.raises(InvalidParameterError, match="tolerated_failures: must be a number of items or a percentage"):
        allowance(tolerated, 10_000)  # type: ignore[arg-type]
