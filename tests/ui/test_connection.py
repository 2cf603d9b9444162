"""Airflow's own pages: the list of providers, the connection form, Test Connection."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from airflow.sdk import Connection
from playwright.sync_api import Page, expect

from burla_provider.demo.__main__ import engine_settings
from burla_provider.demo.cluster import find_bridge, find_login
from burla_provider.exceptions import ClusterNotFoundError
from burla_provider.hooks.burla import read_engine
from burla_provider.jobs.cluster_api import with_saved_login
from burla_provider.jobs.job import Engine
from tests.support.airflow_server import AirflowServer
from tests.ui.conftest import OpenPage, shoot

pytestmark = pytest.mark.ui


def open_form(page: Page) -> None:
    page.get_by_role("button", name="Add Connection").click()
    page.get_by_label("Connection Type").click()
    page.keyboard.type("burla")
    page.get_by_role("option", name="Burla", exact=True).click()


def test_the_providers_page_lists_the_provider(open_page: OpenPage) -> None:
    page = open_page("/providers")
    row = page.get_by_role("row", name="airflow-provider-burla")
    expect(row).to_contain_text("Process every row of a large PostgreSQL table with Python")
    shoot(page, "providers")


def test_the_form_has_labels_and_placeholders(open_page: OpenPage) -> None:
    page = open_page("/connections")
    open_form(page)
    form = page.get_by_role("dialog")
    for label, hint in [
        ("Cluster URL", "https://burla.example.com"),
        ("E-mail", "you@example.com"),
        ("Auth token", "auth_token in burla_credentials.json"),
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
    expect(form.get_by_text("Let Burla's client send telemetry")).to_be_visible()
    form.get_by_label("Engine").click()
    page.get_by_role("option", name="local: on the Airflow machine").click()
    shoot(page, "connection-form-extra", full=False)
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()

    saved = airflow.call("GET", "/connections/laptop")
    assert '"engine": "local"' in saved["extra"]

    press_test(page, "laptop")
    told = outcome(page, "Test Connection Successful")
    assert "The local engine runs worker processes on the machine of the task" in told
    shoot(page, "connection-tested", full=False)


def test_the_values_of_the_quick_start_can_be_entered(open_page: OpenPage, airflow: AirflowServer) -> None:
    page = open_page("/connections", height=1000)
    open_form(page)
    form = page.get_by_role("dialog")
    form.get_by_label("Connection ID").fill("quick_start")
    form.get_by_placeholder("https://burla.example.com").fill("https://burla.example.com")
    form.get_by_placeholder("you@example.com").fill("you@example.com")
    form.get_by_placeholder("auth_token").fill("a-long-token")
    form.get_by_placeholder("443").fill("443")
    form.get_by_role("button", name="Save").click()
    expect(form).to_be_hidden()

    saved = airflow.call("GET", "/connections/quick_start")
    fields = {name: saved[name] for name in ("conn_type", "host", "port", "login", "extra")}
    engine = read_engine(Connection(conn_id="quick_start", password="a-long-token", **fields))
    assert (engine.name, engine.url, engine.email) == ("burla", "https://burla.example.com:443", "you@example.com")


def test_the_connection_of_the_demo_can_be_tested(open_page: OpenPage, airflow: AirflowServer) -> None:
    fields = {**engine_settings("local").connection, "connection_id": "of_the_demo"}
    del fields["conn_id"]
    airflow.call("POST", "/connections", fields)
    page = open_page("/connections")
    press_test(page, "of_the_demo")
    told = outcome(page, "Test Connection Successful")
    assert "The local engine runs worker processes on the machine of the task" in told
    page.get_by_role("row", name="of_the_demo").get_by_role("button", name="Edit Connection").click()
    expect(page.get_by_role("dialog").get_by_placeholder("443")).to_have_value("443")
    shoot(page, "connection-form-demo", full=False)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "host: is missing, and no Burla login is saved on this machine. Set it to the cluster's URL, login"),
        ({"extra": '{"engine": "spark"}'}, "engine: unknown engine 'spark'. Use 'burla' or 'local'."),
        ({"login": "a@example.com"}, "password: must be set, because login is set."),
    ],
    ids=["empty", "unknown_engine", "no_token"],
)
def test_the_error_names_the_field_that_is_wrong(
    open_page: OpenPage, airflow: AirflowServer, fields: dict[str, str], sentence: str, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    if name == "empty" and with_saved_login(Engine()).url:
        pytest.skip("A login is saved on this machine, which an empty connection uses.")
    airflow.call("POST", "/connections", {"connection_id": name, "conn_type": "burla", "port": 443, **fields})
    page = open_page("/connections")
    press_test(page, name)
    failed = outcome(page, "Test Connection Failed")
    assert sentence in failed
    assert "connection '" not in failed
    shoot(page, f"connection-tested-{name}", full=False)


@pytest.mark.parametrize(
    ("host", "port", "sentence"),
    [
        ("http://127.0.0.1:9", 9, "No response from http://127.0.0.1:9 .*Check the host of the Burla connection"),
        ("http://burla.example.com", 80, "would send the token unencrypted over a public network. Use https://"),
    ],
    ids=["unreachable", "unencrypted"],
)
def test_a_connection_that_cannot_work_has_an_error_of_one_sentence(
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
    assert re.search(sentence, outcome(page, "Test Connection Failed"))
    expect(page.locator("body")).not_to_contain_text("a-long-token")


def test_a_real_cluster_is_described_in_one_sentence(open_page: OpenPage, airflow: AirflowServer) -> None:
    try:
        find_bridge()
        login = find_login()
    except ClusterNotFoundError as missing:
        pytest.skip(str(missing))
    fields = {
        "connection_id": "good",
        "conn_type": "burla",
        "host": login.url,
        "login": login.email,
        "port": urlsplit(login.url).port,
    }
    airflow.call("POST", "/connections", fields | {"password": login.token})
    page = open_page("/connections")
    press_test(page, "good")
    assert re.search(r"Burla \d+\.\d+\.\d+, \d+ nodes? ", outcome(page, "Test Connection Successful"))
    shoot(page, "connection-tested-good", full=False)


def test_a_wrong_token_has_an_error_of_one_sentence(
    open_page: OpenPage, airflow: AirflowServer, strict_head: str
) -> None:
    port = int(strict_head.rpartition(":")[2])
    fields = {"connection_id": "stranger", "conn_type": "burla", "host": strict_head, "login": "a@example.com"}
    airflow.call("POST", "/connections", fields | {"password": "not-the-token", "port": port})
    page = open_page("/connections")
    press_test(page, "stranger")
    told = outcome(page, "Test Connection Failed")
    assert re.search("refused the login. Check login .e-mail. and password .token.", told)
    expect(page.locator("body")).not_to_contain_text("not-the-token")
    shoot(page, "connection-tested-wrong-token", full=False)


@pytest.fixture
def strict_head() -> Iterator[str]:
    """A simulated head that refuses every login. The head of `make cluster` leaves the check to its nodes."""

    class Head(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/version"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(b'{"version": "1.8.4"}' if known else b"{}")

    with ThreadingHTTPServer(("127.0.0.1", 0), Head) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


RECORD_TOASTS = """
() => {
  window.toasts = [];
  const note = () => toasts.push(...[...document.querySelectorAll("[role=status]")].map((toast) => toast.innerText));
  new MutationObserver(note).observe(document.body, { childList: true, subtree: true, characterData: true });
}
"""
"""Airflow shows an outcome for two to five seconds. A busy machine may look later."""


def press_test(page: Page, conn_id: str) -> None:
    page.evaluate(RECORD_TOASTS)
    page.get_by_role("row", name=conn_id).get_by_role("button", name="Test Connection").click()


def outcome(page: Page, title: str) -> str:
    """Wait until Airflow shows an outcome with the title, and return its text."""
    shown = page.wait_for_function("title => toasts.find((text) => text.startsWith(title + '\\n'))", arg=title)
    return str(shown.json_value())
