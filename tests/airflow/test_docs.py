"""The documentation's code is run: every operator on a real table, every query, and the documented results."""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import XComArg

from burla_provider.operators.base import BurlaBaseOperator
from burla_provider.task.ledger_table import prepare_ledger
from burla_provider.worker.ledger import Ledger
from tests.airflow.conftest import Orders
from tests.support.task_runner import HAS_STATE_STORES, NO_STATE_STORES, Airflow

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|sql|json)\n(.*?)^```$", re.M | re.S)
RESULT = re.compile(r"^`([{\[].*[}\]])`$", re.M)
"""README saves lines: a result is one line of code, without a fence."""
PAGES = {page.relative_to(DOCS).as_posix(): BLOCK.findall(page.read_text()) for page in sorted(DOCS.rglob("*.md"))}
PAGES["README.md"] = BLOCK.findall(RESULT.sub(r"```json\n\1\n```", (ROOT / "README.md").read_text()))
ROLES = ["burla_writer", "orders_reader"]
NEW_IN_3_3 = {"guides/incremental.md"}


@pytest.fixture
def world(airflow: Airflow, orders: Orders) -> Iterator[Airflow]:
    """With the role and the tables that the pages name beside ``orders``."""
    orders.connection.execute("""
        CREATE TABLE archive (LIKE orders);
        CREATE TABLE events (id bigint PRIMARY KEY, created_at timestamptz NOT NULL);
        CREATE INDEX ON events (created_at);
        INSERT INTO events SELECT n, timestamptz '2026-11-20' + n * interval '1 minute' FROM generate_series(1, 3000) n;
    """)
    with ThreadingHTTPServer(("127.0.0.1", 0), ObjectStore) as store:
        threading.Thread(target=store.serve_forever).start()
        url = f"http://127.0.0.1:{store.server_port}"
        airflow.add_connection("report_store", "aws", host=url, login="reports", password="a secret")
        yield airflow
        store.shutdown()
    left = orders.connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", [ROLES])
    for (role,) in left.fetchall():
        orders.connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("page", [page for page, blocks in PAGES.items() if blocks])
def test_the_code_of_a_page_has_the_documented_results(page: str, world: Airflow, orders: Orders) -> None:
    if page in NEW_IN_3_3 and not HAS_STATE_STORES:
        pytest.skip(NO_STATE_STORES)
    code_of_page: dict[str, Any] = {"__name__": "documentation"}
    value = None
    for language, code in PAGES[page]:
        if language == "python":
            known = set(code_of_page)
            exec(compile(code, f"<{page}>", "exec"), code_of_page)
            new = [value for name, value in code_of_page.items() if name not in known]
            for operator in operators_in(new):
                check_interval(operator)
                result = world.run(operator)
                assert result.state == "success", f"{operator.task_id}: {result.log}"
                value = result.value
        elif language == "sql":
            assert orders.connection.execute(code)
        else:
            assert json.loads(code) == value


def test_the_ledger_that_an_administrator_creates_can_be_used(world: Airflow, orders: Orders) -> None:
    for language, code in PAGES["guides/writes.md"]:
        if language == "sql" and code.startswith("CREATE"):
            orders.connection.execute(code)
    prepare_ledger(orders.connection, Ledger("public", "the_ledger", "a run"))


class ObjectStore(BaseHTTPRequestHandler):
    """Accepts every object, as an S3 server does."""

    def do_PUT(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def check_interval(operator: BurlaBaseOperator) -> None:
    """Whoever uses the interval of a run has a schedule that gives one: a cron expression as text does not."""
    fields = [str(getattr(operator, name)) for name in operator.template_fields]
    if any("data_interval_start" in field for field in fields):
        assert type(operator.dag.timetable).__name__ == "CronDataIntervalTimetable"


def operators_in(new: list[Any]) -> list[BurlaBaseOperator]:
    """What there is to run: operators by themselves, those of decorated functions, and those of the DAGs of such."""
    dags = [value() for value in new if inspect.isfunction(value) and hasattr(value, "__wrapped__")]
    tasks = [task for dag in dags for task in dag.tasks]
    called = [value.operator for value in new if isinstance(value, XComArg)]
    return [value for value in [*new, *called, *tasks] if isinstance(value, BurlaBaseOperator)]
