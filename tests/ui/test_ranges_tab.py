"""The "Ranges" tab of running, successful and failed jobs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import DAG, RUN, OpenPage, shoot, task_path, wait_for_state
from tests.ui.test_behavior import figure

pytestmark = pytest.mark.ui

LOOKS = [(1200, "light"), (1200, "dark"), (600, "light"), (600, "dark")]


def section(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def expect_no_sideways_scrolling(page: Page) -> None:
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0


def test_a_running_job_shows_progress_and_a_finished_one_its_results(
    open_tab: OpenPage, airflow: AirflowServer, gate: Path
) -> None:
    page = open_tab("wait_orders")
    expect(page.get_by_role("heading", name="public.steady")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Running")
    progress = page.get_by_role("progressbar", name="Progress")
    expect(progress).to_have_attribute("aria-valuetext", "40 of 64 ranges done, 0 failed")
    expect(figure(page, "Done")).to_have_text("40 of 64")
    expect(figure(page, "Failed")).to_have_text("none so far")
    expect(section(page, "Running now").get_by_role("row")).to_have_count(5)
    shoot(page, "running-1200-light")
    for width, theme in LOOKS[1:]:
        other = open_tab("wait_orders", width=width, theme=theme)
        expect(figure(other, "Done")).to_have_text("40 of 64")
        shoot(other, f"running-{width}-{theme}")

    (gate / "open").touch()
    expect(page.locator("#state")).to_have_text("Finished")
    expect(figure(page, "Done")).to_have_text("64 of 64")
    expect(figure(page, "Rows")).to_have_text("64,000")
    expect(section(page, "Running now")).to_be_hidden()


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_a_skewed_job_shows_the_skew(open_tab: OpenPage, airflow: AirflowServer, width: int, theme: str) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders", width=width, theme=theme)
    expect(page.locator("#distribution")).to_contain_text(re.compile(r"7\.\d × (the )?median"))
    expect(section(page, "Timeline")).to_contain_text("Each bar is one range")
    expect(page.locator("#timeline .track .bar")).to_have_count(64)
    expect(page.locator("#slowest tbody tr")).to_have_count(12)
    expect(page.locator("#slowest tbody tr").first).to_contain_text(re.compile(r"range 17 \(\d+ <= id < \d+\)"))
    expect(page.locator("#plan")).to_contain_text("width")
    expect_no_sideways_scrolling(page)
    shoot(page, f"finished-{width}-{theme}")


@pytest.mark.parametrize(("width", "theme"), LOOKS)
def test_a_failed_job_shows_the_failed_ranges_and_their_errors(
    open_tab: OpenPage, airflow: AirflowServer, width: int, theme: str
) -> None:
    wait_for_state(airflow, "check_orders", "failed")
    page = open_tab("check_orders", width=width, theme=theme)
    expect(page.locator("#state")).to_have_text("Failed")
    groups = page.locator("#failures > ol > li")
    expect(groups).to_have_count(2)
    expect(groups.nth(0)).to_contain_text("2 ranges")
    expect(groups.nth(1)).to_contain_text(re.compile(r"range 30 \(\d+ <= id < \d+\)"))
    expect(groups.nth(1)).to_contain_text("SQLSTATE 22012")
    expect(groups.nth(1)).to_contain_text("division by zero")
    expect(page.locator("#timeline .bar.failed")).to_have_count(3)
    expect_no_sideways_scrolling(page)
    shoot(page, f"failed-{width}-{theme}")


def test_a_task_that_waits_for_a_retry_says_when_and_what(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "retry_orders", "up_for_retry")
    page = open_tab("retry_orders")
    sentence = page.locator("#sentence")
    expect(sentence).to_contain_text(re.compile(r"Retry at \d\d:\d\d"))
    expect(sentence).to_contain_text("try 2 of 2")
    expect(sentence).to_contain_text("3 ranges")
    expect(page.get_by_role("heading", name="3 ranges failed")).to_be_visible()
    shoot(page, "waits-for-retry")


def test_a_range_that_hangs_is_named_in_tab_and_log(open_tab: OpenPage, airflow: AirflowServer, gate: Path) -> None:
    (gate / "open").touch()
    name = re.compile(r"range 11 \(\d+ <= id < \d+\)")
    page = open_tab("hung_orders")
    expect(figure(page, "Done")).to_have_text("47 of 48")
    expect(page.locator("#sentence")).to_have_text(name)
    row = section(page, "Running now").get_by_role("row").nth(1)
    expect(row).to_contain_text(name)
    expect(row).to_contain_text("slow")
    shoot(page, "hung")
    path = f"/dags/{DAG}/dagRuns/{quote(RUN)}/taskInstances/hung_orders/logs/1?full_content=true"
    lines = airflow.wait_for("the log to name the range", lambda: slow_lines(airflow.call("GET", path)), 60)
    assert name.search(lines[0])
    (gate / "open-hung").touch()
    expect(page.locator("#state")).to_have_text("Finished")


def slow_lines(log: Any) -> list[str]:
    """The lines of a task's log that are about a slow range."""
    texts = [entry["event"] for entry in log["content"] if isinstance(entry, dict)]
    return [text for text in texts if "range 11" in text]


def test_a_tolerated_failure_is_not_shown_as_a_success(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "tolerate_orders", "success")
    page = open_tab("tolerate_orders")
    expect(page.locator("#state")).to_have_text("Incomplete")
    expect(page.locator("#sentence")).to_contain_text("3 of 48 ranges failed and are not in the result")
    shoot(page, "incomplete")


def test_a_plan_is_the_result_of_plan_only(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "plan_orders", "success")
    page = open_tab("plan_orders")
    expect(page.locator("#state")).to_have_text("Planned")
    expect(page.locator("#plan")).to_contain_text("width")
    shoot(page, "planned")


def test_a_missing_table_is_said(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "miss_table", "failed")
    page = open_tab("miss_table")
    expect(page.locator("#state")).to_have_text("Failed")
    expect(page.locator("#sentence")).to_contain_text('"ordes" not found in database')
    shoot(page, "missing-table")


def test_the_text_of_an_error_is_text_and_not_markup(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "check_orders", "failed")
    page = open_tab("check_orders")
    expect(page.get_by_text('is <img src=x onerror="alert(1)">, not an amount').first).to_be_visible()
    expect(page.locator("img")).to_have_count(0)


def test_the_timeline_can_be_read_as_tables_without_a_mouse(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders")
    summary = page.get_by_text("Timeline as tables")
    summary.focus()
    page.keyboard.press("Enter")
    workers = page.get_by_role("region", name="Workers, table").get_by_role("row")
    expect(workers.nth(0)).to_have_text(re.compile("Worker.*ranges.*Rows.*Busy time", re.IGNORECASE))
    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Workers, table")).to_be_focused()
    expect(page.get_by_role("region", name="Timeline, table").get_by_role("row")).to_have_count(65)


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
