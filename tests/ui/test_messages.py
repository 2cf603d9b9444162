"""The "Ranges" tab while it has no report, or one that may mislead."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import OpenState
from tests.ui.page_server import make_instance
from tests.ui.states import done, running

pytestmark = pytest.mark.ui


@pytest.mark.parametrize(
    ("instance", "sentence"),
    [
        (None, "This task instance does not exist. It may have been deleted."),
        (make_instance("queued", start_date=None), "This task has not started yet. It is queued."),
        (make_instance(None, start_date=None), "This task has not started yet."),
        (make_instance("skipped"), "This task was skipped, so there is no report."),
        (make_instance("running"), "No report yet"),
        (make_instance("failed"), "This task has no report"),
        (make_instance("success", operator_name="PythonOperator"), "This task has no report. Its operator is Pyt"),
        (make_instance("running", operator_name="OrdersOperator"), "Its operator is OrdersOperator, and this page"),
    ],
    ids=["unknown", "queued", "none", "skipped", "running", "failed", "not-on-burla", "subclass"],
)
def test_without_a_report_a_message_says_why(open_state: OpenState, instance: object, sentence: str) -> None:
    page = open_state(None, instance)
    expect(page.locator("#message")).to_contain_text(sentence)
    expect(page.get_by_role("article")).to_be_hidden()


def test_for_an_earlier_airflow_the_message_says_that_the_report_comes_at_the_end(open_state: OpenState) -> None:
    page = open_state(None, make_instance("running"), version="3.1.8")
    expect(page.locator("#message")).to_contain_text("Airflow 3.1.8 stores no report of a running task")


def test_the_report_of_an_earlier_try_has_a_message(open_state: OpenState) -> None:
    page = open_state(running().as_dict(), make_instance("running", try_number=2, max_tries=2))
    expect(page.locator("#message")).to_contain_text("This report is from try 1 of the task.")


def test_a_task_that_has_not_reported_for_long_has_a_message(open_state: OpenState) -> None:
    report = running().as_dict()
    page = open_state(report | {"updated": report["updated"] - 600}, make_instance("running", start_date=1.0))
    expect(page.locator("#message")).to_contain_text("The task has stored no report since")


@pytest.mark.parametrize(
    ("state", "ending", "sentence"),
    [
        ("failed", "success", "Airflow shows this task as failed, although the job was successful"),
        ("success", "failed", "Airflow shows this task as successful, although the job failed"),
    ],
)
def test_a_state_that_was_set_by_hand_has_a_message(
    open_state: OpenState, state: str, ending: str, sentence: str
) -> None:
    page = open_state(done().end(ending), make_instance(state))
    expect(page.locator("#message")).to_contain_text(sentence)


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
def test_numbers_are_formatted_for_people(open_state: OpenState, call: str, text: str) -> None:
    page = open_state(None, None)
    names = "count, duration, factor, plural, roundedDuration"
    assert page.evaluate(f"import('/burla/format.js').then(({{{names}}}) => {call})") == text
