"""Every way a job can end badly, on a real cluster: nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from burla_provider.exceptions import (
    ClusterBusyError,
    ClusterUnauthorizedError,
    ClusterUnreachableError,
    InvalidParameterError,
    JobCanceledError,
)
from burla_provider.jobs.cluster_api import cancel_job
from burla_provider.jobs.job import ItemSucceeded, JobOptions, JobStarted, OutputLine
from burla_provider.jobs.runner import run_job
from tests.cluster.jobs.conftest import Cluster
from tests.unit.jobs.running import answers, client_of, group, make_job, run, start_task


def sleep_long(index, item):
    print("at work")
    time.sleep(600)


def started_job(cluster, **engine):
    """A job with workers in the middle of long calls, its id, and its process group."""
    events = run_job(make_job(sleep_long, range(4)), replace(cluster.engine, **engine))
    for event in events:
        if isinstance(event, JobStarted):
            job_id = event.job_id
        if isinstance(event, OutputLine):
            return events, job_id, client_of().pid
    raise AssertionError


def heartbeat_environ(leader):
    """What the client has set before it started Burla, as its child has inherited it."""
    (heartbeat,) = [process for process in group(leader) if process.pid != leader]
    return heartbeat.environ()


def private_config(leader):
    """The directory of the client's credentials."""
    return Path(heartbeat_environ(leader)["XDG_CONFIG_HOME"])


@pytest.mark.parametrize(("telemetry", "said"), [(False, "True"), (True, None)])
def test_burlas_telemetry_is_off_unless_the_connection_asks_for_it(cluster, monkeypatch, telemetry, said):
    monkeypatch.setenv("DISABLE_BURLA_TELEMETRY", "False")
    events, _, leader = started_job(cluster, telemetry=telemetry)
    assert heartbeat_environ(leader).get("DISABLE_BURLA_TELEMETRY") == said
    events.close()


def test_closing_the_job_cancels_it_and_frees_the_node(cluster):
    events, job_id, leader = started_job(cluster)
    config = private_config(leader)
    assert (config / "burla" / "burla_credentials.json").exists()
    events.close()
    assert group(leader) == []
    assert not config.exists()
    assert cluster.job(job_id)["status"] == "canceled"
    cluster.wait_until_free(10)


TASK = """
    import time
    from burla_provider.jobs.job import OutputLine, JobStarted
    from burla_provider.jobs.runner import run_job
    from tests.cluster.jobs.conftest import Cluster
    from tests.unit.jobs.running import client_of, make_job

    def work(index, item):
        print("at work")
        time.sleep(600)

    for event in run_job(make_job(work, range(4)), Cluster.engine):
        if isinstance(event, JobStarted):
            job_id = event.job_id
        if isinstance(event, OutputLine):
            print(client_of().pid, job_id, flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_task_is_the_end_of_the_job(cluster, number):
    with start_task(TASK) as task:
        leader, job_id = task.stdout.readline().split()
        members = group(int(leader))
        config = private_config(int(leader))
        task.send_signal(number)
        cluster.wait_until_free(10)
        _, alive = psutil.wait_procs(members, timeout=5)
    assert alive == []
    assert not config.exists()
    assert cluster.job(job_id)["status"] == "canceled"


def test_a_task_and_its_client_killed_together_leave_no_heartbeat(cluster):
    with start_task(TASK) as task:
        leader, _ = task.stdout.readline().split()
        members = group(int(leader))
        task.kill()
        os.kill(int(leader), signal.SIGKILL)
        _, alive = psutil.wait_procs(members, timeout=10)
        assert alive == []
        cluster.wait_until_free(30)


def test_a_killed_client_costs_only_what_was_not_answered_yet(cluster):
    def work(index, item):
        time.sleep(0.2)
        return b"done"

    events = []
    for event in run_job(make_job(work, range(20)), cluster.engine):
        events.append(event)
        if isinstance(event, ItemSucceeded) and len(answers(events)) == 2:
            client_of().kill()
    assert answers(events) == dict.fromkeys(range(20), b"done")
    assert sum(isinstance(event, JobStarted) for event in events) == 2


def test_a_job_that_somebody_cancels_says_so(cluster):
    events, job_id, leader = started_job(cluster)
    assert cancel_job(cluster.engine, job_id)
    with pytest.raises(JobCanceledError):
        list(events)
    assert group(leader) == []
    assert not cancel_job(cluster.engine, job_id)
    cluster.wait_until_free(10)


def test_a_busy_cluster_is_waited_for(cluster):
    first, _, _ = started_job(cluster)
    with start_task(WAITING) as second:
        assert "Waiting for a node" in second.stdout.readline()
        first.close()
        assert second.communicate(timeout=120)[0].strip().endswith("answered")


WAITING = """
    from burla_provider.jobs.job import ItemSucceeded, OutputLine
    from burla_provider.jobs.runner import run_job
    from tests.cluster.jobs.conftest import Cluster
    from tests.unit.jobs.running import make_job

    def work(index, item):
        return b"second"

    for event in run_job(make_job(work, [1]), Cluster.engine):
        if isinstance(event, OutputLine):
            print(event.text, flush=True)
        if isinstance(event, ItemSucceeded):
            print("answered")
