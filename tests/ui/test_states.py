"""The "Ranges" tab without a report, and with unusual reports.

The real ``Report`` creates the reports. Airflow's responses are replaced.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from burla_provider.task.report import Report
from burla_provider.worker.outcome import Failure, Outcome
from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import OpenPage, shoot
from tests.ui.test_ranges_tab import figure

pytestmark = pytest.mark.ui

XCOM = "**/xcomEntries/burla_report*"
STORE = "**/state-store/burla_report*"
INSTANCE = "**/taskInstances/not_on_burla"


def test_a_task_without_burla_has_a_message(open_tab: OpenPage, airflow: AirflowServer) -> None:
    page = open_tab("not_on_burla")
    expect(message(page)).to_contain_text("This task does not run on Burla")
    shoot(page, "state-other-task")


def test_an_unknown_task_has_a_message(open_tab: OpenPage) -> None:
    expect(message(open_tab("nobody"))).to_have_text("This task instance does not exist. It may have been deleted.")


def test_a_task_without_report_has_a_message(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla", 7)
    page.route("**/taskInstances/not_on_burla/7", lambda route: answer(route, instance("failed")))
    page.reload()
    expect(message(page)).to_contain_text("This task has no report")


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("queued", "This task has not started yet. It is queued."),
        (None, "This task has not started yet."),
        ("skipped", "This task was skipped, so there is no report."),
        ("running", "No report yet: the task is planning. This page refreshes every few seconds."),
    ],
)
def test_before_there_is_a_report_the_message_says_why(open_tab: OpenPage, state: str | None, sentence: str) -> None:
    page = open_tab("not_on_burla")
    page.route(INSTANCE, lambda route: answer(route, instance(state)))
    page.reload()
    expect(message(page)).to_have_text(sentence)


def test_for_an_earlier_airflow_the_message_says_that_the_report_comes_at_the_end(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    page.route(INSTANCE, lambda route: answer(route, instance("running")))
    page.route("**/api/v2/version", lambda route: answer(route, {"version": "3.1.8", "git_version": None}))
    page.reload()
    expect(message(page)).to_contain_text("Airflow 3.1.8 stores no report of a running task")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "Your Airflow session has expired. Log in again."),
        (403, "You are not allowed to see this report."),
        (500, "Airflow returned an error (HTTP 500)"),
    ],
)
def test_an_http_error_has_a_message(open_tab: OpenPage, status: int, sentence: str) -> None:
    page = open_tab("digest_orders")
    page.route(XCOM, lambda route: route.fulfill(status=status, json={"detail": "no"}))
    page.route(STORE, lambda route: route.fulfill(status=status, json={"detail": "no"}))
    page.reload()
    expect(message(page)).to_contain_text(sentence)
    expect(page.get_by_role("article")).to_be_hidden()


def test_the_report_stays_while_airflow_does_not_respond(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    page.route(INSTANCE, lambda route: answer(route, instance("running")))
    page.route(STORE, lambda route: answer(route, {"value": report_of(6, 10).as_dict("running")}))
    page.reload()
    expect(figure(page, "Remaining")).to_have_text("4")
    page.route("**/api/v2/**", lambda route: route.abort())
    expect(message(page)).to_have_text("Airflow does not respond. This page tries again every few seconds.")
    expect(figure(page, "Remaining")).to_have_text("4")
    shoot(page, "state-no-answer")
    page.unroute("**/api/v2/**")
    expect(message(page)).to_have_text("")


def test_a_task_that_died_is_shown_as_failed(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    show(page, report_of(6, 10).as_dict("running"), state="failed")
    expect(message(page)).to_contain_text("The task ended (failed) without a final report. This was its progress at")
    expect(page.locator("#state")).to_have_text("Failed")


def test_the_report_of_an_earlier_try_has_a_message(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    earlier = report_of(6, 10).as_dict("running") | {"updated": time.time() - 900}
    show(page, earlier, state="running")
    expect(message(page)).to_contain_text("This report is from an earlier try of the task")


def test_a_pause_is_shown_with_its_query(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    pause = {"since": time.time(), "query": "SELECT paused FROM job_control", "seconds": 0}
    show(page, report_of(6, 10).as_dict("running") | {"pause": pause}, state="running")
    expect(figure(page, "Paused")).to_contain_text("while SELECT paused FROM job_control")
    show(page, report_of(10, 10).as_dict("success") | {"pause": pause | {"since": None, "seconds": 75}})
    expect(figure(page, "Paused")).to_contain_text("1 min 15 s, while SELECT paused FROM job_control")


def test_after_a_long_pause_the_message_says_that_the_task_continues(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    pause = {"since": time.time() - 600, "query": "SELECT true", "seconds": 0}
    show(page, report_of(6, 10).as_dict("paused") | {"pause": pause}, state="up_for_reschedule")
    expect(message(page)).to_contain_text("Airflow starts the task again later, and it continues.")
    expect(page.locator("#state")).to_have_text("Paused")


def test_a_report_of_a_newer_provider_is_shown_with_a_warning(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    show(page, report_of(10, 10).as_dict("success") | {"version": 2})
    expect(message(page)).to_contain_text("This report was written by a newer version of the provider")
    expect(figure(page, "Done")).to_have_text("10 of 10")


def test_ranges_of_an_earlier_try_are_counted_separately(open_tab: OpenPage) -> None:
    report = Report("public.orders", 10, str)
    for index in range(4):
        report.resume(outcome(index))
    page = open_tab("not_on_burla")
    show(page, report.as_dict("success"))
    expect(figure(page, "From an earlier try")).to_have_text("4")


def test_unknown_row_counts_are_not_shown(open_tab: OpenPage) -> None:
    report = Report("public.orders", 3, "range {}".format)
    for index in range(3):
        report.add(outcome(index, row_count=None))
    page = open_tab("not_on_burla")
    show(page, report.as_dict("success"))
    expect(figure(page, "Done")).to_have_text("3 of 3")
    expect(page.locator("main")).not_to_contain_text("rows", ignore_case=True)


def test_a_map_shows_inputs_instead_of_ranges(open_tab: OpenPage) -> None:
    report = Report("double", 3, "input {}".format, unit="input")
    for index in range(3):
        report.add(outcome(index, row_count=None))
    page = open_tab("not_on_burla")
    show(page, report.as_dict("success"))
    expect(page.get_by_role("heading", name="Slowest inputs")).to_be_visible()
    expect(figure(page, "Rows")).to_have_count(0)
    expect(page.locator("main")).not_to_contain_text("range", ignore_case=True)


@pytest.mark.parametrize("width", [1200, 600])
def test_a_hundred_thousand_ranges_on_a_thousand_workers_fit_on_the_page(open_tab: OpenPage, width: int) -> None:
    report = Report("public.events", 100_000, "range {}".format)
    for index in range(100_000):
        failure = Failure("ValueError", "x") if index in (7_000, 52_000) else None
        report.add(outcome(index, worker=f"ip-10-0-{index % 1000}:7", started=1000 + index / 100, failure=failure))
    page = open_tab("not_on_burla", width=width)
    show(page, report.as_dict("failed"), state="failed")
    expect(page.get_by_role("heading", name="2 ranges failed")).to_be_visible()
    expect(page.locator("#timeline-note")).to_contain_text("48 of 1,000 workers")
    assert page.locator("#timeline .bar").count() <= 800
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    shoot(page, f"many-{width}")


def test_a_job_url_that_is_not_http_is_not_a_link(open_tab: OpenPage) -> None:
    page = open_tab("not_on_burla")
    show(page, report_of(10, 10).as_dict("success") | {"job": {"id": "x", "url": "javascript:alert(1)"}})
    expect(figure(page, "Done")).to_have_text("10 of 10")
    expect(page.get_by_role("link")).to_have_count(0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("duration(0.0004)", "0 ms"),
        ("duration(0.9996)", "1.00 s"),
        ("duration(12.34)", "12.3 s"),
        ("duration(59.97)", "1 min"),
        ("duration(3599.6)", "1 h 0 min"),
        ("roundedDuration(89.2)", "90 s"),
        ("roundedDuration(3660)", "1 h 1 min"),
        ("count(9007199254740991)", "9,007,199,254,740,991"),
        ("factor(9.96)", "10 times"),
        ("plural(1, 'range')", "1 range"),
    ],
)
def test_numbers_are_formatted_for_people(open_tab: OpenPage, call: str, text: str) -> None:
    page = open_tab("not_on_burla")
    assert (
        page.evaluate(
            f"import('/burla/format.js').then(({{count, duration, factor, plural, roundedDuration}}) => {call})"
        )
        == text
    )


def message(page: Page) -> Any:
    return page.locator("#message")


def show(page: Page, report: dict[str, Any], state: str = "success") -> None:
    """The page, as if this were the report of a task in that state."""
    for path in (XCOM, STORE):
        page.route(path, lambda route: answer(route, {"value": report}))
    page.route(INSTANCE, lambda route: answer(route, instance(state)))
    page.reload()


def answer(route: Any, content: Any) -> None:
    route.fulfill(status=200, content_type="application/json", body=json.dumps(content))


def instance(state: str | None) -> dict[str, Any]:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    return {"state": state, "operator_name": "BurlaPostgresOperator", "start_date": started}


def outcome(index: int, **changes: Any) -> Outcome:
    fields = {"row_count": 100, "seconds": 0.5, "started": 1000.0 + index * 0.5, "worker": f"host:{index % 4}"}
    return Outcome(index, **{**fields, **changes})


def report_of(done: int, total: int) -> Report:
    report = Report("public.orders", total, "range {}".format)
    for index in range(done):
        report.add(outcome(index))
    return report
