"""Reports of many ranges and workers: what the page draws has a limit. ``pytest -s`` prints how long it takes."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import OpenState
from tests.ui.states import STATES

pytestmark = pytest.mark.ui

MAX_NODES = 6_000
"""Elements of the page, with all of its parts closed."""
SHOW = """
async (report) => {
  const { showReport } = await import("/burla/report.js");
  const { currentShape } = await import("/burla/earlier.js");
  const { readIds, readInstance } = await import("/burla/airflow.js");
  const ids = readIds(location.search);
  const instance = await readInstance(ids);
  const began = performance.now();
  showReport(currentShape(report), instance, ids);
  document.body.getBoundingClientRect();
  return performance.now() - began;
}
"""


@pytest.mark.parametrize("browser_name", ["chromium", "firefox"])
@pytest.mark.parametrize("name", ["many-ranges", "many-ranges-few-failures", "thousand-workers"])
def test_what_is_drawn_has_a_limit(open_state: OpenState, name: str, browser_name: str) -> None:
    state = STATES[name]()
    page = open_state(state.report, state.instance)
    expect(page.locator("#timeline")).to_be_visible()
    # A new object each time, as after a request. The first time is in the page's own request.
    milliseconds = [page.evaluate(SHOW, state.report) for _ in range(3)]
    print(f"{name}, {browser_name}: a refresh takes {min(milliseconds):.0f} ms")
    assert page.evaluate("document.querySelectorAll('*').length") < MAX_NODES
    assert page.locator("#timeline .bar").count() <= 900
    assert page.locator("#failures > ol > li").count() <= 50


def test_the_first_display_of_many_ranges(open_state: OpenState) -> None:
    state = STATES["many-ranges"]()
    milliseconds = []
    for _ in range(3):
        page = open_state(None, state.instance)
        page.locator("#message:has-text('no report')").wait_for()
        assert page.locator("#timeline .bar").count() == 0
        milliseconds.append(page.evaluate(SHOW, state.report))
        assert page.locator("#timeline .bar").count() > 100
        expect(page.locator("#failures-title")).to_have_text("500 ranges failed")
        page.close()
    print(f"20,000 ranges, 500 failures: the first display takes {min(milliseconds):.0f} ms")
