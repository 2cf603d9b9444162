"""No text of a report becomes markup, in whatever field it is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ui.conftest import OpenState
from tests.ui.page_server import make_instance
from tests.ui.states import STATES

pytestmark = pytest.mark.ui

MARKUP = '<img src=x onerror="document.title=1">'
CHOICES = ("state", "kind", "unit", "stage", "part", "name")
"""Fields whose value selects what the page shows: they are replaced in a report of their own."""


def replace_texts(value: Any, *, keep: tuple[str, ...] = ()) -> Any:
    """Return a report with markup instead of each string, keys of ``labels`` excepted."""
    if isinstance(value, str):
        return MARKUP + value
    if isinstance(value, list | tuple):
        return [replace_texts(one, keep=keep) for one in value]
    if isinstance(value, dict):
        return {key: one if key in keep else replace_texts(one, keep=keep) for key, one in value.items()}
    return value


@pytest.mark.parametrize("keep", [CHOICES, ("kind",), ()], ids=["texts", "texts-and-names", "everything"])
@pytest.mark.parametrize("name", ["failed", "isolating", "success", "second-try", "waiting-for-a-node", "map"])
def test_no_text_of_a_report_becomes_markup(open_state: OpenState, name: str, keep: tuple[str, ...]) -> None:
    state = STATES[name]()
    page = open_state(replace_texts(state.report, keep=keep), state.instance, earlier=state.earlier)
    page.locator("#report").wait_for()
    for summary in page.locator("#report summary:visible").all():
        summary.click()
    for bar in page.locator("#timeline .bar").all()[:1]:
        bar.click()
    assert page.locator("img").count() == 0
    assert page.title() == "Ranges"
    if keep == CHOICES:
        assert page.locator("main").inner_text().count(MARKUP) > 5


def test_the_fields_of_a_task_instance_do_not_become_markup(open_state: OpenState) -> None:
    page = open_state(None, make_instance("success", operator_name=MARKUP))
    page.get_by_text("This task has no report. Its operator is").wait_for()
    assert page.locator("img").count() == 0
