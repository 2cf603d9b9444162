"""Jobs that succeed on a real cluster."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import threading
import time
import urllib.request
from dataclasses import replace

import pytest

from burla_provider.jobs.job import Engine, ItemBegan, ItemCrashed, ItemSucceeded, JobOptions, JobStarted, OutputLine
from burla_provider.jobs.requirements import resolve_requirements
from burla_provider.jobs.runner import run_job
from tests.unit.jobs.running import attempts, crashed, lines, make_job, results, run


def echo(index, item):
    return repr((index, item)).encode()


def started(events):
    return next(event for event in events if isinstance(event, JobStarted))


def test_every_item_succeeds_and_tuples_are_not_unpacked(cluster):
    items = [(1, 2), (3,), "three", None, [4]] * 20
    events = run(echo, items, cluster.engine)
    assert results(events) == {index: echo(index, item) for index, item in enumerate(items)}


def test_a_started_job_has_an_id_a_name_and_a_page(cluster):
    events = run_job(make_job(echo, [1]), cluster.engine)
    page = started(events)
    list(events)
    job = cluster.job(page.job_id)
    assert job["function_name"] == "a-test"
    assert job["status"] == "completed"
    assert urllib.request.urlopen(page.url).status == 200


def test_output_lines_of_workers_begin_with_their_item(cluster):
    def print_lines(index, item):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        return b""

    assert sorted(lines(run(print_lines, range(2), cluster.engine))) == [
        "[0] to stderr", "[0] to stdout", "[1] to stderr", "[1] to stdout"
    ]  # fmt: skip


def test_exceptions_of_every_kind_fail_only_their_item(cluster):
    class CustomError(Exception):
        def __init__(self, needed):
            super().__init__("custom message")
            self.lock = threading.Lock()

    def work(index, item):
        if item == "custom":
            raise CustomError(1)
        if item == "exit":
            sys.exit(3)
        if item == "interrupt":
            raise KeyboardInterrupt
        return b"fine"

    events = run(work, ["custom", "exit", "interrupt", "fine"], cluster.engine)
    assert results(events) == {3: b"fine"}
    errors = crashed(events)
    assert "custom message" in errors[0]
    assert "SystemExit: 3" in errors[1]
    assert "KeyboardInterrupt" in errors[2]


def test_twenty_items_that_fail_at_once_are_all_reported(cluster):
    def fail(index, item):
        raise ValueError(f"item {index}")

    events = run(fail, range(20), cluster.engine)
    assert sorted(crashed(events)) == list(range(20))
    assert sum(isinstance(event, JobStarted) for event in events) == 1


def test_the_others_finish_if_an_item_kills_its_worker(cluster):
    def die(index, item):
        if index == 1:
            os._exit(3)
        return b"done"

    events = run(die, range(6), cluster.engine)
    assert results(events) == dict.fromkeys([0, 2, 3, 4, 5], b"done")
    assert "Its worker died 3 times" in crashed(events)[1]
    assert attempts(events) == {1: 3}


def test_workers_install_only_the_declared_requirements(cluster):
    def version(index, item):
        return importlib.metadata.version(item).encode()

    for wanted in ("1.1.1", "2.0.0"):
        pins = resolve_requirements([f"iniconfig=={wanted}"])
        events = list(run_job(make_job(version, ["iniconfig"], requirements=pins), cluster.engine))
        assert results(events) == {0: wanted.encode()}
        assert cluster.get(f"/v1/jobs/{started(events).job_id}")["packages"] == pins


def test_a_job_does_not_import_modules_of_an_earlier_job(cluster, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def work(index, item):
        import shipped_helper

        return shipped_helper.NAME.encode()

    for name in ("first", "second"):
        (tmp_path / "shipped_helper.py").write_text(f"NAME = {name!r}\n")
        assert results(run(work, [1], cluster.engine)) == {0: name.encode()}


def test_max_parallelism_is_respected(cluster):
    def node_name(index, item):
        return f"{os.uname().nodename}".encode()

    job = make_job(node_name, range(10), options=JobOptions(max_parallelism=1))
    assert len(set(results(run_job(job, cluster.engine)).values())) == 1


def test_another_interpreter_without_airflow_can_be_the_client(cluster, other_python):
    events = run(echo, [(1, 2)], replace(cluster.engine, python=other_python))
    assert results(events) == {0: b"(0, (1, 2))"}
    assert not [event for event in events if isinstance(event, ItemCrashed | OutputLine)]


def test_without_requirements_workers_install_the_packages_of_the_client(cluster, other_python):
    def has_aiohttp(index, item):
        return importlib.metadata.version("aiohttp").encode()

    job = make_job(has_aiohttp, [1], requirements=None)
    events = list(run_job(job, replace(cluster.engine, python=other_python)))
    assert list(results(events)) == [0]
    packages = cluster.get(f"/v1/jobs/{started(events).job_id}")["packages"]
    assert "aiohttp" in packages
    assert "apache-airflow" not in packages


def test_without_a_host_the_saved_login_is_used(cluster, tmp_path, monkeypatch):
    engine = cluster.engine
    (tmp_path / "burla").mkdir()
    login = {
        "email": engine.email, "auth_token": engine.token, "project_id": "local", "cluster_dashboard_url": engine.url
    }  # fmt: skip
    (tmp_path / "burla" / "burla_credentials.json").write_text(json.dumps(login))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("BURLA_CLUSTER_DASHBOARD_URL", raising=False)
    assert results(run(echo, [1], Engine())) == {0: b"(0, 1)"}


def hang_in_a_lock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def hang_with_pythons_lock():
    re.match(r"(a+)+$", "a" * 40 + "b")


@pytest.mark.parametrize("batched_for", [2, None], ids=["batches", "calls"])
@pytest.mark.parametrize("hang", [hang_in_a_lock, hang_with_pythons_lock])
def test_an_item_that_hangs_is_announced_within_seconds(cluster, hang, batched_for):
    def work(index, item):
        if index == 210:
            hang()
        return b""

    events = run_job(make_job(work, range(400), batched_for=batched_for), cluster.engine)
    started(events)
    deadline = time.monotonic() + 60  # the item never ends, so without an announcement there is none
    for event in events:
        if isinstance(event, ItemBegan) and event.index == 210:
            break
        assert time.monotonic() < deadline
    assert not isinstance(event, ItemSucceeded)
    assert re.fullmatch(r"\w+:\d+", event.worker)
    events.close()


def test_output_with_the_characters_of_messages_is_printed_and_none_is_lost(cluster):
    def work(index, item):
        print("[0] \x1fbegan nobody:1 \u2028 and\x1e\fon")
        print("10 %\r20 %\r")
        print("last")
        return b""

    events = run(work, [1], cluster.engine)
    assert lines(events) == ["[0] [0]  began nobody:1   and  on", "[0] 20 %", "[0] last"]
    assert [event.index for event in events if isinstance(event, ItemBegan)] == [0]