"""


def test_a_cluster_that_stays_busy_is_given_up(cluster):
    events, _, _ = started_job(cluster)
    with start_task(WAITING.replace("Cluster.engine)", "Cluster.engine, queue_timeout=1)")) as second:
        said, _ = second.communicate(timeout=60)
    events.close()
    assert second.returncode == 1
    assert "answered" not in said


def test_that_a_cluster_is_busy_is_an_error_of_its_own(cluster):
    first, _, _ = started_job(cluster)
    second = run_job(make_job(sleep_long, [1]), cluster.engine, queue_timeout=0)
    with pytest.raises(ClusterBusyError, match="All nodes are busy"):
        list(second)
    first.close()


def test_a_job_that_still_waits_for_a_node_can_be_ended(cluster):
    first, _, _ = started_job(cluster)
    second = run_job(make_job(sleep_long, [1]), cluster.engine, queue_timeout=60)
    next(event for event in second if isinstance(event, OutputLine) and "Waiting for a node" in event.text)
    leaders = {child.pid for child in psutil.Process().children()}
    second.close()
    ended = leaders - {child.pid for child in psutil.Process().children()}
    assert [group(leader) for leader in ended] == [[]]
    first.close()


def test_two_users_at_once_do_not_disturb_each_other(cluster):
    def half_a_second(index, item):
        time.sleep(0.5)
        return b"done"

    users = ["one@example.com", "two@example.com"]
    jobs = [run_job(make_job(half_a_second, range(4)), replace(cluster.engine, email=user)) for user in users]
    seen: list[list] = [[], []]
    while len(answers(seen[0])) < 4 or len(answers(seen[1])) < 4:
        for events, job in zip(seen, jobs, strict=True):
            events.extend(event for event in [next(job, None)] if event is not None)
    for job in jobs:
        list(job)
    ids = [next(event.job_id for event in events if isinstance(event, JobStarted)) for events in seen]
    assert [cluster.job(job_id)["user"] for job_id in ids] == users


def test_a_wrong_token_is_told_and_not_shown(cluster):
    with pytest.raises(ClusterUnauthorizedError) as raised:
        run(sleep_long, [1], replace(cluster.engine, token="wrong-t0ken"))
    assert "wrong-t0ken" not in str(raised.value)
    cluster.wait_until_free(30)


def test_a_head_that_is_not_there_is_told():
    with pytest.raises(ClusterUnreachableError, match="No answer from http://localhost:9 "):
        run(sleep_long, [1], replace(Cluster.engine, url="http://localhost:9"))


@pytest.mark.parametrize(
    ("options", "parameter"), [(JobOptions(image="no-such:image"), "image"), (JobOptions(func_cpu=512), "func_cpu")]
)
def test_what_the_cluster_cannot_serve_names_the_parameter(cluster, options, parameter):
    with pytest.raises(InvalidParameterError) as raised:
        list(run_job(make_job(sleep_long, [1], options=options), cluster.engine))
    assert raised.value.parameter == parameter


def test_a_requirement_that_no_index_has_is_told(cluster):
    pins = {"zz-no-such-package": "zz-no-such-package==1.0"}
    with pytest.raises(InvalidParameterError, match="zz-no-such-package was not found") as raised:
        list(run_job(make_job(sleep_long, [1], requirements=pins), cluster.engine))
    assert raised.value.parameter == "requirements"
    cluster.wait_until_free(30)


def test_no_secret_is_in_any_command_line_or_environment(cluster):
    password = "work-secret"

    def work(index, item):
        print("at work")
        time.sleep(600)
        return password.encode()

    events = run_job(make_job(work, ["item-secret"]), replace(cluster.engine, project_id="p"))
    next(event for event in events if isinstance(event, OutputLine))
    leader = client_of().pid
    members = group(leader)
    seen = [Path(f"/proc/{member.pid}/{file}").read_bytes() for member in members for file in ("cmdline", "environ")]
    mode = (private_config(leader) / "burla" / "burla_credentials.json").stat().st_mode & 0o777
    events.close()
    assert len(members) == 2
    assert [text for text in seen if b"secret" in text or cluster.engine.token.encode() in text] == []
    assert mode == 0o600
