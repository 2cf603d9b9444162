"""The types of the decorators for tables."""

from __future__ import annotations

from tests.support.decorator_stub import PATH, make_stub


def test_the_decorators_have_the_typed_parameters_of_the_operators() -> None:
    assert PATH.read_text() == make_stub(), "Run: python -m tests.support.decorator_stub"
