"""The "Ranges" tab of running, successful and failed jobs."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import DAG, RUN, OpenPage, shoot, task_path, wait_for_state
from tests.ui.test_behavior import figure

pytestmark = pytest.mark.ui

HUNG_TASK = f"/dags/{DAG}/dagRuns/{quote(RUN)}/taskInstances/hung_orders"
TIME = r"(\d{1,2} \w{3,4} )?\d\d:\d\d(:\d\d)?"
"""A time on the page, which has a date unless it is today: shortly before midnight, what is expected is tomorrow."""
HUNG = re.compile(r"range 11 \(\d+ <= id < \d+\)")
MAX_SILENCE = 15
"""Seconds until the tab and the log name a range for which alone the job waits."""


def section(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def test_a_running_job_shows_progress_and_a_finished_one_its_results(
    open_tab: OpenPage, airflow: AirflowServer, gate: Path
) -> None:
    wait_for_state(airflow, "wait_orders", "running")
    page = open_tab("wait_orders")
    expect(page.get_by_role("heading", name="public.steady")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Running")
    progress = page.get_by_role("progressbar", name="Progress")
    expect(progress).to_have_attribute("aria-valuetext", "40 of 64 ranges done, 0 failed")
    expect(figure(page, "Done")).to_have_text("40 of 64")
    expect(figure(page, "Failed")).to_have_text("none so far")
    expect(figure(page, "Expected end")).to_have_text(
        re.compile(rf"about {TIME}, in .+|later than {TIME}|not known yet")
    )
    expect(section(page, "Running now").get_by_role("row")).to_have_count(5)
    shoot(page, "running")
    (gate / "open").touch()
    expect(page.locator("#state")).to_have_text("Finished")
    expect(figure(page, "Done")).to_have_text("64 of 64")
    expect(figure(page, "Rows")).to_have_text("64,000")
    expect(section(page, "Running now")).to_be_hidden()


def test_a_skewed_job_shows_the_skew(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_tab("digest_orders")
    expect(section(page, "Balance")).to_contain_text(
        re.compile(
            r"The largest range has 7\.\d times as many rows as the median\. "
            r"The slowest range took .+ times as long as the median"
        )
    )
    expect(section(page, "Timeline")).to_contain_text("Each bar is one range")
    expect(page.locator("#timeline .track .bar")).to_have_count(64)
    expect(page.locator("#slowest tbody tr")).to_have_count(12)
    # Not always the first: on a busy machine, another range may have waited longer for a processor.
    largest = page.locator("#slowest tbody tr", has_text=re.compile(r"range 17 \(\d+ <= id < \d+\)"))
    expect(largest).to_contain_text("× median")
    widths = page.locator("#slowest tbody .bar").evaluate_all("bars => bars.map((bar) => parseFloat(bar.style.width))")
    assert len(widths) == 12
    assert widths == sorted(widths, reverse=True)
    expect(page.locator("#plan")).to_contain_text("width")
    shoot(page, "finished")


def test_a_failed_job_shows_the_failed_ranges_and_their_errors(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "check_orders", "failed")
    page = open_tab("check_orders")
    expect(page.locator("#state")).to_have_text("Failed")
    groups = page.locator("#failures > ol > li")
    expect(groups).to_have_count(2)
    expect(groups.nth(0)).to_contain_text("2 ranges")
    expect(groups.nth(1)).to_contain_text(re.compile(r"range 30 \(\d+ <= id < \d+\)"))
    expect(groups.nth(1)).to_contain_text("SQLSTATE 22012")
    expect(groups.nth(1)).to_contain_text("division by zero")
    expect(page.locator("#timeline .bar.failed")).to_have_count(3)
    shoot(page, "failed")


def test_a_task_that_waits_for_a_retry_says_when_and_what(open_tab: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "retry_orders", "up_for_retry")
    page = open_tab("retry_orders")
    sentence = page.locator("#sentence")
    expect(sentence).to_contain_text(re.compile(f"Retry at {TIME}"))
    expect(sentence).to_contain_text("try 2 of 2")
    expect(sentence).to_contain_text("3 ranges")
    expect(page.get_by_role("heading", name="3 ranges failed")).to_be_visible()
    shoot(page, "waits-for-retry")


def test_a_range_that_hangs_is_named_in_tab_and_log(open_tab: OpenPage, airflow: AirflowServer, gate: Path) -> None:
    (gate / "open").touch()
    (gate / "hang").touch()
    wait_for_state(airflow, "hung_orders", "running")
    airflow.wait_for("the other ranges to end", lambda: len(list(gate.glob("ended-*"))) == 47, 300)
    alone = max(file.stat().st_mtime for file in gate.glob("ended-*"))
    named = airflow.wait_for("the report to name the range", lambda: time_of_report(airflow), 120)
    assert named - alone <= MAX_SILENCE
    logged = airflow.wait_for("the log to name the range", lambda: time_in_log(airflow), 120)
    assert logged - alone <= MAX_SILENCE

    page = open_tab("hung_orders")
    expect(figure(page, "Done")).to_have_text("47 of 48")
    expect(page.locator("#sentence")).to_have_text(
        re.compile(f"waits for {HUNG.pattern} on .+, which has been running")
    )
    row = section(page, "Running now").get_by_role("row").nth(1)
    expect(row).to_contain_text(HUNG)
    expect(row).to_contain_text("slow")
    shoot(page, "hung")
    (gate / "hung").touch()
    expect(page.locator("#state")).to_have_text("Finished")


def time_of_report(airflow: AirflowServer) -> float | None:
    """When the stored report was made, on the task's clock, if it marks the range that hangs; None: it does not."""
    entry = airflow.find(f"{HUNG_TASK}/state-store/burla_report")
    report = entry and (json.loads(entry["value"]) if isinstance(entry["value"], str) else entry["value"])
    is_named = report and any(one["is_slow"] and HUNG.match(one["item"]) for one in report["in_flight"]["listed"])
    return report["updated"] if is_named else None


def time_in_log(airflow: AirflowServer) -> float | None:
    """When the log first named the range that hangs, on the task's clock; None: it does not."""
    content = airflow.call("GET", f"{HUNG_TASK}/logs/1?full_content=true")["content"]
    times = [entry["timestamp"] for entry in content if HUNG.search(entry["event"]) and entry.get("timestamp")]
    return datetime.fromisoformat(times[0]).timestamp() if times else None


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


def test_a_missing_table_is_named(open_tab: OpenPage, airflow: AirflowServer) -> None:
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
    summary = page.locator("summary", has_text="Timeline as tables")
    page.get_by_role("listbox", name="Timeline").focus()
    page.keyboard.press("Tab")
    expect(summary).to_be_focused()
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
