"""Numbers and tables in messages."""

from __future__ import annotations

import pytest

from burla_provider.database.wording import not_found, quantity


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(0, "range", "0 ranges"), (1, "range", "1 range"), (1.4, "row", "1 row"), (1200, "query", "1,200 queries")],
)
def test_one_thing_is_in_the_singular(count: float, noun: str, text: str) -> None:
    assert quantity(count, noun) == text


def test_a_table_that_is_not_found_is_named_with_its_database() -> None:
    assert not_found("ordes", "postgres") == '"ordes" not found in database postgres.'
    assert not_found('"Sales"."Ordes"', "postgres") == '"Sales"."Ordes" not found in database postgres.'
