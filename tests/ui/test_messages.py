"""The "Ranges" tab while it has no report, or one that may mislead."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import OpenState
from tests.ui.page_server import make_instance

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
        (make_instance("success", operator_name="PythonOperator"), "This task does not run on Burla"),
    ],
    ids=["unknown", "queued", "none", "skipped", "running", "failed", "not-on-burla"],
)
def test_without_a_report_a_message_says_why(open_state: OpenState, instance: object, sentence: str) -> None:
    page = open_state(None, instance)
    expect(page.locator("#message")).to_contain_text(sentence)
    expect(page.get_by_role("article")).to_be_hidden()
