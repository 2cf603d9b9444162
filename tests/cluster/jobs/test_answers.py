"""Jobs that end well, on a real cluster."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import threading
import urllib.request
from dataclasses import replace

from burla_provider.jobs.job import Engine, ItemCrashed, JobOptions, JobStarted, OutputLine
from burla_provider.jobs.requirements import resolve_requirements
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import answers, broken, lines, make_job, run


def echo(index, item):
    return repr((index, item)).encode()


def started(events):
    return next(event for event in events if isinstance(event, JobStarted))


def test_every_item_is_answered_and_tuples_are_not_unpacked(cluster):
    items = [(1, 2), (3,), "three", None, [4]] * 20
    events = run(echo, items, cluster.engine)
    assert answers(events) == {index: echo(index, item) for index, item in enumerate(items)}


def test_the_job_has_an_id_a_name_and_a_page_from_its_start(cluster):
    events = run_job(make_job(echo, [1]), cluster.engine)
    page = started(events)
    list(events)
    job = cluster.job(page.job_id)
    assert job["function_name"] == "a-test"
    assert job["status"] == "completed"
    assert urllib.request.urlopen(page.url).status == 200


def test_prints_of_workers_become_lines_that_name_their_item(cluster):
    def talk(index, item):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        return b""

    assert sorted(lines(run(talk, range(2), cluster.engine))) == [
        "[0] to stderr", "[0] to stdout", "[1] to stderr", "[1] to stdout"
    ]  # fmt: skip


def test_user_exceptions_of_every_kind_break_their_item_only(cluster):
    class Own(Exception):
        def __init__(self, needed):
            super().__init__("own trouble")
            self.lock = threading.Lock()

    def work(index, item):
        if item == "own":
            raise Own(1)
        if item == "exit":
            sys.exit(3)
        if item == "interrupt":
            raise KeyboardInterrupt
        return b"fine"

    events = run(work, ["own", "exit", "interrupt", "fine"], cluster.engine)
    assert answers(events) == {3: b"fine"}
    said = broken(events)
    assert "own trouble" in said[0]
    assert "SystemExit: 3" in said[1]
    assert "KeyboardInterrupt" in said[2]


def test_twenty_items_that_fail_at_once_are_all_told(cluster):
    def fail(index, item):
        raise ValueError(f"item {index}")

    events = run(fail, range(20), cluster.engine)
    assert sorted(broken(events)) == list(range(20))
    assert sum(isinstance(event, JobStarted) for event in events) == 1


def test_an_item_that_kills_its_worker_does_not_keep_the_rest_from_finishing(cluster):
    def die(index, item):
        if index == 1:
            os._exit(3)
        return b"done"

    events = run(die, range(6), cluster.engine)
    assert answers(events) == dict.fromkeys([0, 2, 3, 4, 5], b"done")
    assert "Its worker died 3 times" in broken(events)[1]


def test_workers_get_the_declared_requirements_and_no_others(cluster):
    def version(index, item):
        return importlib.metadata.version(item).encode()

    for wanted in ("1.1.1", "2.0.0"):
        pins = resolve_requirements([f"iniconfig=={wanted}"])
        events = list(run_job(make_job(version, ["iniconfig"], requirements=pins), cluster.engine))
        assert answers(events) == {0: wanted.encode()}
        assert cluster.get(f"/v1/jobs/{started(events).job_id}")["packages"] == pins


def test_a_later_job_does_not_see_the_modules_of_an_earlier_one(cluster, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def work(index, item):
        import shipped_helper

        return shipped_helper.NAME.encode()

    for name in ("first", "second"):
        (tmp_path / "shipped_helper.py").write_text(f"NAME = {name!r}\n")
        assert answers(run(work, [1], cluster.engine)) == {0: name.encode()}


def test_max_parallelism_is_kept(cluster):
    def who(index, item):
        return f"{os.uname().nodename}".encode()

    job = make_job(who, range(10), options=JobOptions(max_parallelism=1))
    assert len(set(answers(run_job(job, cluster.engine)).values())) == 1


def test_another_interpreter_without_airflow_can_be_the_client(cluster, other_python):
    events = run(echo, [(1, 2)], replace(cluster.engine, python=other_python))
    assert answers(events) == {0: b"(0, (1, 2))"}
    assert not [event for event in events if isinstance(event, ItemCrashed | OutputLine)]


def test_on_request_workers_get_what_the_client_interpreter_has(cluster, other_python):
    def has_aiohttp(index, item):
        return importlib.metadata.version("aiohttp").encode()

    job = make_job(has_aiohttp, [1], requirements=None)
    events = list(run_job(job, replace(cluster.engine, python=other_python)))
    assert list(answers(events)) == [0]
    packages = cluster.get(f"/v1/jobs/{started(events).job_id}")["packages"]
    assert "aiohttp" in packages
    assert "apache-airflow" not in packages


def test_without_a_host_the_login_that_burla_saved_is_used(cluster, tmp_path, monkeypatch):
    engine = cluster.engine
    (tmp_path / "burla").mkdir()
    login = {
        "email": engine.email, "auth_token": engine.token, "project_id": "local", "cluster_dashboard_url": engine.url
    }  # fmt: skip
    (tmp_path / "burla" / "burla_credentials.json").write_text(json.dumps(login))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("BURLA_CLUSTER_DASHBOARD_URL", raising=False)
    assert answers(run(echo, [1], Engine())) == {0: b"(0, 1)"}
