"""The timeline and the other charts of the "Ranges" tab: how they are used, and what their numbers are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from burla_provider.task.result_values import result_part
from tests.ui.conftest import OpenState
from tests.ui.page_server import PageServer, make_instance
from tests.ui.reports import Try
from tests.ui.states import STATES, State

pytestmark = pytest.mark.ui

# The contrast of two colors, by WCAG. Colors are drawn on a canvas, because computed colors can be in any color space.
CONTRAST = """
([element, ground]) => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const luminance = (color) => {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    const [red, green, blue] = [...context.getImageData(0, 0, 1, 1).data]
      .map((part) => part / 255)
      .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [one, other] = [element, ground].map((part) => luminance(getComputedStyle(part).backgroundColor));
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}
"""


def show(open_state: OpenState, state: State, **options: Any) -> Page:
    page = open_state(state.report, state.instance, earlier=state.earlier, **options)
    page.locator("#report").wait_for()
    return page


both_browsers = pytest.mark.parametrize("browser_name", ["chromium", "firefox"])


def lanes(page: Page) -> Locator:
    return page.get_by_role("listbox", name="Timeline")


def pin(page: Page) -> Locator:
    return page.get_by_role("region", name="Selected on the timeline")


def wait_for_a_refresh(page: Page) -> None:
    """Wait until the page has read another report, and shown it."""
    with page.expect_response("**/burla_report*"):
        pass
    page.wait_for_timeout(200)


@both_browsers
def test_a_click_pins_a_bar_until_escape(open_state: OpenState, page_server: PageServer, browser_name: str) -> None:
    page = show(open_state, STATES["running"]())
    expect(pin(page)).to_be_hidden()
    bar = lanes(page).get_by_role("option", name=re.compile("range 7 .*rows in"))
    bar.click()
    expect(pin(page)).to_contain_text("range 7 (1093750 <= id < 1250000)")
    expect(pin(page)).to_contain_text("ip-10-0-0-11:240")
    expect(pin(page)).to_contain_text(re.compile(r"\d s, \d\.\d × median"))
    expect(bar).to_have_attribute("aria-selected", "true")
    page_server.airflow.report = STATES["running"]().report
    wait_for_a_refresh(page)
    expect(pin(page)).to_contain_text("range 7 (1093750 <= id < 1250000)")
    page.keyboard.press("Escape")
    expect(pin(page)).to_be_hidden()
    expect(bar).to_have_attribute("aria-selected", "false")


def test_a_pinned_range_in_progress_becomes_the_finished_one(open_state: OpenState, page_server: PageServer) -> None:
    state = STATES["running"]()
    page = show(open_state, state)
    page.locator("#timeline .bar.open").first.click()
    expect(pin(page)).to_contain_text("in progress")
    title = pin(page).get_by_role("heading").inner_text()
    page_server.airflow.show(STATES["success"]().report, state.instance)
    expect(pin(page)).not_to_contain_text("in progress")
    expect(pin(page).get_by_role("heading")).to_have_text(title)


def test_the_pin_of_a_failed_range_shows_its_error(open_state: OpenState) -> None:
    page = show(open_state, STATES["failed"]())
    page.locator("#timeline .bar.failed").first.click()
    expect(pin(page)).to_contain_text("failed")
    expect(pin(page).locator("pre")).to_contain_text(re.compile(r"\w+Error: .+|NumericValueOutOfRange: .+"))


def test_hovering_over_a_bar_shows_its_keys_and_its_error(open_state: OpenState) -> None:
    page = show(open_state, STATES["failed"]())
    page.locator("#timeline .bar.failed").first.hover()
    expect(page.locator(".tip")).to_contain_text(re.compile(r"range \d+ \(.*id.*\)"))
    expect(page.locator(".tip .error")).not_to_be_empty()
    page.mouse.move(1, 1)
    expect(page.locator(".tip")).to_be_hidden()


@both_browsers
def test_the_timeline_is_one_tab_stop_with_arrow_keys(open_state: OpenState, browser_name: str) -> None:
    page = show(open_state, STATES["running"]())
    expect(page.locator("#timeline .bar[tabindex]")).to_have_count(0)
    lanes(page).focus()

    def active() -> Any:
        return page.locator(f"#{lanes(page).get_attribute('aria-activedescendant')}").bounding_box()

    page.keyboard.press("ArrowRight")
    first = active()
    page.keyboard.press("ArrowRight")
    second = active()
    assert (second["x"] > first["x"], second["y"]) == (True, first["y"])
    page.keyboard.press("ArrowDown")
    assert active()["y"] > second["y"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert active() == first
    page.keyboard.press("Enter")
    expect(pin(page)).to_be_visible()
    wait_for_a_refresh(page)
    expect(lanes(page)).to_be_focused()
    page.keyboard.press("Enter")
    expect(pin(page)).to_be_hidden()


def test_a_range_in_progress_lasts_until_now(open_state: OpenState) -> None:
    page = show(open_state, STATES["hung-range"]())
    bar, track = (
        page.locator("#timeline .bar.open.slow").bounding_box(),
        page.locator("#timeline .track").first.bounding_box(),
    )
    assert bar is not None
    assert track is not None
    assert bar["x"] + bar["width"] == pytest.approx(track["x"] + track["width"], abs=3)
    assert bar["width"] > track["width"] / 2


def test_trial_and_main_part_are_marked(open_state: OpenState) -> None:
    state = STATES["after-a-trial"]()
    assert state.report is not None
    timeline = state.report["timeline"]
    timeline["trial_until"] = timeline["start"] + timeline["seconds"] / 4
    parts = show(open_state, state).locator("#timeline .parts")
    expect(parts).to_contain_text("Trial")
    expect(parts).to_contain_text("Main part")
    expect(show(open_state, STATES["running"]()).locator("#timeline .parts")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_bars_of_few_rows_can_be_seen(open_state: OpenState, theme: str) -> None:
    state = STATES["success"]()
    assert state.report is not None
    spans = state.report["timeline"]["spans"]
    spans[0][4], spans[1][4] = 1, 10_000_000
    page = show(open_state, state)
    page.emulate_media(color_scheme=theme)
    for item in (spans[0][3], spans[1][3]):
        bar = page.locator(f"#mark-{item}")
        ground = bar.locator("..")
        assert page.evaluate(CONTRAST, [bar.element_handle(), ground.element_handle()]) >= 3


def test_a_cell_says_how_many_ranges_ended_and_failed(open_state: OpenState) -> None:
    page = show(open_state, STATES["many-ranges"]())
    page.locator("#timeline .bar.some-failed").first.click()
    expect(pin(page)).to_contain_text(re.compile(r"Ended\s*[\d,]+ ranges?"))
    expect(pin(page)).to_contain_text(re.compile(r"Failed\s*[\d,]+ ranges?"))


def test_the_activity_has_the_time_axis_of_the_timeline(open_state: OpenState) -> None:
    for width in (1440, 390):
        page = show(open_state, STATES["running"](), width=width)
        chart = page.get_by_role("img", name="Rows/s over time")
        expect(page.get_by_role("img", name="Busy workers over time")).to_be_visible()
        track = page.locator("#timeline .track").first.bounding_box()
        box = chart.bounding_box()
        assert box is not None
        assert track is not None
        assert (box["x"], box["width"]) == pytest.approx((track["x"], track["width"]), abs=1)


def test_the_time_budget_adds_up_to_what_airflow_shows(open_state: OpenState) -> None:
    state = STATES["success"]()
    page = show(open_state, state)
    cells = page.locator("#budget .parts tr").all_inner_texts()
    parts = dict(re.split(r"\s*\t\s*|\n", cell.strip())[:2] for cell in cells)
    unit = {"ms": 0.001, "s": 1.0}
    seconds = {name: float(text.split()[0]) * unit[text.split()[1]] for name, text in parts.items()}
    queue = seconds.pop("in the queue")
    assert queue == pytest.approx(4, abs=0.01)
    assert sum(seconds.values()) == pytest.approx(state.instance["duration"], abs=0.2)
    sums = page.locator("#budget .sums")
    expect(sums).to_contain_text("Duration in Airflow")
    expect(page.locator("#budget")).to_contain_text(re.compile(r"\d+ % working"))
    widths = page.locator("#budget .stack > *").evaluate_all("parts => parts.map((part) => part.clientWidth)")
    assert min(widths) >= 4


def test_earlier_runs_are_read_once_and_compared(open_state: OpenState, page_server: PageServer) -> None:
    earlier = STATES["success"]().earlier
    assert len(earlier) > 6
    state = STATES["running"]()
    page = open_state(state.report, state.instance, earlier=earlier)
    history = page.get_by_role("region", name="Earlier runs", exact=True)
    expect(history.get_by_role("row")).to_have_count(2 + 6)
    expect(history).to_contain_text(
        re.compile(r"Running for .+ so far\. The last 6 successful runs took .+ \(median\)")
    )
    expect(history.get_by_role("row", name="this run")).to_have_count(1)
    wait_for_a_refresh(page)
    requests = [one for one in page_server.airflow.requests if "~" in one or "xcomEntries" in one]
    assert sum("~" in one for one in requests) == 1
    assert len(requests) == 1 + 6


def test_a_finished_run_is_compared_with_earlier_ones(open_state: OpenState) -> None:
    page = show(open_state, STATES["success"]())
    history = page.get_by_role("region", name="Earlier runs", exact=True)
    expect(history).to_contain_text(re.compile(r"as long as the median of the last 6 successful runs \(.+\)"))
    link = history.get_by_role("link").first
    expect(link).to_have_attribute("href", re.compile(r"^\.\./dags/nightly/runs/.+/tasks/digest_orders/plugin/ranges$"))


def test_without_permission_for_other_runs_there_is_no_comparison(open_state: OpenState, context: Any) -> None:
    context.route("**/dagRuns/~/**", lambda route: route.fulfill(status=403, json={"detail": "no"}))
    with context.expect_event("response", lambda response: "/dagRuns/~/" in response.url):
        page = show(open_state, STATES["success"]())
    page.wait_for_timeout(300)
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator("#message")).to_be_empty()


def test_balanced_ranges_are_one_sentence(open_state: OpenState) -> None:
    page = show(open_state, STATES["success"]())
    balance = page.get_by_role("region", name="Balance")
    expect(balance).to_contain_text(re.compile(r"Balanced: the largest range has \d\.\d × median rows"))
    expect(balance.locator("figure")).to_have_count(0)
    expect(page.locator("#slowest details")).not_to_have_attribute("open", "")


def test_unequal_ranges_are_shown_with_the_slowest_ones(open_state: OpenState) -> None:
    state = STATES["success"]()
    assert state.report is not None
    state.report["timeline"]["spread"]["seconds"][3] = 40 * state.report["timeline"]["spread"]["seconds"][1]
    page = show(open_state, state)
    expect(page.get_by_role("region", name="Balance")).to_contain_text("The slowest range took 40 times as long")
    expect(page.locator("#distribution figure")).to_have_count(2)
    expect(page.get_by_role("region", name="Slowest ranges, table")).to_be_visible()


def test_the_plan_is_open_if_it_is_the_result(open_state: OpenState) -> None:
    page = show(open_state, STATES["planned"]())
    expect(page.locator("#plan details")).to_have_attribute("open", "")
    expect(page.locator("#plan")).to_contain_text("Rows per range")
    expect(page.locator("#timeline")).to_be_hidden()
    expect(page.locator("#history")).to_be_hidden()


def test_the_result_is_shown_with_its_checks(open_state: OpenState) -> None:
    state = STATES["success"]()
    assert state.report is not None
    verified = "count(*) gives 3 rows too, in the same snapshot."
    state.report["result"] = result_part([("sum_amount", "12.50")], 3, complete=True, verified=verified)
    result = show(open_state, state).get_by_role("region", name="Result")
    expect(result).to_contain_text("sum_amount")
    expect(result).to_contain_text("12.50")
    expect(result).to_contain_text("Complete: every range is in the result.")
    expect(result).to_contain_text("Verified: count(*) gives 3 rows too, in the same snapshot.")
    expect(result).to_contain_text("2 more values are in XCom.")


def test_the_utilization_is_that_of_the_workers_that_existed_at_the_same_time(open_state: OpenState) -> None:
    run = Try(8, ago=30)
    run.plan()
    run.start("trial", 2)
    run.work(range(2), workers=2, seconds=lambda _: 4)
    run.start("rest", 6, starting=0)
    run.work(range(2, 8), workers=2, seconds=lambda _: 4, host="10-0-1")
    state = State(run.end("success", combining=0), make_instance("success"), ())
    assert (state.report or {})["worker_count"] == 4
    page = show(open_state, state)
    expect(page.locator("#activity-note")).to_contain_text("on average, 2.0 of 2 workers")
