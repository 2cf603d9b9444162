"""The registration of the "Ranges" tab, and the files that it serves."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from burla_provider.plugins.ranges_tab import STATIC, BurlaPlugin


@pytest.fixture
def client() -> TestClient:
    """A client of an application that mounts the plugin's apps as Airflow does."""
    server = Starlette()
    for app in BurlaPlugin.fastapi_apps:
        server.mount(app["url_prefix"], app["app"])
    return TestClient(server)


def test_airflow_finds_the_plugin_by_its_entry_point() -> None:
    (found,) = entry_points(group="airflow.plugins", name="burla")
    assert found.load() is BurlaPlugin


def test_the_app_serves_the_tabs_address(client: TestClient) -> None:
    (view,) = BurlaPlugin.external_views
    path, _, query = view["href"].partition("?")
    assert [pair.partition("=")[2] for pair in query.split("&")] == ["{DAG_ID}", "{RUN_ID}", "{TASK_ID}", "{MAP_INDEX}"]
    assert "<title>Ranges</title>" in client.get(path).text


def test_all_files_that_the_page_and_its_scripts_load_exist(client: TestClient) -> None:
    files = re.findall(r'(?:src|href)="([^"]+)"', (STATIC / "index.html").read_text())
    for script in STATIC.glob("*.js"):
        files += re.findall(r'from "\./([^"]+)"', script.read_text())
    assert {client.get(f"/burla/{name}").status_code for name in files} == {200}


@pytest.mark.parametrize("path", ["/burla/", "/burla/page.js", "/burla/page.css"])
def test_pages_load_and_run_their_own_files_only(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"  # the address names DAG and run
    assert headers["cache-control"] == "no-cache"  # page and script have the same version after an upgrade


@pytest.mark.parametrize("path", ["../ranges_tab.py", "%2e%2e/ranges_tab.py", "..%2franges_tab.py", "/etc/passwd"])
def test_only_static_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(f"/burla/{path}").status_code == 404


def test_the_plugin_imports_nothing_besides_airflow() -> None:
    program = (
        "import sys, airflow.providers.common.compat.sdk as sdk; sdk.AirflowPlugin; before = set(sys.modules);"
        "import burla_provider.plugins.ranges_tab;"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('burla_provider')))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
