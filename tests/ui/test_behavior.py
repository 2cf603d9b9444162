"""What a viewer does on the "Ranges" tab: select and copy text, open details, choose a bar. The page refreshes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.ui.conftest import OpenState
from tests.ui.page_server import PageServer, make_instance
from tests.ui.reports import Try
from tests.ui.states import KINDS, STATES, done, fail_18, running

pytestmark = pytest.mark.ui

both_browsers = pytest.mark.parametrize("browser_name", ["chromium", "firefox"])
Refresh = Callable[[Page], None]


@pytest.fixture
def refresh(page_server: PageServer) -> Refresh:
    """``refresh(page)``: wait until the page shows a newer report."""
    numbers = iter(range(1_111_111, 9_999_999, 1_111_111))

    def refresh(page: Page) -> None:
        airflow = page_server.airflow
        number = next(numbers)
        airflow.report = (airflow.report or {}) | {"rows": number}
        expect(figure(page, "Rows")).to_have_text(f"{number:,}")

    return refresh


def figure(page: Page, name: str) -> Locator:
    """The value of a figure at the top of the page."""
    return page.locator("#figures div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def running_with_failures() -> dict[str, Any]:
    return running(failures=fail_18()).as_dict()


@both_browsers
def test_a_selection_survives_refreshes(open_state: OpenState, refresh: Refresh, browser_name: str) -> None:
    page = open_state(running_with_failures(), make_instance("running"))
    message = page.locator("#failures pre").first
    message.wait_for()
    message.evaluate("element => getSelection().selectAllChildren(element)")
    selected = page.evaluate("getSelection().toString()")
    assert "division by zero" in selected
    for _ in range(2):
        refresh(page)
        assert page.evaluate("getSelection().toString()") == selected


@both_browsers
def test_open_details_focus_and_scrolling_survive_refreshes(
    open_state: OpenState, refresh: Refresh, browser_name: str
) -> None:
    page = open_state(running_with_failures(), make_instance("running"))
    summaries = page.locator("#report summary:visible")
    summaries.first.wait_for()
    for index in range(summaries.count()):
        if not summaries.nth(index).evaluate("element => element.parentElement.open"):
            summaries.nth(index).click()
    opened = page.locator("details[open]").count()
    assert opened > 5
    summaries.first.focus()
    tables = page.locator("#timeline .scroll").last
    tables.evaluate("element => { element.scrollTop = 200; }")
    refresh(page)
    expect(page.locator("details[open]")).to_have_count(opened)
    expect(summaries.first).to_be_focused()
    assert tables.evaluate("element => element.scrollTop") == 200


def test_a_new_failure_does_not_close_what_is_open(open_state: OpenState, page_server: PageServer) -> None:
    page = open_state(running(failures={5: KINDS[0]}).as_dict(), make_instance("running"))
    traceback = page.get_by_text("share = paid / (paid - refunded)")
    page.get_by_text("Traceback").click()
    expect(traceback).to_be_visible()
    page_server.airflow.report = running_with_failures()
    expect(page.locator("#failures > ol > li")).to_have_count(3)
    expect(traceback).to_be_visible()


def test_buttons_copy_what_reproduces_a_failure(open_state: OpenState, context: BrowserContext) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    state = STATES["failed"]()
    page = open_state(state.report, state.instance)
    stop_timers(page)
    copied = copy_all(page)
    assert any("ZeroDivisionError: division by zero" in text and "line 41, in digest" in text for text in copied)
    wheres = [one["where"] for group in state.report["failures"]["groups"] for one in group["ranges"]]
    assert any(text.startswith("SELECT") and where in text for text in copied for where in wheres)
    assert any(text.startswith("lower=") for text in copied)
    assert not any("{range}" in text or "{key_range}" in text or "null" in text for text in copied)


def copy_all(page: Page) -> list[str]:
    """Press the first button of each kind, and return what the clipboard then has."""
    page.locator("#failures summary").first.wait_for()
    for summary in page.locator("#failures summary").all():
        summary.click()
    buttons = page.locator("#failures button")
    labels = buttons.all_inner_texts()
    copied = []
    for label in dict.fromkeys(labels):
        button = buttons.nth(labels.index(label))
        button.click()
        expect(button).to_have_text("Copied")
        copied.append(page.evaluate("navigator.clipboard.readText()"))
    return copied


def stop_timers(page: Page) -> None:
    """Let what the page shows for two seconds stay: a busy machine may look later."""
    page.clock.pause_at(time.time() + 1)


def test_without_permission_buttons_copy_by_the_selection(
    open_state: OpenState, context: BrowserContext, page_server: PageServer
) -> None:
    """Browsers deny the clipboard API to pages without TLS and to some frames."""
    context.add_init_script("navigator.clipboard.writeText = () => Promise.reject(new DOMException('denied'));")
    context.grant_permissions(["clipboard-read"])
    state = STATES["failed"]()
    page = open_state(state.report, state.instance)
    stop_timers(page)
    page.get_by_role("button", name="Copy error").first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert "ZeroDivisionError" in page.evaluate("navigator.clipboard.readText()")


def test_a_button_says_that_copying_is_not_allowed(open_state: OpenState, context: BrowserContext) -> None:
    context.add_init_script(
        "navigator.clipboard.writeText = () => Promise.reject(new DOMException('denied'));"
        "document.execCommand = () => false;"
    )
    state = STATES["failed"]()
    page = open_state(state.report, state.instance)
    stop_timers(page)
    page.get_by_role("button", name="Copy error").first.click()
    expect(page.get_by_role("button", name="Copying is not allowed here")).to_be_visible()


@both_browsers
def test_hovering_over_a_bar_shows_its_range_and_error(open_state: OpenState, browser_name: str) -> None:
    page = open_state(running_with_failures(), make_instance("running"))
    page.locator("#timeline .bar.failed").first.hover()
    tip = page.locator(".tip:visible, [role=tooltip]:visible").first
    expect(tip).to_contain_text("range ")
    expect(tip).to_contain_text("<= id <")
    expect(tip).to_contain_text("ip-10-0-0-11:24")
    expect(tip).to_contain_text("Error: ")


def test_an_error_that_lists_the_failures_is_not_shown_twice(open_state: OpenState) -> None:
    page = open_state(STATES["failed"]().report, make_instance("failed"))
    expect(page.locator("#sentence")).to_have_text("18 of 48 ranges failed, with 4 kinds of errors (tolerated: 0).")
    expect(page.locator("#failures h3").first).to_have_text("ZeroDivisionError")
    expect(page.locator("#reason")).to_be_hidden()
    page = open_state(STATES["cluster-unreachable"]().report, make_instance("failed"))
    expect(page.locator("#reason")).to_have_text("httpx.ConnectTimeout: timed out")


def test_few_failures_among_many_ranges_are_visible_in_the_progress_bar(open_state: OpenState) -> None:
    state = STATES["many-ranges-few-failures"]()
    page = open_state(state.report, state.instance)
    failed = page.locator("#progress .failed")
    failed.wait_for()
    box = failed.bounding_box()
    assert box is not None
    assert box["width"] >= 3


def test_a_job_url_that_is_not_http_is_not_a_link(open_state: OpenState) -> None:
    report = done().end("success")
    for job in report["jobs"]:
        job["url"] = "javascript:alert(1)"
    page = open_state(report, make_instance("success"))
    expect(figure(page, "Done")).to_have_text("48 of 48")
    expect(page.locator("a[href^=javascript]")).to_have_count(0)


def test_unknown_row_counts_are_not_shown(open_state: OpenState) -> None:
    page = open_state(done(rows=lambda _: None).end("success"), make_instance("success"))
    expect(figure(page, "Done")).to_have_text("48 of 48")
    expect(page.locator("#report > header")).not_to_contain_text("rows", ignore_case=True)


def test_a_map_shows_inputs_instead_of_ranges(open_state: OpenState) -> None:
    run = Try(40, ago=30, unit="input", title="convert_file")
    run.plan(0)
    run.start()
    run.work(range(40), rows=lambda _: None)
    page = open_state(run.end("success"), make_instance("success", operator_name="BurlaMapOperator"))
    expect(figure(page, "Done")).to_have_text("40 of 40")
    expect(page.locator("#report")).not_to_contain_text("range", ignore_case=True)
    expect(page.locator("#report")).not_to_contain_text("a input", ignore_case=True)


def test_the_report_stays_while_airflow_does_not_respond(open_state: OpenState, page_server: PageServer) -> None:
    page = open_state(running().as_dict(), make_instance("running"))
    shown = figure(page, "Done")
    expect(shown).to_contain_text("of 48")
    page.route("**/api/v2/**", lambda route: route.abort())
    expect(page.locator("#message")).to_have_text("Airflow does not respond. This page tries again every few seconds.")
    expect(shown).to_be_visible()
    page.unroute("**/api/v2/**")
    expect(page.locator("#message")).to_have_text("")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "Your Airflow session has expired. Log in again."),
        (403, "You are not allowed to see this report."),
        (500, "Airflow returned an error (HTTP 500)"),
    ],
)
def test_an_http_error_has_a_message(
    open_state: OpenState, page_server: PageServer, status: int, sentence: str
) -> None:
    page = open_state(running().as_dict(), make_instance("running"))
    figure(page, "Done").wait_for()
    page_server.airflow.status = status
    expect(page.locator("#message")).to_contain_text(sentence)
    expect(page.get_by_role("article")).to_be_visible()
