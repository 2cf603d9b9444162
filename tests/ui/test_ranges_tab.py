"""The "Ranges" tab of running, successful and failed jobs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import OpenPage, shoot, task_path, wait_for_state

pytestmark = pytest.mark.ui

LOOKS = [(1200, "light"), (1200, "dark"), (600, "light"), (600, "dark")]


def section(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def figure(page: Page, name: str) -> Locator:
    """The value of a figure at the top of the page."""
    return page.locator("#figures div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def expect_no_sideways_scrolling(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0


def test_a_running_job_shows_progress_and_a_finished_one_its_results(
    open_tab: OpenPage, airflow: AirflowServer, gate: Path
) -> None:
    page = open_tab("wait_orders")
    expect(page.get_by_role("heading", name="public.steady")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="Running")).to_be_visible()
    progress = page.get_by_role("progressbar", name="Progress")
    expect(progress).to_have_attribute("aria-valuetext", "40 of 64 ranges done, 0 failed")
    expect(figure(page, "Remaining")).to_have_text("24")
    expect(figure(page, "Failed")).to_have_text("none so far")
    expect(figure(page, "Expected end")).to_have_text(re.compile(r"\d\d:\d\d:\d\d, in .+|any moment"))
    shoot(page, "running-1200-light")
    for width, theme in LOOKS[1:]:
        other = open_tab("wait_orders", width=width, theme=theme)
        expect(figure(other, "Remaining")).to_have_text("24")
        shoot(other, f"running-{width}-{theme}")

    (gate / "open").touch()
    expect(page.get_by_role("status").filter(has_text="Finished")).to_be_visible()
    expect(figure(page, "Done")).to_have_text("64 of 64")
    expect(figure(page, "Rows")).to_have_text("64,000")
    expect(figure(page, "Remaining")).to_have_count(0)


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_a_skewed_job_shows_the_skew(open_tab: OpenPage, airflow: AirflowServer, width: int, theme: str) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders", width=width, theme=theme)
    expect(section(page, "Distribution of the ranges")).to_contain_text(
        re.compile(
            r"The largest range has 7\.\d times as many rows as the median\. "
            r"The slowest range took .+ times as long as the median"
        )
    )
    expect(section(page, "Timeline")).to_contain_text("Each bar is one range")
    expect(page.locator("#timeline .track .bar")).to_have_count(64)
    slowest = section(page, "Slowest ranges").get_by_role("row")
    expect(slowest).to_have_count(13)
    expect(slowest.nth(1)).to_contain_text(re.compile(r"range 17 \(\d+ <= id < \d+\)"))
    expect(section(page, "Plan")).to_contain_text("width")
    expect_no_sideways_scrolling(page)
    shoot(page, f"finished-{width}-{theme}")


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_a_failed_job_shows_the_failed_ranges_and_their_errors(
    open_tab: OpenPage, airflow: AirflowServer, width: int, theme: str
) -> None:
    wait_for_state(airflow, "check_orders", "failed")
    page = open_tab("check_orders", width=width, theme=theme)
    expect(page.get_by_role("status").filter(has_text="Failed")).to_be_visible()
    failures = section(page, "3 ranges failed").get_by_role("listitem")
    expect(failures).to_have_count(3)
    expect(failures.nth(0)).to_contain_text(re.compile(r"range 5 \(\d+ <= id < \d+\)"))
    expect(failures.nth(2)).to_contain_text("SQLSTATE 22012")
    expect(failures.nth(2)).to_contain_text("division by zero")
    expect(page.locator("#timeline .bar.failed")).to_have_count(3)
    expect_no_sideways_scrolling(page)
    shoot(page, f"failed-{width}-{theme}")


def test_a_task_that_waits_for_a_retry_shows_the_last_try(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "retry_orders", "up_for_retry")
    page = open_tab("retry_orders")
    expect(
        page.get_by_text("This report is from an earlier try of the task. The next try has not reported yet.")
    ).to_be_visible()
    expect(section(page, "3 ranges failed").get_by_role("listitem")).to_have_count(3)
    shoot(page, "waits-for-retry")


def test_the_text_of_an_error_is_text_and_not_markup(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "check_orders", "failed")
    page = open_tab("check_orders")
    expect(page.get_by_text('is <img src=x onerror="alert(1)">, not an amount').first).to_be_visible()
    expect(page.locator("img")).to_have_count(0)


def test_the_timeline_can_be_read_as_tables_without_a_mouse(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders")
    summary = page.get_by_text("Timeline as tables")
    expect(summary).to_be_visible()
    page.keyboard.press("Tab")
    expect(summary).to_be_focused()
    page.keyboard.press("Enter")
    workers = page.get_by_role("region", name="Workers, table").get_by_role("row")
    expect(workers.nth(0)).to_have_text(re.compile("Worker.*ranges.*Rows.*Busy time"))
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Workers, table")).to_be_focused()
    expect(page.get_by_role("region", name="Timeline, table").get_by_role("row")).to_have_count(65)


def test_hovering_over_a_bar_shows_its_range(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders")
    page.locator("#timeline .bar").first.hover()
    expect(page.locator(".readout")).to_have_text(
        re.compile(r"range \d+ done: [\d,]+ rows in .+, started after .+, worker .+:\d+")
    )


def test_the_tab_of_a_task_instance_follows_airflows_theme(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders"))
    page.get_by_role("link", name="Ranges").click()
    inside = page.frame_locator("iframe[title=Ranges]")
    expect(inside.get_by_role("heading", name="public.orders")).to_be_visible()
    expect(inside.locator("html")).to_have_css("color-scheme", "light")
    shoot(page, "tab-in-airflow-light", full=False)
    page.evaluate("localStorage.setItem('theme', 'dark')")
    expect(inside.locator("html")).to_have_css("color-scheme", "dark")


def test_in_dark_airflow_the_tab_is_dark(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders", "/plugin/ranges"), theme="dark")
    inside = page.frame_locator("iframe[title=Ranges]")
    expect(inside.get_by_role("heading", name="public.orders")).to_be_visible()
    expect(inside.locator("html")).to_have_css("color-scheme", "dark")
    shoot(page, "tab-in-airflow-dark", full=False)


def test_a_mapped_task_shows_the_requested_instance(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "count_table", "success")
    for map_index, table in enumerate(["public.orders", "public.steady"]):
        page = open_tab("count_table", map_index)
        expect(page.get_by_role("heading", name=table)).to_be_visible()
