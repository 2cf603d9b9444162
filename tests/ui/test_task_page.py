"""What Airflow's own pages show of a Burla task: totals in XCom, the button to its job."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import OpenPage, shoot, task_path, wait_for_state

pytestmark = pytest.mark.ui

JOB_URL = "http://127.0.0.1:5001/jobs/ui_orders-abcdefghijkl"


def test_xcom_shows_the_totals(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders", "/xcom"))
    row = page.get_by_role("row").filter(has_text="return_value")
    row.locator(".codicon-folding-collapsed").click()
    expect(row).to_contain_text(re.compile(r'"row_count":\s147600'))
    shoot(page, "xcom", full=False)


def test_the_link_opens_the_burla_job(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "double_numbers", "success")
    page = open_page(task_path("double_numbers", "/details"))
    link = page.get_by_role("link", name="Burla job")
    expect(link).to_have_attribute("href", JOB_URL)
    shoot(page, "link", full=False)
