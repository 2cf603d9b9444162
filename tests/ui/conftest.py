"""Browsers, a complete Airflow with successful, running and failed jobs, and the page alone for all other states."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.support.airflow_server import AirflowServer, postgres_connection, running_airflow
from tests.support.postgres import PostgresServer
from tests.ui.firefox import PREFERENCES, find_firefox, write_launcher
from tests.ui.page_server import PageServer, running_page_server

DAG, RUN = "ui_orders", "manual__2026-11-20T06:00:00+00:00"
SHOTS = Path(__file__).parents[2] / "test-artifacts" / "ui"
PATIENCE = 180_000
"""Milliseconds. A busy machine is slow, not broken."""

# 64 ranges of equal width have 2,000 rows each, but one has 16,000 and one 4,000: far enough apart for a busy machine.
TABLES = """
CREATE TABLE orders AS SELECT 50 * i AS id FROM generate_series(1, 128000) i;
INSERT INTO orders SELECT 1700000 + 7 * i FROM generate_series(1, 14000) i WHERE i % 50 <> 0;
INSERT INTO orders SELECT 4500000 + 11 * i FROM generate_series(1, 2000) i WHERE i % 50 <> 0;
ALTER TABLE orders ADD PRIMARY KEY (id);
CREATE TABLE steady AS SELECT i AS id FROM generate_series(1, 64000) i;
ALTER TABLE steady ADD PRIMARY KEY (id);
ANALYZE;
"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that need Airflow in one process: two would start it twice.

    With pytest 9.2, pytest-xdist 3.8 ignores this (pytest-dev/pytest-xdist#1386). The tests then only need longer.
    """
    for item in items:
        if "airflow" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("airflow"))


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory. The job ``wait_orders`` ends when it contains a file ``open``."""
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="session")
def airflow(
    postgres_server: PostgresServer, gate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowServer]:
    """Airflow, with a started run of all jobs."""
    with postgres_server.database() as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute(TABLES)
        connections = {
            "orders_db": postgres_connection(conninfo),
            "burla_local": {"conn_type": "burla", "port": 443, "extra": json.dumps({"engine": "local"})},
        }
        home = tmp_path_factory.mktemp("airflow")
        dags = Path(__file__).parent / "dags"
        with running_airflow(home, dags, connections, {"BURLA_UI_GATE": str(gate)}) as server:
            server.start_run(DAG, dag_run_id=RUN)
            yield server
            # A task that waits for its file would outlive Airflow.
            for name in ("hung", "hang", "open"):
                (gate / name).touch()


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """Debian's Chromium. The sandbox does not work for root."""
    path = shutil.which("chromium")
    assert path, "chromium is not installed. `make test-ui` installs it."
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=path, args=arguments)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def firefox(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Debian's Firefox. Tests that use it are skipped if it is not installed."""
    if find_firefox() is None:
        pytest.skip("Firefox is not installed. `make test-ui` installs it.")
    launcher = write_launcher(tmp_path_factory.mktemp("firefox"))
    browser = playwright.firefox.launch(
        channel="moz-firefox", executable_path=launcher, firefox_user_prefs=PREFERENCES, timeout=PATIENCE
    )
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def browser(chromium: Browser) -> Iterator[BrowserContext]:
    """One context of Chromium, so that Airflow's bundle is loaded once."""
    context = chromium.new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


@pytest.fixture(scope="session")
def page_server() -> Iterator[PageServer]:
    """The page alone, with a stand-in for Airflow's API."""
    with running_page_server() as server:
        yield server


OpenPage = Callable[..., Page]


@pytest.fixture
def problems() -> Iterator[list[str]]:
    """Script errors and violations of the Content-Security-Policy, which fail the test at its end."""
    problems: list[str] = []
    yield problems
    assert problems == []


@pytest.fixture
def open_page(browser: BrowserContext, airflow: AirflowServer, problems: list[str]) -> Iterator[OpenPage]:
    """``open_page(path, width=1200, theme="light")``: a page of Airflow."""
    pages = []

    def open_page(path: str, *, width: int = 1200, height: int = 900, theme: str = "light") -> Page:
        page = browser.new_page()
        pages.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=theme)
        page.add_init_script(f"localStorage.setItem('theme', '{theme}')")
        watch(page, problems)
        page.goto(airflow.url + path)
        return page

    yield open_page
    for page in pages:
        page.close()


@pytest.fixture
def open_tab(open_page: OpenPage) -> OpenPage:
    """``open_tab(task_id, map_index=-1, width=, theme=)``: the page of the "Ranges" tab, without Airflow around it."""

    def open_tab(task_id: str, map_index: int = -1, **options: Any) -> Page:
        return open_page(f"/burla/?dag_id={DAG}&run_id={quote(RUN)}&task_id={task_id}&map_index={map_index}", **options)

    return open_tab


@pytest.fixture
def browser_name() -> str:
    """The browser of ``open_state``, unless the test has it as a parameter."""
    return "chromium"


@pytest.fixture
def context(request: pytest.FixtureRequest, browser_name: str) -> Iterator[BrowserContext]:
    """A context of its own for the page alone."""
    context = request.getfixturevalue(browser_name).new_context(reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


OpenState = Callable[..., Page]


@pytest.fixture
def open_state(context: BrowserContext, page_server: PageServer, problems: list[str]) -> OpenState:
    """``open_state(report, instance)``: the page, as if this were the report of a task instance in that state."""

    def open_state(report: Any, instance: Any, *, version: str = "3.3.2", earlier: Any = (), width: int = 1200) -> Page:
        page_server.airflow.show(report, instance, version=version, earlier=earlier)
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        watch(page, problems)
        page.goto(page_server.page)
        return page

    return open_state


def wait_for_state(airflow: AirflowServer, task_id: str, state: str) -> None:
    """Wait until the task instance, or all instances of a mapped task, have the state."""
    path = f"/dags/{DAG}/dagRuns/{quote(RUN)}/taskInstances?limit=50"

    def reached() -> bool:
        found = [one["state"] for one in airflow.call("GET", path)["task_instances"] if one["task_id"] == task_id]
        return bool(found) and set(found) == {state}

    airflow.wait_for(f"{task_id} to be in state {state}", reached, 300)


def task_path(task_id: str, tab: str = "") -> str:
    """The path of Airflow's own page of a task instance."""
    return f"/dags/{DAG}/runs/{quote(RUN)}/tasks/{task_id}{tab}"


def shoot(page: Page, name: str, *, full: bool = True) -> None:
    """Save a screenshot in ``test-artifacts/ui``."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=full, animations="disabled")


def watch(page: Page, problems: list[str]) -> None:
    """Add the page's script errors and violations of its Content-Security-Policy to ``problems``."""
    page.on("pageerror", lambda error: _note(problems, str(error), ""))
    page.on("console", lambda message: _note(problems, message.text, "Content.Security.Policy|TrustedHTML"))


def _note(problems: list[str], text: str, pattern: str) -> None:
    # Firefox asks for an icon by itself, and applies the policy to the styles that playwright adds for a screenshot.
    if re.search(pattern, text) and not re.search(r"/favicon\.ico|inline style \(style-src-elem\)", text):
        problems.append(text)
