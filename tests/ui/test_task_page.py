"""Airflow's own pages of a Burla task: totals in XCom, log, rendered templates, the link to its job."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import DAG, RUN, OpenPage, shoot, task_path, wait_for_state

pytestmark = pytest.mark.ui

JOB_URL = "http://127.0.0.1:5001/jobs/ui_orders-abcdefghijkl"


def test_xcom_shows_the_totals(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders", "/xcom"))
    row = page.get_by_role("row").filter(has_text="return_value")
    row.locator(".codicon-folding-collapsed").click()
    expect(row).to_contain_text(re.compile(r'"row_count":\s143680'))
    shoot(page, "xcom", full=False)


def test_the_log_begins_with_the_plan_folded_and_ends_with_totals_and_phases(
    open_page: OpenPage, airflow: AirflowServer
) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders"))
    expect(page.get_by_text("Plan: 64 ranges of public.orders, about")).to_be_visible()
    strategy = page.get_by_text(re.compile(r"strategy\s+width"))
    expect(strategy).to_be_hidden()
    expect(page.get_by_text(re.compile(r"Took [\d.]+ s: .*working [\d.]+ s"))).to_be_visible()
    page.get_by_text("Plan: 64 ranges of public.orders, about").click()
    expect(strategy).to_be_visible()
    shoot(page, "log", full=False)


def test_rendered_templates_show_functions_as_source_and_totals_as_sql(
    open_page: OpenPage, airflow: AirflowServer
) -> None:
    wait_for_state(airflow, "digest_orders", "success")
    page = open_page(task_path("digest_orders", "/rendered_templates"))
    expect(page.locator("body")).to_contain_text("def digest(rows")
    shoot(page, "rendered-function", full=False)
    wait_for_state(airflow, "count_table", "success")
    page = open_page(task_path("count_table", "/mapped/0/rendered_templates"))
    expect(page.locator("body")).to_contain_text("SELECT count(*) AS row_count")
    shoot(page, "rendered-sql", full=False)


def test_a_retry_resumes_from_the_state_store_of_the_api_server(airflow: AirflowServer, gate: Path) -> None:
    wait_for_state(airflow, "resume_orders", "success")
    entry = airflow.call(
        "GET", f"/dags/{DAG}/dagRuns/{quote(RUN)}/taskInstances/resume_orders/xcomEntries/burla_report"
    )
    report = json.loads(entry["value"]) if isinstance(entry["value"], str) else entry["value"]
    assert (report["done"], report["resumed"], report["failed"]) == (48, 45, 0)
    worked = Counter(path.name.split("-")[1] for path in gate.glob("worked-*"))
    assert {index for index, times in worked.items() if times > 1} == {"5", "21", "37"}
    assert len(worked) == 48


def test_the_link_opens_the_burla_job(open_page: OpenPage, airflow: AirflowServer) -> None:
    wait_for_state(airflow, "double_numbers", "success")
    page = open_page(task_path("double_numbers", "/details"))
    link = page.get_by_role("link", name="Burla job")
    expect(link).to_have_attribute("href", JOB_URL)
    shoot(page, "link", full=False)
