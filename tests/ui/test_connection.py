"""The provider's place in Airflow's own pages: the list of providers, the connection form, Test Connection."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from burla_provider.demo.cluster import NoCluster, find_bridge, find_login
from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import OpenPage, shoot

pytestmark = pytest.mark.ui


def open_form(page: Page) -> None:
    page.get_by_role("button", name="Add Connection").click()
    page.get_by_label("Connection Type").click()
    page.keyboard.type("burla")
    page.get_by_role("option", name="Burla", exact=True).click()


def test_the_providers_page_lists_it(open_page: OpenPage) -> None:
    page = open_page("/providers")
    row = page.get_by_role("row", name="airflow-provider-burla")
    expect(row).to_contain_text("Process every row of a big PostgreSQL table with Python")
    shoot(page, "providers")


def test_the_form_calls_the_fields_by_their_names_and_says_what_goes_in(open_page: OpenPage) -> None:
    page = open_page("/connections")
    open_form(page)
    form = page.get_by_role("dialog")
    for label, hint in [
        ("Cluster URL", "https://burla.example.com"),
        ("E-mail", "you@example.com"),
        ("Auth token", "auth_token of burla_credentials.json"),
        ("Port", "443"),
    ]:
        expect(form.get_by_text(label, exact=True)).to_be_visible()
        expect(form.get_by_placeholder(hint)).to_be_visible()
    expect(form.get_by_text("Schema", exact=True)).to_have_count(0)
    shoot(page, "connection-form-empty", full=False)


def test_a_connection_is_filled_in_saved_and_tested(open_page: OpenPage, airflow: AirflowServer) -> None:
    page = open_page("/connections", height=1000)
    open_form(page)
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill("laptop")
    form.get_by_placeholder("443").fill("443")
    shoot(page, "connection-form-filled", full=False)
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    expect(form.get_by_text("Let Burla's client send its telemetry")).to_be_visible()
    form.get_by_label("Engine").click()
    page.get_by_role("option", name="local: on the Airflow machine").click()
    shoot(page, "connection-form-extra", full=False)
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()

    saved = airflow.call("GET", "/connections/laptop")
    assert '"engine": "local"' in saved["extra"]

    press_test(page, "laptop")
    told = page.get_by_role("status", name="Test Connection Successful")
    expect(told).to_contain_text("The local engine: worker processes on this machine")
    shoot(page, "connection-tested", full=False)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("http://127.0.0.1:9", 9, "No answer from http://127.0.0.1:9 .*Check the host of the Burla connection"),
        ("http://burla.example.com", 80, "would send the token unencrypted over a public network. Use https://"),
    ],
    ids=["unreachable", "unencrypted"],
)
def test_a_connection_that_cannot_work_is_told_in_a_sentence(
    open_page: OpenPage, airflow: AirflowServer, host: str, port: int, sentence: str
) -> None:
    airflow.call(
        "POST",
        "/connections",
        {"connection_id": f"wrong_{port}", "conn_type": "burla", "host": host, "port": port, "login": "a@example.com"}
        | {"password": "a-long-token"},
    )
    page = open_page("/connections")
    press_test(page, f"wrong_{port}")
    expect(page.get_by_role("status", name="Test Connection Failed")).to_contain_text(re.compile(sentence))
    expect(page.locator("body")).not_to_contain_text("a-long-token")


@pytest.mark.parametrize(
    ("conn_id", "token", "title", "sentence"),
    [
        ("good", None, "Test Connection Successful", r"Burla \d+\.\d+\.\d+, \d+ nodes? "),
        ("stranger", "not-the-token", "Test Connection Failed", "wants another login. Check login .* and password"),
    ],
)
def test_a_real_cluster_is_told_in_a_sentence(
    open_page: OpenPage, airflow: AirflowServer, conn_id: str, token: str | None, title: str, sentence: str
) -> None:
    try:
        find_bridge()
        login = find_login()
    except NoCluster as missing:
        pytest.skip(str(missing))
    fields = {"connection_id": conn_id, "conn_type": "burla", "host": login.url, "login": login.email}
    airflow.call("POST", "/connections", fields | {"password": token or login.token})
    page = open_page("/connections")
    press_test(page, conn_id)
    expect(page.get_by_role("status", name=title)).to_contain_text(re.compile(sentence))
    expect(page.locator("body")).not_to_contain_text(token or login.token)
    shoot(page, f"connection-tested-{conn_id}", full=False)


def press_test(page: Page, conn_id: str) -> None:
    page.get_by_role("row", name=conn_id).get_by_role("button", name="Test Connection").click()
