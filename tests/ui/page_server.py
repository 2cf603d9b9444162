"""The real page of the "Ranges" tab with its real headers, and a stand-in for the parts of Airflow's API that it reads.

A whole Airflow takes a minute to start, and cannot be brought into every state. ``test_ranges_tab.py`` uses a real one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from burla_provider.plugins.ranges_tab import RangesPage

DAG, RUN, TASK = "nightly", "scheduled__2026-11-20T06:00:00+00:00", "digest_orders"
KEY = "burla_report"


@dataclass
class Airflow:
    """What the stand-in answers.

    :param report: the report; None: there is none.
    :param instance: fields of the task instance; None: it does not exist.
    :param version: Airflow's version.
    :param earlier: earlier runs of the task, last first: (fields of the task instance, report or None).
    :param status: HTTP status of all answers of the API.
    :ivar requests: what was requested from the API, since the last ``show``.
    """

    report: dict[str, Any] | None = None
    instance: dict[str, Any] | None = field(default_factory=dict)
    version: str = "3.3.2"
    earlier: list[tuple[dict[str, Any], dict[str, Any] | None]] = field(default_factory=list)
    status: int = 200
    requests: list[str] = field(default_factory=list)

    def show(self, report: Any, instance: Any, *, version: str = "3.3.2", earlier: Any = ()) -> None:
        """Answer with these from now on, as if nothing had been requested before."""
        self.report, self.instance, self.version, self.earlier = report, instance, version, list(earlier)
        self.status = 200
        self.requests.clear()


@dataclass
class PageServer:
    """:param url: address of the page of the task, without a slash at the end."""

    url: str
    airflow: Airflow

    @property
    def page(self) -> str:
        """The address of the page, as Airflow 3.1 writes it: "+" is not encoded."""
        return f"{self.url}/burla/?dag_id={DAG}&run_id={RUN}&task_id={TASK}&map_index=-1"


def make_instance(state: str | None, **changes: Any) -> dict[str, Any]:
    """Return a task instance as Airflow's API describes it.

    :param changes: fields; times in seconds since the epoch.
    """
    now = time.time()
    ended = state in ("success", "failed", "up_for_retry", "up_for_reschedule", "skipped", "upstream_failed")
    fields: dict[str, Any] = {
        "id": "0199f6a8-0000-7000-8000-000000000000",
        "task_id": TASK,
        "dag_id": DAG,
        "dag_run_id": RUN,
        "map_index": -1,
        "logical_date": now - 7200,
        "run_after": now - 7200,
        "scheduled_when": now - 68,
        "queued_when": now - 64,
        "start_date": now - 60,
        "end_date": now if ended else None,
        "state": state,
        "try_number": 1,
        "max_tries": 0,
        "task_display_name": TASK,
        "dag_display_name": DAG,
        "operator": "BurlaPostgresOperator",
        "operator_name": "BurlaPostgresOperator",
        "dag_version": {"version_number": 1},
        **changes,
    }
    start, end = fields["start_date"], fields["end_date"]
    fields["duration"] = None if start is None else (end or now) - start
    for name in ("logical_date", "run_after", "scheduled_when", "queued_when", "start_date", "end_date"):
        if fields[name] is not None:
            fields[name] = _iso(fields[name])
    return fields


@contextmanager
def running_page_server() -> Iterator[PageServer]:
    """Serve the page on the loopback interface, in a thread."""
    airflow = Airflow()
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(_make_app(airflow), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
    thread.start()
    try:
        yield PageServer(f"http://127.0.0.1:{sock.getsockname()[1]}", airflow)
    finally:
        server.should_exit = True
        thread.join(30)


def _make_app(airflow: Airflow) -> Starlette:
    async def answer(request: Request) -> Response:
        path = request.path_params["path"]
        airflow.requests.append(f"{path}?{request.url.query}".rstrip("?"))
        if airflow.status != 200:
            return JSONResponse({"detail": "no"}, airflow.status)
        found = _find(airflow, path, request.query_params)
        return JSONResponse({"detail": "not found"}, 404) if found is None else JSONResponse(found)

    api = Route("/api/v2/{path:path}", answer)
    return Starlette(routes=[api, Mount("/burla", app=RangesPage())])


def _find(airflow: Airflow, path: str, query: Mapping[str, str]) -> Any:
    """Return what Airflow's API answers; None: HTTP status 404."""
    if path == "version":
        return {"version": airflow.version, "git_version": None}
    parts = path.split("/")
    if airflow.instance is None or parts[:2] != ["dags", DAG]:
        return None
    match parts[2:]:
        case ["dagRuns", run, "taskInstances", *rest] if run not in (RUN, "~"):
            return _find_earlier(airflow, run, rest)
        case ["dagRuns", run, "taskInstances", task] if (run, task) == (RUN, TASK):
            return airflow.instance
        case ["dagRuns", run, "taskInstances", task, source, key] if (run, task, key) == (RUN, TASK, KEY):
            is_running = airflow.instance["state"] in (None, "queued", "running", "up_for_retry", "up_for_reschedule")
            return _entry(airflow.report) if (source == "state-store") == is_running else None
        case ["dagRuns", run, "taskInstances", task, "tries"] if (run, task) == (RUN, TASK):
            return {"task_instances": [airflow.instance], "total_entries": 1}
        case ["dagRuns"]:
            runs = [{"dag_run_id": one["dag_run_id"], "state": one["state"]} for one in _instances(airflow)]
            return {"dag_runs": runs[: int(query.get("limit", 100))], "total_entries": len(runs)}
        case ["dagRuns", "~", "taskInstances"]:
            found = _instances(airflow)
            return {"task_instances": found[: int(query.get("limit", 100))], "total_entries": len(found)}
    return None


def _find_earlier(airflow: Airflow, run: str, rest: list[str]) -> Any:
    for instance, report in airflow.earlier:
        if instance["dag_run_id"] == run:
            if rest == [TASK]:
                return instance
            if rest == [TASK, "xcomEntries", KEY]:
                return _entry(report)
    return None


def _instances(airflow: Airflow) -> list[dict[str, Any]]:
    return [airflow.instance or {}, *(instance for instance, _ in airflow.earlier)]


def _entry(report: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if report is None else {"key": KEY, "value": report}


def _iso(epoch: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch)) + f"{epoch % 1:.6f}"[1:] + "Z"
