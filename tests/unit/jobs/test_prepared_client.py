"""Client processes that start before their job is known."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from burla_provider.exceptions import BurlaNotInstalledError
from burla_provider.jobs.job import Engine, JobStarted
from burla_provider.jobs.runner import check_client, run_job, start_client
from tests.support.waiting import wait_for
from tests.unit.jobs.running import LOCAL, assert_group_ends, make_job, process_group, results, start_task

NOWHERE = Engine("burla", url="http://localhost:9", email="kit@example.com", token="a-token")


def loaded_before_the_call(index, item):
    return repr("psycopg" in sys.modules).encode()


def echo(index, item):
    return b"done"


def members_of(client):
    """Return the client and the process that forks its workers, once both run."""
    wait_for(lambda: len(process_group(client.pid)) == 2, 60)
    return process_group(client.pid)


def test_a_job_runs_in_the_client_that_was_started_before():
    client = start_client(LOCAL)
    events = list(run_job(make_job(os_group, [1]), LOCAL, client=client))
    assert results(events) == {0: str(client.pid).encode()}
    assert_group_ends(client.pid)


def os_group(index, item):
    return str(os.getpgid(0)).encode()


def test_each_client_runs_one_job():
    client = start_client(LOCAL)
    first, second = (list(run_job(make_job(os_group, [1]), LOCAL, client=client)) for _ in range(2))
    assert results(first) == {0: str(client.pid).encode()}
    assert results(first) != results(second)


def test_workers_start_with_the_modules_of_the_client():
    client = start_client(LOCAL, ["psycopg", "a_module_that_does_not_exist"])
    assert results(run_job(make_job(loaded_before_the_call, [1]), LOCAL, client=client)) == {0: b"True"}
    assert results(run_job(make_job(loaded_before_the_call, [1]), LOCAL)) == {0: b"False"}


def test_a_client_without_a_job_leaves_no_process():
    client = start_client(LOCAL)
    members_of(client)
    client.end()
    client.end()
    assert_group_ends(client.pid)


def test_a_client_can_be_ended_while_its_interpreter_starts():
    client = start_client(LOCAL)
    client.end()
    assert_group_ends(client.pid)


def test_a_client_that_died_before_its_job_is_replaced():
    client = start_client(LOCAL)
    members_of(client)
    os.kill(client.pid, signal.SIGKILL)
    check_client(client)
    assert results(run_job(make_job(echo, [1, 2]), LOCAL, client=client)) == {0: b"done", 1: b"done"}


def test_a_job_whose_workers_cannot_be_forked_any_more_runs_again():
    client = start_client(LOCAL)
    leader, server = sorted(members_of(client), key=lambda member: member.pid != client.pid)
    assert leader.pid == client.pid
    server.kill()
    events = list(run_job(make_job(echo, range(4)), LOCAL, client=client))
    assert results(events) == dict.fromkeys(range(4), b"done")
    assert sum(isinstance(event, JobStarted) for event in events) == 2


def test_a_failure_is_known_before_there_is_a_job(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
    bare.chmod(0o700)
    client = start_client(Engine("burla", python=str(bare)))
    try:
        wait_for(client.failure, 60)
        with pytest.raises(BurlaNotInstalledError, match="has no burla"):
            check_client(client)
        with pytest.raises(BurlaNotInstalledError, match="has no burla"):
            list(run_job(make_job(echo, [1]), Engine("burla"), client=client))
    finally:
        client.end()


TASK = """
    import time
    from burla_provider.jobs.job import Engine
    from burla_provider.jobs.runner import start_client

    client = start_client(Engine(**{engine!r}))
    print(client.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_a_task_that_was_killed_before_there_was_a_job(number):
    with start_task(TASK.format(engine={"name": "local"})) as task:
        leader = int(task.stdout.readline())
        wait_for(lambda: len(process_group(leader)) == 2, 60)
        members = process_group(leader)
        task.send_signal(number)
        _, alive = psutil.wait_procs(members, timeout=60)
        assert alive == []


def test_no_process_outlives_a_task_and_client_that_were_killed_together():
    with start_task(TASK.format(engine={"name": "local"})) as task:
        leader = int(task.stdout.readline())
        wait_for(lambda: len(process_group(leader)) == 2, 60)
        members = process_group(leader)
        task.kill()
        os.kill(leader, signal.SIGKILL)
        _, alive = psutil.wait_procs(members, timeout=60)
        assert alive == []


# Burla, without a cluster


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that lists the credentials files of clients."""
    pytest.importorskip("burla")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return lambda: list(tmp_path.glob("airflow-burla-*/burla/*"))


def test_the_credentials_of_a_client_without_a_job_are_deleted(credentials, tmp_path):
    client = start_client(NOWHERE)
    wait_for(credentials, 60)
    client.end()
    assert list(tmp_path.iterdir()) == []
    assert_group_ends(client.pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_credentials_are_deleted_if_the_task_is_killed_before_there_is_a_job(number, credentials, tmp_path):
    engine = {"name": "burla", "url": NOWHERE.url, "email": NOWHERE.email, "token": NOWHERE.token}
    with start_task(TASK.format(engine=engine)) as task:
        leader = int(task.stdout.readline())
        wait_for(credentials, 60)
        task.send_signal(number)
        assert_group_ends(leader)
    assert list(tmp_path.iterdir()) == []
